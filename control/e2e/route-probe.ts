/**
 * How soon a change of a route takes effect: a lease appears in etcd and goes again, while packets for
 * its subnet are sent all the time, and the host that it names shows which of them arrive.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Capture } from '../lab/capture.js'
import type { Host } from '../lab/host.js'
import { PORT } from './attack.js'
import { baseOf, PATIENCE_MS, type EtcdNetwork } from './etcd-network.js'
import { Sender } from './load.js'
import { until } from './overlay.js'

/** UDP port that the packets go to. */
const SINK = 9
/** How long no packet must arrive before the last one is known to have been the last, ms. */
const SILENCE_MS = 300

/** A change of the route. */
export interface RouteEffect {
  readonly what: 'added' | 'removed'
  /** From asking etcd to the daemon's own word that it knows, ms. */
  readonly seenMs: number
  /** From there to the first packet that arrives, or the last one that still does, ms. */
  readonly effectMs: number
}

export interface RouteReport {
  readonly effects: readonly RouteEffect[]
  /** Packets that were sent for it. */
  readonly packets: number
}

/**
 * Adds and removes a lease until the time is up.
 * @param on      host whose daemon learns of the lease, and from which the packets are sent
 * @param to      host that the lease names; it has no daemon
 * @param subnet  of the lease, as `10.5.1.0/24`
 */
export async function probeRoute(
  network: EtcdNetwork,
  on: Host,
  to: Host,
  subnet: string,
  seconds: number,
): Promise<RouteReport> {
  const end = Date.now() + seconds * 1000
  const capture = await to.capture('eth0', `udp port ${PORT} and dst host ${to.address}`)
  // Before all others on the CPU: what is measured is the daemon, not how long the probe waited.
  const probe = await Sender.start(on, {
    to: baseOf(subnet),
    port: SINK,
    datagram: Buffer.from('probe'),
    isPaced: true,
    nice: -20,
  })
  const effects: RouteEffect[] = []
  while (Date.now() < end) {
    const put = Date.now()
    await network.put(subnet, network.value(to.address))
    const added = await logged(network, on, `Subnet added: ${subnet}`, put)
    const first = await arrival(capture, put)
    effects.push({ what: 'added', seenMs: added - put, effectMs: first - added })
    const deleted = Date.now()
    await network.remove(subnet)
    const removed = await logged(network, on, `Subnet removed: ${subnet}`, deleted)
    const last = await silence(capture)
    effects.push({ what: 'removed', seenMs: removed - deleted, effectMs: last - removed })
  }
  const { sent } = await probe.stop()
  await capture.stop()
  return { effects, packets: sent }
}

/** Waits for a line of a daemon's log that is younger than a moment. @returns its time, Unix ms */
async function logged(network: EtcdNetwork, on: Host, text: string, after: number) {
  let at = NaN
  await until(`${on.name} says ${text}`, PATIENCE_MS, () => {
    const lines = network.daemon(on).stderr().split('\n')
    const times = lines.filter((line) => line.includes(text)).map(lineTime)
    at = times.at(-1) ?? NaN
    return at >= after - 1
  })
  return at
}

/** Time of a line of the log, which has the time of day in microseconds: Unix ms. */
function lineTime(line: string): number {
  const [, hours = '', minutes = '', seconds = ''] = /^\w+ (\d+):(\d+):([\d.]+)/.exec(line) ?? []
  const midnight = new Date().setHours(0, 0, 0, 0)
  const at = midnight + ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000
  return at > Date.now() + 3_600_000 ? at - 86_400_000 : at
}

/** Waits for the first packet after a moment. @returns when it came, Unix ms */
async function arrival(capture: Capture, after: number): Promise<number> {
  const found = () => capture.packets().find(({ timeUs }) => timeUs / 1000 > after)
  await until('a packet arrives', PATIENCE_MS, () => found() !== undefined)
  return (found()?.timeUs ?? NaN) / 1000
}

/** Waits until no packet has come for a while. @returns when the last one came, Unix ms */
async function silence(capture: Capture): Promise<number> {
  const last = () => (capture.packets().at(-1)?.timeUs ?? 0) / 1000
  await sleep(SILENCE_MS)
  await until('packets no longer arrive', PATIENCE_MS, () => Date.now() - last() > SILENCE_MS)
  return last()
}
