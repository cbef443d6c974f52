/**
 * The one place that runs `ip`: reads what the kernel holds and applies changes to it.
 *
 * Arguments are passed as a list, never through a shell; batch lines are built from checked names
 * and numbers only.
 */
import { execFile } from 'node:child_process'
import { HeddleError } from '../errors.js'
import { formatPrefix6, parsePrefix6 } from '../prefix.js'
import type { AddressInfo, RouteInfo } from './interface.js'
import { difference, type Change, type Conflict, type HostState } from './state.js'

/** A device name as the kernel accepts it: no slash, no white space, at most 15 bytes. */
const DEVICE_NAME = /^[^\s/]{1,15}$/
const TIMEOUT_MS = 10_000

/** Runs `ip` with arguments and optional standard input; answers its standard output. */
function runIp(args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      'ip',
      args,
      { timeout: TIMEOUT_MS, maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout)
          return
        }
        const isMissing = 'code' in error && error.code === 'ENOENT'
        const why = isMissing ? 'the program is not installed (package iproute2)' : stderr.trim()
        reject(
          new HeddleError('HEDDLE_APPLY', `ip ${args.join(' ')}: ${why || error.message}`, {
            cause: error,
            retryable: !isMissing,
          }),
        )
      },
    )
    // `ip` may exit before it has read its input; what it says then is in its exit code.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}

async function readJson<T>(args: readonly string[]): Promise<T[]> {
  const text = await runIp(['-json', ...args])
  return text.trim() === '' ? [] : (JSON.parse(text) as T[])
}

/** One interface of `ip -json -details link`: the members that are read here. */
interface LinkInfo {
  readonly ifname: string
  readonly flags: readonly string[]
  readonly mtu: number
  /** How link-local IPv6 addresses come about; absent where the kernel has no IPv6. */
  readonly inet6_addr_gen_mode?: string
}

/** Every interface with its addresses, as `ip -json address` tells. */
export function readAddresses(): Promise<AddressInfo[]> {
  return readJson<AddressInfo>(['address', 'show'])
}

/** The main routing table of one family, as `ip -json route` tells. */
export function readRoutes(family: 4 | 6): Promise<RouteInfo[]> {
  return readJson<RouteInfo>([family === 4 ? '-4' : '-6', 'route', 'show', 'table', 'main'])
}

/** What the kernel holds of the kinds of state that we manage. */
export async function readHostState(): Promise<HostState> {
  const [links, interfaces, routes4, routes6] = await Promise.all([
    readJson<LinkInfo>(['-details', 'link', 'show']),
    readAddresses(),
    readRoutes(4),
    // A kernel without IPv6 has none.
    readRoutes(6).catch(() => []),
  ])
  return {
    links: links.map((i) => ({
      name: i.ifname,
      mtu: i.mtu,
      isUp: i.flags.includes('UP'),
      hasLinkLocal: (i.inet6_addr_gen_mode ?? 'none') !== 'none',
    })),
    addresses: interfaces.flatMap((i) =>
      i.addr_info
        .filter((a) => a.local !== undefined)
        .map((a) => ({
          device: i.ifname,
          address: canonical(`${String(a.local)}/${String(a.prefixlen)}`),
        })),
    ),
    routes: [
      ...routes4.map((r) => ({ destination: withLength(r.dst, '0.0.0.0/0', 32), device: r.dev })),
      ...routes6.map((r) => ({ destination: withLength(r.dst, '::/0', 128), device: r.dev })),
    ].flatMap(({ destination, device }) => (device === undefined ? [] : { destination, device })),
  }
}

/** `ip` writes a host route without its length and that to everywhere as `default`. */
function withLength(destination: string, everywhere: string, len: number): string {
  if (destination === 'default') return everywhere
  return canonical(destination.includes('/') ? destination : `${destination}/${String(len)}`)
}

/** The C library has a form of its own for some IPv6 addresses (`::192.0.2.1`). */
function canonical(prefix: string): string {
  const [address = '', len = ''] = prefix.split('/')
  const whole = parsePrefix6(`${address}/128`)
  return whole === null ? prefix : `${formatPrefix6(whole).slice(0, -'/128'.length)}/${len}`
}

/**
 * Brings the kernel to the desired state.
 * @returns the changes that were made, and what of somebody else's stands in the way
 * @throws  HEDDLE_APPLY when the kernel refuses a change
 */
export async function reconcile(
  desired: HostState,
): Promise<{ changes: readonly Change[]; conflicts: readonly Conflict[] }> {
  const { changes, conflicts } = difference(desired, await readHostState())
  if (changes.length > 0) {
    await runIp(['-batch', '-'], changes.map(batchLine).join('\n') + '\n')
  }
  return { changes, conflicts }
}

/** One line for `ip -batch`. */
function batchLine(change: Change): string {
  switch (change.kind) {
    case 'link-quiet':
      return `link set dev ${checked(change.link.name)} addrgenmode none`
    case 'address-add':
      return `address add ${change.address.address} dev ${checked(change.address.device)}${isIpv6(change.address.address) ? ' nodad' : ''}`
    case 'address-remove':
      return `address del ${change.address.address} dev ${checked(change.address.device)}`
    case 'link-set':
      return `link set dev ${checked(change.link.name)} mtu ${String(change.link.mtu)} ${change.link.isUp ? 'up' : 'down'}`
    case 'route-add':
      return `route add ${change.route.destination} dev ${checked(change.route.device)}${isIpv6(change.route.destination) ? '' : ' scope global'}`
  }
}

function isIpv6(prefix: string): boolean {
  return prefix.includes(':')
}

function checked(name: string): string {
  if (!DEVICE_NAME.test(name)) {
    throw new HeddleError('HEDDLE_APPLY', `"${name}" is no device name`)
  }
  return name
}
