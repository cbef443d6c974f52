/**
 * What is measured between the two hosts while one contender runs: throughput, packets per second,
 * round trips, CPU and memory.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Netns } from '../../control/lab/netns.js'
import type { ManagedProcess } from '../../control/lab/process.js'

const BLAST = fileURLToPath(new URL('./blast.js', import.meta.url))
const PORT = 5201
const BLAST_PORT = 5301

/** Throughput and what it cost. */
export interface Throughput {
  readonly gbitPerSecond: number
  /** CPU seconds of the whole machine per gigabyte received. */
  readonly cpuSecondsPerGb: number
  readonly retransmits: number
}

/** TCP between two places, by iperf3. @param isReverse  the far end sends */
export async function tcp(
  from: Netns,
  to: Netns,
  address: string,
  seconds: number,
  flows: number,
  isReverse = false,
): Promise<Throughput> {
  const server = await to.spawn('iperf3', ['-s', '-1', '--forceflush', '-p', String(PORT)])
  try {
    await server.waitFor(/listening/)
    const before = busySeconds()
    const args = [
      '-c',
      address,
      '-p',
      String(PORT),
      '-t',
      String(seconds),
      '-J',
      '-P',
      String(flows),
    ]
    const result = await from.run('iperf3', isReverse ? [...args, '-R'] : args, {
      timeoutMs: (seconds + 20) * 1000,
    })
    const busy = busySeconds() - before
    const report = JSON.parse(result.stdout) as {
      error?: string
      end: {
        sum_received: { bytes: number; bits_per_second: number }
        sum_sent: { retransmits?: number }
      }
    }
    if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`)
    const { bytes, bits_per_second: bits } = report.end.sum_received
    return {
      gbitPerSecond: bits / 1e9,
      cpuSecondsPerGb: busy / (bytes / 1e9),
      retransmits: report.end.sum_sent.retransmits ?? 0,
    }
  } finally {
    await server.stop()
  }
}

/** Datagrams of a size that arrive per second while the sender sends what it can. */
export async function packets(
  from: Netns,
  to: Netns,
  address: string,
  bytes: number,
  seconds: number,
  isGso: boolean,
): Promise<{ receivedPerSecond: number; sentPerSecond: number }> {
  const counter = await to.spawn(process.execPath, [
    BLAST,
    'count',
    address,
    String(BLAST_PORT),
    String(seconds),
  ])
  try {
    await counter.waitFor(/ready/)
    const sender = await from.run(
      process.execPath,
      [
        BLAST,
        'send',
        address,
        String(BLAST_PORT),
        String(bytes),
        String(seconds),
        isGso ? 'gso' : '',
      ],
      { timeoutMs: (seconds + 20) * 1000 },
    )
    await counter.exited
    const sent = JSON.parse(sender.stdout) as { packets: number }
    const got = JSON.parse(counter.stdout().split('\n')[1] ?? '{}') as { packets: number }
    return { receivedPerSecond: got.packets / seconds, sentPerSecond: sent.packets / seconds }
  } finally {
    await counter.stop()
  }
}

/** Round trips of one ping after the other, microseconds. */
export async function roundTrips(
  from: Netns,
  address: string,
  count: number,
): Promise<{ p50: number; p99: number; p999: number }> {
  const result = await from.run('ping', ['-i', '0.002', '-c', String(count), address], {
    timeoutMs: 60_000,
  })
  const times = [...result.stdout.matchAll(/time=([\d.]+) ms/g)]
    .map(([, ms]) => Number(ms) * 1000)
    .sort((a, b) => a - b)
  if (times.length < count * 0.9) throw new Error(`only ${String(times.length)} pings came back`)
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}

/** Resident memory of each process, bytes. */
export function resident(processes: readonly ManagedProcess[]): number[] {
  return processes.map(({ pid }) => {
    const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024
  })
}

/** CPU seconds that the machine has spent on work since it started. */
function busySeconds(): number {
  const [, ...fields] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/)
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = fields.map(Number)
  return (user + nice + system + irq + softirq) / 100
}
