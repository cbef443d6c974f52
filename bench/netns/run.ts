/**
 * A whole run: every round gives every contender its turn, in an order that rotates, so that a slow
 * minute of the machine hits all of them. A turn that fails is recorded and the run goes on.
 */
import { createBed } from './bed.js'
import type { Contender } from './contender.js'
import { takeLock } from './lock.js'
import { describeMachine, measureEmptyRead, readCongestionControl, readCpuTime } from './machine.js'
import { MEASUREMENTS } from './measurements.js'
import { type ContenderRecord, RUN_FORMAT, type Run } from './result.js'
import { type Durations, takeTurn } from './turn.js'

export interface RunOptions {
  readonly rounds: number
  readonly durations: Durations
  /** File to hold a lock on during each turn; null = none. */
  readonly lock: string | null
  readonly commit: string | null
  readonly missing: Run['missing']
  /** Takes lines about the progress. */
  readonly log: (line: string) => void
}

/** @param contenders  at least one; ratios put the first above the line */
export async function runAll(contenders: readonly Contender[], options: RunOptions): Promise<Run> {
  const { rounds, durations, log } = options
  const records = new Map<Contender, ContenderRecord>()
  for (const contender of contenders) {
    const { name, note, mtu } = contender
    const version = await contender.version()
    records.set(contender, { name, note, version, mtu, samples: {} })
  }
  const faults: Run['faults'] = []
  const taken = new Date().toISOString()
  const before = readCpuTime()
  const { bed, lab } = await createBed()
  try {
    for (let round = 0; round < rounds; round++) {
      log(`round ${String(round + 1)} of ${String(rounds)}`)
      for (const [contender, record] of rotate([...records], round)) {
        const giveBack = options.lock === null ? null : await takeLock(options.lock)
        const start = performance.now()
        try {
          await takeTurn(bed, contender, durations, (key, value) => {
            record.samples[key] ??= new Array<number | null>(rounds).fill(null)
            record.samples[key][round] = value
            log(`  ${record.name}: ${titleOf(key)} ${value.toPrecision(4)} ${unitOf(key)}`)
          })
        } catch (fault) {
          const reason = fault instanceof Error ? fault.message : String(fault)
          faults.push({ name: record.name, round: round + 1, reason })
          log(`  ${record.name}: FAILED: ${reason}`)
        } finally {
          await giveBack?.()
          log(`  ${record.name}: ${((performance.now() - start) / 1000).toFixed(1)} s`)
        }
      }
    }
  } finally {
    await lab.close()
  }
  const after = readCpuTime()
  return {
    format: RUN_FORMAT,
    taken,
    commit: options.commit,
    machine: describeMachine(),
    congestion: readCongestionControl(),
    emptyReadNs: measureEmptyRead(),
    stolen: (after.stolen - before.stolen) / (after.all - before.all),
    rounds,
    durations: { ...durations },
    base: contenders[0]?.name ?? '',
    contenders: [...records.values()],
    missing: options.missing,
    faults,
  }
}

/** The list from its nth element on, then the rest. */
function rotate<T>(list: readonly T[], n: number): T[] {
  const start = n % list.length
  return [...list.slice(start), ...list.slice(0, start)]
}

const titleOf = (key: string): string => MEASUREMENTS.find((m) => m.key === key)?.title ?? key
const unitOf = (key: string): string => MEASUREMENTS.find((m) => m.key === key)?.unit ?? ''
