/**
 * The one place that runs `ip`: reads what the kernel holds and applies changes to it.
 *
 * Arguments are passed as a list, never through a shell; batch lines are built from checked names
 * and numbers only.
 */
import { execFile } from 'node:child_process'
import { HeddleError } from '../errors.js'
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

/** Every interface with its addresses, as `ip -json address` tells. */
export function readAddresses(): Promise<AddressInfo[]> {
  return readJson<AddressInfo>(['address', 'show'])
}

/** The main routing table of one family, as `ip -json route` tells. */
export function readRoutes(family: 4 | 6): Promise<RouteInfo[]> {
  return readJson<RouteInfo>([family === 4 ? '-4' : '-6', 'route', 'show', 'table', 'main'])
}

/** What the kernel holds of the kinds of state that we manage (IPv4). */
export async function readHostState(): Promise<HostState> {
  const [interfaces, routes] = await Promise.all([readAddresses(), readRoutes(4)])
  return {
    links: interfaces.map((i) => ({
      name: i.ifname,
      mtu: i.mtu,
      isUp: i.flags.includes('UP'),
    })),
    addresses: interfaces.flatMap((i) =>
      i.addr_info
        .filter((a) => a.family === 'inet' && a.local !== undefined)
        .map((a) => ({ device: i.ifname, address: `${String(a.local)}/${String(a.prefixlen)}` })),
    ),
    routes: routes
      .filter((r) => r.dev !== undefined)
      .map((r) => ({ destination: withLength(r.dst), device: String(r.dev) })),
  }
}

/** `ip` writes a host route without its length and 0.0.0.0/0 as `default`. */
function withLength(destination: string): string {
  if (destination === 'default') return '0.0.0.0/0'
  return destination.includes('/') ? destination : `${destination}/32`
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
    case 'address-add':
      return `address add ${change.address.address} dev ${checked(change.address.device)}`
    case 'address-remove':
      return `address del ${change.address.address} dev ${checked(change.address.device)}`
    case 'link-set':
      return `link set dev ${checked(change.link.name)} mtu ${String(change.link.mtu)} ${change.link.isUp ? 'up' : 'down'}`
    case 'route-add':
      return `route add ${change.route.destination} dev ${checked(change.route.device)} scope global`
  }
}

function checked(name: string): string {
  if (!DEVICE_NAME.test(name)) {
    throw new HeddleError('HEDDLE_APPLY', `"${name}" is no device name`)
  }
  return name
}
