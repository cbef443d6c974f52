/**
 * What is measured between two places while one contender runs: throughput, packets per second,
 * round trips, CPU and memory. Each function runs its programs to their end and judges nothing.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Netns } from '../../control/lab/netns.js'
import type { ManagedProcess } from '../../control/lab/process.js'
import { percentile } from '../lib/statistics.js'
import type { Exchange } from './exchange.js'
import { readCpuTime } from './machine.js'

const tool = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url))
const IPERF_PORT = '5201'
const BLAST_PORT = '5301'
const EXCHANGE_PORT = '5302'
/** Payload of the small datagrams, bytes. */
const SMALL = '64'
/** Share of requests or pings that may go unanswered. */
const LOSS = 0.01
/** Ticks a second in /proc/stat (USER_HZ, the same on every Linux that Node runs on). */
const TICKS = 100

/** From which place to which, and the address to call there. */
export interface Way {
  readonly from: Netns
  readonly to: Netns
  readonly address: string
}

/** Throughput and what it cost. */
export interface Throughput {
  readonly bytes: number
  readonly gbitPerSecond: number
  /** CPU seconds of the whole machine per gigabyte received. */
  readonly cpuSecondsPerGb: number
}

/** What of iperf3's report is read. */
interface IperfReport {
  readonly error?: string
  readonly end: { readonly sum_received: { bytes: number; bits_per_second: number } }
}

/** TCP by iperf3. @param isReverse  the far end sends */
export async function tcp(
  { from, to, address }: Way,
  seconds: number,
  flows: number,
  isReverse = false,
): Promise<Throughput> {
  const server = await to.spawn('iperf3', ['-s', '-1', '--forceflush', '-p', IPERF_PORT])
  try {
    await server.waitFor(/listening/)
    const load = ['-t', String(seconds), '-P', String(flows), ...(isReverse ? ['-R'] : [])]
    const before = busySeconds()
    const { stdout } = await from.run('iperf3', ['-c', address, '-p', IPERF_PORT, '-J', ...load], {
      timeoutMs: (seconds + 20) * 1000,
    })
    const busy = busySeconds() - before
    const report = JSON.parse(stdout) as IperfReport
    if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`)
    const { bytes, bits_per_second: bits } = report.end.sum_received
    return { bytes, gbitPerSecond: bits / 1e9, cpuSecondsPerGb: busy / (bytes / 1e9) }
  } finally {
    await server.stop()
  }
}

/**
 * Small datagrams that arrive per second while the sender sends what it can.
 * @param isGso  the sender hands over 64 at a time (UDP_SEGMENT)
 */
export async function smallPackets(
  { from, to, address }: Way,
  seconds: number,
  isGso: boolean,
): Promise<number> {
  const blast = [tool('blast')]
  const where = [address, BLAST_PORT]
  const counter = await to.spawn(process.execPath, [...blast, 'count', ...where, String(seconds)])
  try {
    await counter.waitFor(/ready/)
    const how = [SMALL, String(seconds), isGso ? 'gso' : '']
    const sender = await from.run(process.execPath, [...blast, 'send', ...where, ...how], {
      timeoutMs: (seconds + 20) * 1000,
    })
    if (sender.code !== 0) throw new Error(`blast: ${sender.stderr}`)
    await counter.exited
    const got = lastLine(counter.stdout()) as { packets: number; seconds: number }
    // What waits in queues when the sender stops still arrives: the time it takes counts, too.
    return got.packets / Math.max(got.seconds, seconds)
  } finally {
    await counter.stop()
  }
}

/** Round trips of small datagrams, one after the other without a pause. */
export async function exchange({ from, to, address }: Way, seconds: number): Promise<Exchange> {
  const where = [address, EXCHANGE_PORT]
  const server = await to.spawn(process.execPath, [tool('exchange'), 'answer', ...where])
  try {
    await server.waitFor(/ready/)
    const args = [tool('exchange'), 'ask', ...where, SMALL, String(seconds)]
    const asker = await from.run(process.execPath, args, { timeoutMs: (seconds + 20) * 1000 })
    if (asker.code !== 0) throw new Error(`exchange: ${asker.stderr}`)
    const got = lastLine(asker.stdout) as Exchange
    if (got.lost > got.count * LOSS) throw new Error(`${String(got.lost)} requests without answer`)
    return got
  } finally {
    server.kill('SIGKILL')
    await server.exited
  }
}

/** Round trips of pings with 2 ms of silence before each, microseconds. */
export async function pings(
  { from, address }: Way,
  count: number,
): Promise<{ p50: number; p99: number }> {
  const { stdout } = await from.run('ping', ['-i', '0.002', '-c', String(count), address], {
    timeoutMs: 60_000,
  })
  const times = [...stdout.matchAll(/time=([\d.]+) ms/g)]
    .map(([, ms]) => Number(ms) * 1000)
    .sort((a, b) => a - b)
  if (times.length < count * (1 - LOSS)) {
    throw new Error(`of ${String(count)} pings ${String(times.length)} came back`)
  }
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) }
}

/** Resident memory of the largest process, bytes. */
export function resident(processes: readonly ManagedProcess[]): number {
  const sizes = processes.map(({ pid }) => {
    const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? NaN) * 1024
  })
  return Math.max(...sizes)
}

/** CPU seconds that the machine has spent on work since it started. */
function busySeconds(): number {
  return readCpuTime().busy / TICKS
}

function lastLine(text: string): unknown {
  return JSON.parse(text.trim().split('\n').at(-1) ?? '')
}
