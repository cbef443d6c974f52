/**
 * `npm run bench`: Heddle beside its contenders, each alone on the machine, in interleaved rounds.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder, resultsFolder } from '../lib/package.js'
import { renderReport } from '../report/markdown.js'
import { writeDocs, writeRecord } from '../report/write.js'
import { quickly, type Contender } from './contender.js'
import { createContenders } from './contenders/all.js'
import { describeCommit } from './machine.js'
import { hasProgram } from './programs.js'
import { type Run, parseRun } from './result.js'
import { runAll } from './run.js'
import { FULL, QUICK } from './turn.js'

const USAGE = `usage: npm run bench -- [options]

  --quick        one short round of the main figures, a minute and a half; leaves docs/ alone
  --rounds N     rounds, default 3, with --quick 1
  --only NAMES   contenders, separated by semicolons; leaves docs/ alone
  --flags LINE   measure Heddle with these flags as well; may be repeated; leaves docs/ alone
  --json FILE    where the record goes as well
  --from FILE    measure nothing: write the report of this record into docs/
  --lock FILE    hold flock(1) on this file during each contender's turn
`

/**
 * @param argv         what follows the command
 * @param unavailable  why programs could not be installed, by program
 * @returns            exit code
 */
export async function bench(
  argv: readonly string[],
  unavailable: ReadonlyMap<string, string>,
): Promise<number> {
  const options = parse(argv)
  if (options === null) {
    process.stderr.write(USAGE)
    return 2
  }
  if (options.from !== null) {
    await publish(parseRun(readFileSync(options.from, 'utf8')))
    return 0
  }
  const usual = createContenders(options.flags)
  const all = options.isQuick ? quickly(usual) : usual
  const unknown = options.only.filter((name) => !all.some((c) => c.name === name))
  if (unknown.length > 0) {
    const names = all.map(({ name }) => name).join('; ')
    process.stderr.write(`no contender ${unknown.join(', ')}; there are: ${names}\n`)
    return 2
  }
  const wanted = all.filter(({ name }) => options.only.length === 0 || options.only.includes(name))
  const missing = findMissing(wanted, unavailable)
  const able = wanted.filter(({ name }) => missing.every((m) => m.name !== name))
  for (const { name, reason } of missing) process.stderr.write(`${name} is missing: ${reason}\n`)
  const run = await runAll(able, {
    rounds: options.rounds,
    durations: options.isQuick ? QUICK : FULL,
    lock: options.lock,
    commit: describeCommit(packageFolder()),
    missing,
    log: (line) => process.stderr.write(`${line}\n`),
  })
  await report(run, options)
  return run.faults.length === 0 ? 0 : 1
}

interface BenchOptions {
  readonly isQuick: boolean
  readonly rounds: number
  readonly only: readonly string[]
  readonly flags: readonly string[]
  readonly json: string | null
  readonly from: string | null
  readonly lock: string | null
}

/** @returns null when the command line is wrong */
function parse(argv: readonly string[]): BenchOptions | null {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        only: { type: 'string', default: '' },
        flags: { type: 'string', multiple: true, default: [] },
        json: { type: 'string' },
        from: { type: 'string' },
        lock: { type: 'string' },
      },
    })
    const rounds = Number(values.rounds ?? (values.quick ? 1 : 3))
    if (!Number.isInteger(rounds) || rounds < 1) return null
    return {
      isQuick: values.quick,
      rounds,
      only: values.only
        .split(';')
        .map((name) => name.trim())
        .filter(Boolean),
      flags: values.flags,
      json: values.json ?? null,
      from: values.from ?? null,
      lock: values.lock ?? null,
    }
  } catch {
    return null
  }
}

/** Contenders that lack a program, each with the reason. */
export function findMissing(
  contenders: readonly Contender[],
  unavailable: ReadonlyMap<string, string>,
): Run['missing'] {
  return contenders.flatMap(({ name, needs }) => {
    const lacking = needs.find((program) => !hasProgram(program))
    if (lacking === undefined) return []
    return [{ name, reason: unavailable.get(lacking) ?? `${lacking} is not installed` }]
  })
}

/** The report on the terminal; a complete run also goes to docs/. */
async function report(run: Run, { isQuick, only, flags, json }: BenchOptions): Promise<void> {
  process.stdout.write(renderReport(run, []))
  if (json !== null) await writeRecord(run, json)
  if (isQuick || only.length > 0 || flags.length > 0) {
    const file = join(resultsFolder(), 'netns.json')
    await writeRecord(run, file)
    process.stderr.write(`record: ${file}\n`)
    return
  }
  await publish(run)
}

async function publish(run: Run): Promise<void> {
  const written = await writeDocs(run, join(packageFolder(), 'docs'))
  process.stderr.write(`written: ${written.join(', ')}\n`)
}
