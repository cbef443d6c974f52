/**
 * The test run: lint, format, then every compiled test through tap, two files at a time.
 *
 * A test file runs alone when it works in network namespaces (it imports control/lab) or says
 * `@serial` in its opening comment: traffic and timing there must not compete with other tests. One
 * that says `@parallel` there has time to spare, and shares the machine with another.
 * The last line printed is `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { filesBelow } from '../prepare/build.mjs'
import { ROOT, runQuietly } from '../prepare/step.mjs'
import { TapReport } from './report.mjs'

const CHECKS = [
  { name: 'lint', tool: 'node_modules/eslint/bin/eslint.js', args: ['.'] },
  {
    name: 'format',
    tool: 'node_modules/prettier/bin/prettier.cjs',
    args: ['--check', '--cache', '.'],
  },
]

export function compiledName(source) {
  return `dist/${source.replace(/\.ts$/, '.js')}`
}

function isSerial(source) {
  const text = readFileSync(join(ROOT, source), 'utf8')
  const opening = /^\/\*\*.*?\*\//s.exec(text)?.[0] ?? ''
  const usesLab = source.startsWith('control/lab/') || /from '[^']*\/lab\//.test(text)
  return opening.includes('@serial') || (usesLab && !opening.includes('@parallel'))
}

async function runChecks(report) {
  await Promise.all(
    CHECKS.map(async ({ name, tool, args }) => {
      const start = performance.now()
      const { code, output } = await runQuietly(process.execPath, [tool, ...args])
      report.check(name, code === 0, output, (performance.now() - start) / 1000)
    }),
  )
}

/** Runs the tests of some source files. @returns exit code or signal of tap */
export function runTap(sources, report) {
  const bin = JSON.parse(readFileSync(join(ROOT, 'node_modules/tap/package.json'), 'utf8')).bin.tap
  const serial = sources.filter(isSerial).map((source) => `--serial=${compiledName(source)}`)
  const args = ['run', '--reporter=tap', '--jobs=2', ...serial, ...sources.map(compiledName)]
  const child = spawn(process.execPath, [join(ROOT, 'node_modules/tap', bin), ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill(signal))
  child.stdout.pipe(report.parser)
  return new Promise((resolve) => {
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
}

/**
 * @param wanted  parts of test file names; none = all tests, lint and format too
 * @returns       exit code
 */
export async function runTests(wanted) {
  const all = filesBelow(ROOT, ['dataplane', 'control', 'bench'], /\.test\.ts$/)
  const chosen =
    wanted.length === 0 ? all : all.filter((file) => wanted.some((part) => file.includes(part)))
  const report = new TapReport(chosen.map(compiledName))
  if (wanted.length === 0) await runChecks(report)
  const missing = chosen.filter((source) => !existsSync(join(ROOT, compiledName(source))))
  for (const source of missing) report.fail(source, 'was not compiled')
  const present = chosen.filter((source) => !missing.includes(source))
  if (present.length === 0)
    report.fail(
      'tests',
      `there is no test file${wanted.length === 0 ? '' : ` named like ${wanted.join(', ')}`}`,
    )
  else report.ended(await runTap(present, report))
  return report.summary() ? 0 : 1
}
