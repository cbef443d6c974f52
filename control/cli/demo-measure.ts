/**
 * What the demo measures with the system's own tools: addresses, routes and pings.
 */
import { HeddleError } from '../errors.js'
import type { Netns } from '../lab/netns.js'

export interface LinkState {
  readonly name: string
  readonly mtu: number
  /** IPv4 addresses with their prefix length. */
  readonly addresses: readonly string[]
}

export interface PingReply {
  readonly seq: number
  /** TTL of the reply as it arrived. */
  readonly ttl: number
  readonly rttMs: number
}

export interface PingResult {
  readonly from: string
  readonly to: string
  readonly sent: number
  readonly replies: readonly PingReply[]
}

interface IpAddress {
  readonly ifname: string
  readonly mtu: number
  readonly addr_info: readonly { family: string; local: string; prefixlen: number }[]
}

/** An interface as the kernel has it now. @throws HeddleError HEDDLE_INTERFACE when there is none */
export async function linkState(place: Netns, name: string): Promise<LinkState> {
  const { stdout, stderr } = await place.run('ip', ['-json', 'address', 'show', 'dev', name])
  const found = (JSON.parse(stdout || '[]') as IpAddress[]).find((link) => link.ifname === name)
  if (found === undefined) {
    throw new HeddleError('HEDDLE_INTERFACE', `${place.netns} has no ${name}: ${stderr.trim()}`)
  }
  const addresses = found.addr_info
    .filter(({ family }) => family === 'inet')
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
  return { name, mtu: found.mtu, addresses }
}

/** The kernel's IPv4 routes, one line each. */
export async function routes(place: Netns): Promise<string[]> {
  const { stdout } = await place.run('ip', ['route', 'show'])
  return stdout
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

/**
 * Pings an address.
 * @param mark  bytes to fill the payload with, hexadecimal, at most 16 bytes
 */
export async function ping(
  from: Netns,
  source: string,
  to: string,
  count: number,
  mark?: string,
): Promise<PingResult> {
  const marked = mark === undefined ? [] : ['-p', mark]
  const args = ['-n', '-c', String(count), '-i', '0.2', '-W', '2', ...marked, to]
  const { stdout } = await from.run('ping', args, { timeoutMs: 2000 * count + 5000 })
  return { from: source, to, sent: count, replies: parsePing(stdout) }
}

/** Replies in the output of iputils' ping. */
export function parsePing(output: string): PingReply[] {
  return [...output.matchAll(/icmp_seq=(\d+) ttl=(\d+) time=([\d.]+) ms(?! \(DUP)/g)].map((m) => ({
    seq: Number(m[1]),
    ttl: Number(m[2]),
    rttMs: Number(m[3]),
  }))
}
