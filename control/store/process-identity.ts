/**
 * Which process did something, so that another process of the machine can tell later whether it
 * still runs: a pid alone is given away again.
 */
import { readFileSync, readlinkSync } from 'node:fs'

export interface ProcessIdentity {
  readonly pid: number
  /** Start time in clock ticks since boot (proc_pid_stat(5), field 22). */
  readonly start: string
  /** Changes with every boot (/proc/sys/kernel/random/boot_id). */
  readonly boot: string
  /** The pid namespace in which `pid` counts. */
  readonly pidns: string
}

/** This process. */
export function ownIdentity(): ProcessIdentity {
  return {
    pid: process.pid,
    start: startOf(process.pid) ?? '',
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pidns: readlinkSync('/proc/self/ns/pid'),
  }
}

/** @returns whether the process runs; null when it counts its pids elsewhere, so nobody here knows */
export function isRunning(other: ProcessIdentity, own: ProcessIdentity): boolean | null {
  if (other.boot !== own.boot) return false
  if (other.pidns !== own.pidns) return null
  return startOf(other.pid) === other.start
}

/** Start time of a process, null when there is none or only its zombie is left. */
function startOf(pid: number): string | null {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return null
  }
  // The second field is the program's name in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[0] ?? 'X'
  return 'ZXx'.includes(state) ? null : (fields[19] ?? null)
}
