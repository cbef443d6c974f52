/**
 * The demo from top to bottom: bring up, show, send traffic, look at one packet's way.
 */
import { randomInt } from 'node:crypto'
import { BRIDGE } from '../lab/host.js'
import type { Lab } from '../lab/lab.js'
import { type TcpTransfer, tcpTransfer } from '../lab/transfers.js'
import { readStatus } from '../control-socket.js'
import type { Status } from '../status.js'
import { type PingResult, linkState, ping, routes } from './demo-measure.js'
import * as show from './demo-show.js'
import type { Terminal } from './demo-terminal.js'
import { type Walk, walk } from './demo-walk.js'
import { type Site, type World, bringUp, openStore, untilJoined } from './demo-world.js'

/** Bytes of the TCP transfer. */
const TRANSFER = 64 * 1024 * 1024
/** Time for the transfer, ms: with everything else the demo stays under a minute. */
const TRANSFER_MS = 20_000
const PINGS = 3

/** Everything the demo measured. */
export interface Measured {
  readonly store: string
  readonly hosts: readonly show.HostView[]
  readonly pings: readonly PingResult[]
  readonly transfer: TcpTransfer
  readonly status: readonly Status[]
  readonly walk: Walk
}

/**
 * Runs the demo in an empty lab of two hosts.
 * @throws HeddleError when a daemon does not come up or a program fails
 */
export async function present(lab: Lab, world: World, terminal: Terminal): Promise<Measured> {
  const names = lab.hosts.map(({ name }) => name)
  const { store, args, description } = await openStore(lab, world)
  terminal.heading(`Two hosts, each with heddled and two pods; leases in ${description}`)
  const [a, b] = await Promise.all([
    bringUp(lab.host(1), store, args),
    bringUp(lab.host(2), store, args),
  ])
  const joined = await untilJoined([a, b])
  const hosts = await Promise.all([a, b].map((site, i) => view(site, joined[i])))
  show.showTopology(terminal, hosts)
  terminal.heading('Leases')
  show.showLeases(terminal, names, joined)
  terminal.heading('Routes')
  show.showRoutes(terminal, hosts, joined)

  terminal.heading('Ping between pods on different hosts')
  const pings = [await pingPods(a, b), await pingPods(b, a)]
  if (world.ipv6) pings.push(await pingPods(a, b, 6), await pingPods(b, a, 6))
  for (const result of pings) show.showPing(terminal, result)

  terminal.heading('A TCP transfer between pods, checked by hash')
  const [source, sink] = [a.pods[1], b.pods[0]]
  const options = { bytes: TRANSFER, seed: randomInt(2 ** 31), timeoutMs: TRANSFER_MS }
  const transfer = await tcpTransfer(source, sink, sink.address, options)
  show.showTransfer(terminal, source.address, sink.address, transfer)

  terminal.heading('What became of every packet so far')
  const status = await Promise.all(lab.hosts.map((host) => readStatus(host.subnetFile)))
  show.showCounters(terminal, names, status)

  terminal.heading('The way of one packet, captured at seven places')
  const devices = hosts.map(({ tun }) => tun.name)
  const way = await walk(a, b, devices, world.backend)
  show.showWalk(terminal, way)
  return { store: description, hosts, pings, transfer, status, walk: way }
}

async function view(site: Site, status: Status | undefined): Promise<show.HostView> {
  const { host, pods } = site
  return {
    name: host.name,
    pid: status?.pid ?? site.daemon.pid,
    underlay: await linkState(host, 'eth0'),
    tun: await linkState(host, status?.device?.name ?? 'flannel0'),
    bridge: await linkState(host, BRIDGE),
    pods: await Promise.all(pods.map((pod) => linkState(pod, 'eth0'))),
    routes: await routes(host),
  }
}

function pingPods(from: Site, to: Site, family: 4 | 6 = 4): Promise<PingResult> {
  const [source, target] = [from.pods[0], to.pods[1]]
  return family === 4
    ? ping(source, source.address, target.address, PINGS)
    : ping(source, source.address6, target.address6, PINGS)
}

/** What did not work, in words; nothing when all is well. */
export function faultsOf(measured: Measured): string[] {
  const pings = [...measured.pings, measured.walk.ping]
  const lost = pings
    .filter(({ sent, replies }) => replies.length < sent)
    .map(({ from, to, sent, replies }) => {
      return `${from} to ${to}: only ${replies.length} of ${sent} pings were answered`
    })
  const unseen = measured.walk.steps
    .filter(({ text }) => text === null)
    .map(({ place }) => `the marked packet was not seen at ${place}`)
  const damage = measured.transfer.intact ? [] : ['the TCP transfer arrived with another hash']
  return [...lost, ...damage, ...unseen]
}
