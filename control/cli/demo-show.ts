/**
 * The demo's parts on the terminal. Every number here comes from this run.
 */
import type { TcpTransfer } from '../lab/transfers.js'
import type { Status } from '../status.js'
import type { LinkState, PingResult } from './demo-measure.js'
import type { Terminal } from './demo-terminal.js'
import type { Walk } from './demo-walk.js'

export interface HostView {
  readonly name: string
  readonly pid: number
  readonly underlay: LinkState
  readonly tun: LinkState
  readonly bridge: LinkState
  readonly pods: readonly LinkState[]
  readonly routes: readonly string[]
}

const COLUMN = 38

/** The two hosts side by side, drawn from top (pods) to bottom (underlay). */
export function showTopology(terminal: Terminal, hosts: readonly HostView[]): void {
  const centre = (text: string): string =>
    text.padStart(Math.ceil((COLUMN + text.length) / 2)).padEnd(COLUMN)
  const draw = (row: (host: HostView) => string): string =>
    hosts
      .map((host) => centre(row(host)))
      .join('')
      .trimEnd()
  const link = ({ name, mtu, addresses }: LinkState): string =>
    `${name} ${addresses.join(' ')} mtu ${mtu}`
  const left = COLUMN / 2
  terminal.lines(
    draw((host) => host.pods.map((_, i) => `pod${i + 1}`.padStart(8).padEnd(15)).join('')),
    draw((host) => host.pods.map((pod) => (pod.addresses[0] ?? '').padEnd(15)).join('')),
    draw(() => '└───────┬───────┘'),
    draw((host) => link(host.bridge)),
    draw(() => '│'),
    draw((host) => link(host.tun)),
    draw(() => '│'),
    terminal.strong(draw((host) => `heddled (pid ${host.pid})`)),
    draw(() => '│'),
    draw((host) => `${host.name}: ${link(host.underlay)}`),
    `${' '.repeat(left)}└${'─'.repeat(COLUMN / 2 - 6)} underlay ${'─'.repeat(COLUMN / 2 - 5)}┘`,
  )
}

export function showLeases(
  terminal: Terminal,
  names: readonly string[],
  all: readonly Status[],
): void {
  const rows = all.map((status, i) => [
    names[i] ?? '',
    status.lease.subnet,
    status.lease.publicIP,
    status.lease.expiresAt ?? 'never',
  ])
  terminal.table([['host', 'subnet', 'reached at', 'lease expires'], ...rows])
}

export function showRoutes(
  terminal: Terminal,
  hosts: readonly HostView[],
  all: readonly Status[],
): void {
  const rows = hosts.flatMap((host, i) => [
    ...host.routes.map((route) => [host.name, 'kernel', route]),
    ...(all[i]?.peers ?? []).map((peer) => [
      host.name,
      'heddled',
      `${peer.subnet} to ${peer.publicIP}, port ${all[i]?.backend.port ?? 0}`,
    ]),
  ])
  terminal.table([['host', 'table', 'route'], ...rows])
}

export function showPing(terminal: Terminal, result: PingResult): void {
  terminal.lines(
    `${result.from} → ${result.to}: ${result.replies.length} of ${result.sent} answered`,
    ...result.replies.map(
      ({ seq, ttl, rttMs }) => `  reply ${seq}: ttl ${ttl}, round trip ${rttMs} ms`,
    ),
  )
}

export function showTransfer(
  terminal: Terminal,
  from: string,
  to: string,
  done: TcpTransfer,
): void {
  const { sent, received } = done
  const megabytes = (received.bytes / 1e6).toFixed(1)
  terminal.lines(
    `${from} → ${to}: ${megabytes} MB in ${received.seconds.toFixed(2)} s, ` +
      terminal.strong(`${received.mbitPerSecond.toFixed(0)} Mbit/s`),
    `  SHA-256 sent      ${sent.sha256}`,
    `  SHA-256 received  ${received.sha256}  ${done.intact ? 'the same' : terminal.strong('NOT THE SAME')}`,
  )
}

export function showCounters(
  terminal: Terminal,
  names: readonly string[],
  all: readonly Status[],
): void {
  const rows = all.flatMap((status, i) =>
    (['egress', 'ingress'] as const).flatMap((direction) => {
      const { read, verdicts } = status.counters[direction]
      const counted = Object.entries(verdicts).filter(([, { packets }]) => packets > 0)
      return [
        [names[i] ?? '', direction, 'read', String(read), ''],
        ...counted.map(([verdict, { packets, bytes }]) => [
          '',
          '',
          verdict,
          String(packets),
          String(bytes),
        ]),
      ]
    }),
  )
  terminal.table([['host', 'direction', 'verdict', 'packets', 'bytes'], ...rows])
}

export function showWalk(terminal: Terminal, walk: Walk): void {
  for (const [i, step] of walk.steps.entries()) {
    const by = i === 3 || i === 4 ? '  (by way of heddled)' : ''
    const when = i === 0 ? '' : `  +${step.afterUs} µs`
    const length = step.text === null ? '' : `  ${step.length} bytes`
    terminal.lines(
      `${terminal.strong(`${i + 1}  ${step.place}`)}${terminal.faint(`${length}${when}${by}`)}`,
      `   ${step.text?.replaceAll(/\bttl \d+/g, (ttl) => terminal.strong(ttl)) ?? terminal.strong('NOT SEEN HERE')}`,
      ...(step.change === ''
        ? []
        : [`   ${terminal.faint(`since the step before: ${step.change}`)}`]),
    )
  }
}
