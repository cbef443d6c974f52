/**
 * One contender's turn in a round: brought up, measured, taken down. Nothing of any other
 * contender runs meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ManagedProcess } from '../../control/lab/process.js'
import { bytesSent, setPodMtu, setUnderlayOffloads } from './bed.js'
import { type Bed, type Contender, type Running, stopAll, until } from './contender.js'
import * as measure from './measure.js'
import type { Way } from './measure.js'

/** How long everything takes. */
export interface Durations {
  /** Uncounted traffic of the same kind before each figure of throughput or round trips; a whole number. */
  readonly warmUpSeconds: number
  /** TCP runs; a whole number, as iperf3 wants it. */
  readonly tcpSeconds: number
  readonly packetSeconds: number
  readonly exchangeSeconds: number
  readonly pings: number
}

export const FULL: Durations = {
  warmUpSeconds: 1,
  tcpSeconds: 2,
  packetSeconds: 1.5,
  exchangeSeconds: 1.5,
  pings: 1500,
}
export const QUICK: Durations = {
  warmUpSeconds: 1,
  tcpSeconds: 1,
  packetSeconds: 0.4,
  exchangeSeconds: 0.4,
  pings: 200,
}

/** Takes one figure, under its key of MEASUREMENTS. */
export type Note = (key: string, value: number) => void

/** From the last traffic until memory is looked at. */
const REST_MS = 3000
/** Share of the payload that must have passed the contender's own device. */
const OWN_SHARE = 0.95

/** Runs all parts of a contender. @throws when it does not come up, or measures something else */
export async function takeTurn(
  bed: Bed,
  contender: Contender,
  durations: Durations,
  note: Note,
): Promise<void> {
  const parts = contender.parts.filter((part) => part !== 'plain-link')
  await withContender(bed, contender, (running) =>
    measureParts(bed, { ...contender, parts }, running, durations, note),
  )
  if (!contender.parts.includes('plain-link')) return
  await setUnderlayOffloads(bed, false)
  try {
    // Started anew: a daemon finds out at its start what the link can do.
    await withContender(bed, contender, async (running) => {
      const way = hostWay(bed, running)
      await measure.tcp(way, durations.warmUpSeconds, 1)
      note('tcp1-plain', (await measure.tcp(way, durations.tcpSeconds, 1)).gbitPerSecond)
    })
  } finally {
    await setUnderlayOffloads(bed, true)
  }
}

function hostWay({ hosts: [a, b] }: Bed, { addresses }: Running): Way {
  return { from: a.place, to: b.place, address: addresses[1] }
}

function podWay({ hosts: [a, b] }: Bed): Way {
  return { from: a.pod, to: b.pod, address: b.podAddress }
}

async function withContender(
  bed: Bed,
  contender: Contender,
  work: (running: Running) => Promise<void>,
): Promise<void> {
  await setPodMtu(bed, contender.mtu)
  const running = await bringUp(bed, contender)
  try {
    await work(running)
    assertAlive(running.daemons)
  } catch (fault) {
    // A daemon that has died explains more than what went wrong without it.
    assertAlive(running.daemons)
    throw fault
  } finally {
    await running.stop()
  }
}

/** Starts a contender and waits until traffic passes. @throws when it does not; nothing is left running then */
async function bringUp(bed: Bed, contender: Contender): Promise<Running> {
  const processes = (): ManagedProcess[] => bed.hosts.flatMap(({ place }) => place.processes)
  const before = new Set(processes())
  try {
    const running = await contender.start(bed)
    for (const { from, address } of [hostWay(bed, running), podWay(bed)]) {
      await until(`${contender.name} answers at ${address}`, async () => {
        const { code } = await from.run('ping', ['-c', '1', '-W', '1', address])
        return code === 0
      })
    }
    return running
  } catch (fault) {
    const started = processes().filter((child) => !before.has(child))
    const dead = started.filter((child) => !child.running)
    await stopAll(started)
    assertAlive(dead)
    throw fault
  }
}

/** @throws when one has ended, with the last thing it said */
function assertAlive(daemons: readonly ManagedProcess[]): void {
  const dead = daemons.find((child) => !child.running)
  if (dead === undefined) return
  const { code, signal } = dead.status ?? { code: null, signal: null }
  const said = dead.stderr().trim().split('\n').at(-1) ?? ''
  throw new Error(`a daemon ended with ${String(signal ?? code)}: ${said}`)
}

async function measureParts(
  bed: Bed,
  { name, device, parts }: Contender,
  running: Running,
  { warmUpSeconds, tcpSeconds, packetSeconds, exchangeSeconds, pings }: Durations,
  note: Note,
): Promise<void> {
  const way = hostWay(bed, running)
  /** What a daemon does in the long run counts, not how it gets there: the first run is not counted. */
  const steadily = async <T>(seconds: number, run: (seconds: number) => Promise<T>): Promise<T> => {
    await run(warmUpSeconds)
    return run(seconds)
  }
  const tcp = async (key: string, way: Way, flows: number, isReverse = false): Promise<void> => {
    const run = (seconds: number) => measure.tcp(way, seconds, flows, isReverse)
    note(key, (await steadily(tcpSeconds, run)).gbitPerSecond)
  }
  const packets = async (key: string, isGso: boolean): Promise<void> => {
    const run = (seconds: number) => measure.smallPackets(way, seconds, isGso)
    note(key, (await steadily(packetSeconds, run)) / 1000)
  }
  if (parts.includes('one-flow')) {
    await measure.tcp(way, warmUpSeconds, 1)
    const before = await bytesSent(bed.hosts[0], device)
    const one = await measure.tcp(way, tcpSeconds, 1)
    const carried = (await bytesSent(bed.hosts[0], device)) - before
    if (carried < one.bytes * OWN_SHARE) {
      throw new Error(
        `${name} carried ${String(carried)} bytes on ${device}, TCP ${String(one.bytes)}`,
      )
    }
    note('tcp1', one.gbitPerSecond)
    note('cpu1', one.cpuSecondsPerGb)
  }
  if (parts.includes('back')) await tcp('tcp1-back', way, 1, true)
  if (parts.includes('four-flows')) await tcp('tcp4', way, 4)
  if (parts.includes('pods')) await tcp('tcp-pods', podWay(bed), 1)
  if (parts.includes('packets')) {
    await packets('pps64', false)
    await packets('pps64-gso', true)
  }
  if (parts.includes('round-trips')) {
    const trips = await steadily(exchangeSeconds, (seconds) => measure.exchange(way, seconds))
    note('rtt-p50', trips.p50)
    note('rtt-p99', trips.p99)
    note('rtt-p999', trips.p999)
    const idle = await measure.pings(way, pings)
    note('ping-p50', idle.p50)
    note('ping-p99', idle.p99)
  }
  if (parts.includes('memory') && running.daemons.length > 0) {
    await sleep(REST_MS)
    note('memory', measure.resident(running.daemons) / 1e6)
  }
}
