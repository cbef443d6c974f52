/**
 * `npm run bench:compare`: two runs side by side, or two commits in one run.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder, resultsFolder } from '../lib/package.js'
import { compareContenders, compareRuns, renderComparison } from '../report/compare.js'
import { writeRecord } from '../report/write.js'
import { type Build, buildCommit } from './commits.js'
import { createHeddle } from './contenders/heddle.js'
import { parseRun } from './result.js'
import { runAll } from './run.js'
import { FULL, QUICK } from './turn.js'

const USAGE = `usage: npm run bench:compare -- BEFORE.json AFTER.json
       npm run bench:compare -- --commits BEFORE AFTER [--rounds N] [--quick] [--lock FILE]

  --commits    the arguments are commits: builds both and lets them take turns in one run
  --rounds N   rounds of such a run, default 5
  --quick      short turns
  --lock FILE  hold flock(1) on this file during each turn
`

interface CompareOptions {
  readonly before: string
  readonly after: string
  readonly areCommits: boolean
  readonly rounds: number
  readonly isQuick: boolean
  readonly lock: string | null
}

/** @returns null when the command line is wrong */
function parse(argv: readonly string[]): CompareOptions | null {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        commits: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '5' },
        quick: { type: 'boolean', default: false },
        lock: { type: 'string' },
      },
    })
    const [before, after, ...more] = positionals
    const rounds = Number(values.rounds)
    if (before === undefined || after === undefined || more.length > 0) return null
    if (!Number.isInteger(rounds) || rounds < 1) return null
    const { commits: areCommits, quick: isQuick, lock = null } = values
    return { before, after, areCommits, rounds, isQuick, lock }
  } catch {
    return null
  }
}

/** @returns exit code: 0 whatever the figures say, 1 = a turn failed, 2 = wrong arguments */
export async function compare(argv: readonly string[]): Promise<number> {
  const options = parse(argv)
  if (options === null) {
    process.stderr.write(USAGE)
    return 2
  }
  if (options.areCommits) return compareCommits(options)
  const [before, after] = [options.before, options.after].map((file) =>
    parseRun(readFileSync(file, 'utf8')),
  )
  if (before === undefined || after === undefined) throw new Error('two files make two runs')
  process.stdout.write(renderComparison(compareRuns(before, after)))
  return 0
}

async function compareCommits(options: CompareOptions): Promise<number> {
  const { before, after, rounds, isQuick, lock } = options
  const log = (line: string): void => void process.stderr.write(`${line}\n`)
  const builds: Build[] = []
  const tidy = (): void => {
    for (const build of builds.splice(0)) build.remove()
  }
  const interrupted = (): never => process.exit(130)
  process.once('exit', tidy)
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  try {
    for (const commit of [before, after]) {
      log(`building ${commit}`)
      builds.push(buildCommit(commit, packageFolder()))
    }
    const contenders = builds.map(({ variant }) => createHeddle(variant))
    const run = await runAll(contenders, {
      rounds,
      durations: isQuick ? QUICK : FULL,
      lock,
      commit: null,
      missing: [],
      log,
    })
    const file = join(resultsFolder(), 'commits.json')
    await writeRecord(run, file)
    log(`record: ${file}`)
    const [a = '', b = ''] = contenders.map(({ name }) => name)
    process.stdout.write(renderComparison(compareContenders(run, a, b)))
    return run.faults.length === 0 ? 0 : 1
  } finally {
    tidy()
    process.off('exit', tidy)
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
  }
}
