/**
 * Processor time of a running daemon.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ManagedProcess } from '../lab/process.js'

/** Share of one core that a daemon without traffic may use; a loop that never rests uses all of it. */
export const RESTING = 0.25

const SECONDS = 2

/**
 * The smallest share of a core that a process used in any of several spans of two seconds. A loop that never
 * rests is busy in each of them; a slow machine that still settles after a change is so in the first ones only.
 */
export async function restingShare(daemon: ManagedProcess): Promise<number> {
  let least = Infinity
  for (let span = 0; span < 8 && least >= RESTING; span++)
    least = Math.min(least, await busyShare(daemon))
  return least
}

async function busyShare(daemon: ManagedProcess): Promise<number> {
  const before = processorSeconds(daemon.pid)
  const start = performance.now()
  await sleep(SECONDS * 1000)
  return (processorSeconds(daemon.pid) - before) / ((performance.now() - start) / 1000)
}

/** proc(5) stat, fields 14 and 15 (utime, stime), in ticks of 1/100 s. */
function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}
