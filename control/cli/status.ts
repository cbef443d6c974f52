/**
 * `heddle status`: what a running daemon is doing, as text for people or JSON for programs.
 */
import type { OffloadReport } from '../../dataplane/index.js'
import { readStatus } from '../control-socket.js'
import { isHeddleError } from '../errors.js'
import { NO_PUBLIC_IP } from '../lease.js'
import { DEFAULT_SUBNET_FILE } from '../options.js'
import type { PeerStatus, Status, TunnelStatus } from '../status.js'
import type { CommandIo } from './heddle.js'
import { parseInstanceFlags } from './instance-flags.js'

const USAGE = `usage: heddle status [--subnet-file FILE] [--json]

  --subnet-file FILE  the instance to ask, by its subnet file (default ${DEFAULT_SUBNET_FILE})
  --json              print the daemon's status document
`

/** Runs the command. @returns the exit code: 0, 1 = no daemon answers, 2 = wrong arguments */
export async function status(argv: readonly string[], io: CommandIo): Promise<number> {
  const flags = parseInstanceFlags('status', argv, USAGE, true, io)
  if (typeof flags === 'number') return flags
  try {
    const document = await readStatus(flags.subnetFile)
    io.stdout.write(flags.json ? JSON.stringify(document, null, 2) + '\n' : formatStatus(document))
    return 0
  } catch (error) {
    if (!isHeddleError(error)) throw error
    io.stderr.write(`heddle status: ${error.message}\n`)
    return 1
  }
}

/** The status as lines of text; verdicts that never occurred are left out. */
export function formatStatus(s: Status): string {
  const { publicIP, publicIPv6 } = s.lease
  const isPlain = s.tunnels.every(({ inner, outer }) => `${inner.join()} ${outer}` === 'ipv4 ipv4')
  const lines = [
    `heddled ${s.version}  pid ${String(s.pid)}  ${s.state} since ${s.startedAt}`,
    `store     ${s.store.description}  ${s.store.isReachable ? 'reachable' : 'NOT REACHABLE'}`,
    `network   ${s.network}  ${formatBackend(s)}`,
    `lease     ${s.lease.subnet}  as ${hostName({ publicIP, publicIPv6 })}  ${expiry(s.lease.expiresAt)}`,
    ...s.tunnels.map((tunnel) => formatDevice(tunnel) + (isPlain ? '' : carries(tunnel))),
    ...s.kernelDevices.map(
      ({ name, mtu }) => `device    ${name}  mtu ${String(mtu)}  of the kernel`,
    ),
    formatFirewall(s),
    `routes    ${String(s.routes)}${s.skippedKeys > 0 ? `  (${String(s.skippedKeys)} keys of the store skipped as unreadable)` : ''}`,
    '',
    ...table([
      ['PEER SUBNET', 'HOST', 'KNOWN FOR', 'LEASE'],
      ...s.peers.map((p) => [p.subnet, hostName(p), duration(p.ageSeconds), expiry(p.expiresAt)]),
    ]),
  ]
  if (s.tunnels.length !== 1) {
    for (const tunnel of s.tunnels) lines.push('', `--- ${tunnel.device.name}`, ...traffic(tunnel))
  } else {
    lines.push(...traffic(s))
  }
  return lines.join('\n') + '\n'
}

function formatBackend({ backend: { type, port, dataplane } }: Status): string {
  const where = dataplane === 'kernel' ? ' in the kernel' : ''
  return `backend ${type}${where}${port === null ? '' : `, port ${String(port)}`}`
}

function formatFirewall({ firewall: { mode, rules, fault } }: Status): string {
  if (rules.length === 0) return 'firewall  no rules asked for'
  return `firewall  ${rules.join(' and ')} by ${mode}${fault === null ? '' : `  NOT IN PLACE: ${fault}`}`
}

function formatDevice({ device }: Pick<TunnelStatus, 'device'>): string {
  return `device    ${device.name}  mtu ${String(device.mtu)}  receive buffer ${String(device.receiveBuffer)} bytes`
}

function carries({ inner, outer }: TunnelStatus): string {
  return `  carries ${inner.join(' and ')} in ${outer}`
}

/** Addresses of a host: of either family, or of both. */
function hostName({ publicIP, publicIPv6 }: Pick<PeerStatus, 'publicIP' | 'publicIPv6'>): string {
  const v4 = publicIP === NO_PUBLIC_IP ? [] : [publicIP]
  return [...v4, ...(publicIPv6 === null ? [] : [publicIPv6])].join(',')
}

/** Counters, engines and offloads. */
function traffic(s: Pick<TunnelStatus, 'counters' | 'queues' | 'offloads'>): string[] {
  const lines: string[] = []
  for (const direction of ['egress', 'ingress'] as const) {
    const report = s.counters[direction]
    lines.push('', `${direction}: ${String(report.read)} packets read`)
    lines.push(
      ...table(
        Object.entries(report.verdicts)
          .filter(([name, v]) => v.packets > 0 || name === 'forward')
          .map(([name, v]) => [
            `  ${name}`,
            `${String(v.packets)} packets`,
            `${String(v.bytes)} bytes`,
          ]),
      ),
    )
  }
  if (s.queues.length > 1) {
    lines.push(
      '',
      ...table([
        ['QUEUE', 'READ FROM DEVICE', 'READ FROM SOCKET'],
        ...s.queues.map((q, i) => [String(i), String(q.egress), String(q.ingress)]),
      ]),
    )
  }
  lines.push('', ...table([['OFFLOAD', 'STATE', '', ''], ...s.offloads.map(offloadRow)]))
  const shown = new Set(s.offloads.flatMap(({ counters }) => Object.keys(counters)))
  const gauges = Object.entries(s.counters.gauges).filter(
    ([name]) => !name.endsWith('_read') && !shown.has(name),
  )
  lines.push('', ...table(gauges.map(([name, n]) => [name, String(n)])))
  return lines
}

/** Name, state, what is used or why it is not, and the counts that are not 0. */
function offloadRow({ name, state, detail, since, counters }: OffloadReport): string[] {
  const why = state === 'off' && detail === '' ? `--${name}=false` : detail
  const counts = Object.entries(counters).filter(([, n]) => n > 0)
  return [
    name,
    state,
    since === null ? why : `${why}, ${since}`,
    counts.map(([count, n]) => `${count} ${String(n)}`).join('  '),
  ]
}

function expiry(at: string | null): string {
  return at === null ? 'does not expire' : `expires ${at}`
}

function duration(seconds: number): string {
  if (seconds < 120) return `${String(Math.round(seconds))} s`
  if (seconds < 7200) return `${String(Math.round(seconds / 60))} min`
  return `${String(Math.round(seconds / 3600))} h`
}

/** Columns padded to their widest cell. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
