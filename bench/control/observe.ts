/**
 * A daemon seen from outside: when a lease was where packets find it, memory, processor time.
 */
import { readFileSync } from 'node:fs'
import type { ManagedProcess } from '../../control/lab/process.js'

/** That a lease's address is where packets find it: when, epoch ms, and which. */
export interface Applied {
  readonly at: number
  readonly address: string
}

/** Local time as year, month, day, hour, minute, second, microseconds. */
function epochMs(parts: readonly number[]): number {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, micros = 0] = parts
  return new Date(year, month - 1, day, hour, minute, second).getTime() + micros / 1000
}

/** In user space: the daemon's log, which it writes behind the table. Source: klog's header, `Lmmdd hh:mm:ss.uuuuuu` */
export function appliedByLog(daemon: ManagedProcess): Applied[] {
  const year = new Date().getFullYear()
  const pattern =
    /^I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) .*?\] Subnet added: \S+ via (\S+)$/gm
  return [...daemon.stderr().matchAll(pattern)].map((match) => ({
    at: epochMs([year, ...match.slice(1, 7).map(Number)]),
    address: match[7] ?? '',
  }))
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')

/** In the kernel: what it tells of forwarding entries (bridge(8), `-timestamp monitor fdb`), two lines each. */
export function appliedByKernel(monitor: ManagedProcess): Applied[] {
  const pattern =
    /^Timestamp: \w+ (\w+) +(\d+) (\d\d):(\d\d):(\d\d) (\d+) (\d+) usec\n(?!Deleted).* dst (\S+) .*permanent/gm
  return [...monitor.stdout().matchAll(pattern)].map((match) => {
    const [day = 0, hour = 0, minute = 0, second = 0, year = 0, micros = 0] = match
      .slice(2, 8)
      .map(Number)
    const month = MONTHS.indexOf(match[1] ?? '') + 1
    return {
      at: epochMs([year, month, day, hour, minute, second, micros]),
      address: match[8] ?? '',
    }
  })
}

/** When a daemon said that it is ready; undefined = not yet. */
export function readyAt(daemon: ManagedProcess): number | undefined {
  const match = /^I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) .*?\] flannel is ready$/m.exec(
    daemon.stderr(),
  )
  if (match === null) return undefined
  return epochMs([new Date().getFullYear(), ...match.slice(1, 7).map(Number)])
}

export function residentMb(daemon: ManagedProcess): number {
  const status = readFileSync(`/proc/${String(daemon.pid)}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}

/** Processor time so far, seconds: proc(5) stat, fields 14 and 15, in ticks of 1/100 s. */
function busySeconds(daemon: ManagedProcess): number {
  const stat = readFileSync(`/proc/${String(daemon.pid)}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export async function shareDuring<T>(
  daemon: ManagedProcess,
  work: () => Promise<T>,
): Promise<[T, number]> {
  const [busy, start] = [busySeconds(daemon), performance.now()]
  const result = await work()
  return [result, (busySeconds(daemon) - busy) / ((performance.now() - start) / 1000)]
}
