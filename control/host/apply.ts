/**
 * The one place that runs `ip`: reads what the kernel holds and applies changes to it.
 *
 * Batch lines are built from checked names and numbers only.
 */
import { HeddleError } from '../errors.js'
import type { AddressInfo, RouteInfo } from './interface.js'
import { runProgram, type Program } from './run.js'
import {
  difference,
  type Change,
  type Conflict,
  type HostState,
  type LinkState,
  type RouteState,
} from './state.js'

/** A device name as the kernel accepts it: no slash, no white space, at most 15 bytes. */
const DEVICE_NAME = /^[^\s/]{1,15}$/

/**
 * Protocol of the routes that we make past the tunnel and of blackholes, by which they are known again: a number that
 * nobody else has (iproute2, etc/iproute2/rt_protos), `H` as a byte.
 */
const ROUTE_PROTOCOL = '72'

/** Any route to the same destination comes before a blackhole, a bridge's in particular. */
const BLACKHOLE_METRIC = '4294967295'

const IP: Program = { name: 'ip', package: 'iproute2', code: 'HEDDLE_APPLY' }

async function readJson<T>(args: readonly string[]): Promise<T[]> {
  const text = await runProgram(IP, ['-json', ...args])
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

/** What `ip -json -details link` tells of a device's IPv6: how its link-local address is made. */
interface LinkDetails {
  readonly ifname: string
  /** `none` = there is none. */
  readonly inet6_addr_gen_mode?: string
}

/** A device as `ip -json -details link` tells: the members that are read here. */
export interface LinkInfo {
  readonly ifname: string
  /** MAC address. */
  readonly address?: string
  readonly linkinfo?: {
    /** `vxlan`, `tun`, `bridge`, …; absent for a physical device. */
    readonly info_kind?: string
    readonly info_data?: { readonly id?: number; readonly port?: number }
  }
}

/** Every device with what is special about its kind. */
export function readLinks(): Promise<LinkInfo[]> {
  return readJson<LinkInfo>(['-details', 'link', 'show'])
}

/** Removes a device. @throws HEDDLE_APPLY when the kernel refuses */
export async function removeLink(name: string): Promise<void> {
  await runProgram(IP, ['link', 'delete', 'dev', checked(name)])
}

/** What the kernel holds of the kinds of state that we manage. @param hasIpv6  what is of IPv6 alone as well */
export async function readHostState(hasIpv6: boolean): Promise<HostState> {
  const [interfaces, routes4, routes6, details] = await Promise.all([
    readAddresses(),
    readRoutes(4),
    hasIpv6 ? readRoutes(6) : [],
    hasIpv6 ? readJson<LinkDetails>(['-details', 'link', 'show']) : [],
  ])
  const modes = new Map(details.map((link) => [link.ifname, link.inet6_addr_gen_mode]))
  return {
    links: interfaces.map((i) => ({
      name: i.ifname,
      mtu: i.mtu,
      isUp: i.flags.includes('UP'),
      ...(hasIpv6 ? { hasLinkLocal: modes.get(i.ifname) !== 'none' } : {}),
    })),
    addresses: interfaces.flatMap((i) =>
      i.addr_info
        .filter((a) => a.local !== undefined && !a.local.startsWith('fe80:'))
        .map((a) => ({ device: i.ifname, address: `${String(a.local)}/${String(a.prefixlen)}` })),
    ),
    routes: [
      ...routes4.map((r) => describeRoute(r, 4)),
      ...routes6.map((r) => describeRoute(r, 6)),
    ].filter(({ device, isBlackhole }) => device !== '' || isBlackhole),
  }
}

function describeRoute(route: RouteInfo, family: 4 | 6): RouteState {
  const { dst, dev = '', gateway, protocol, type } = route
  return {
    destination: withLength(dst, family),
    ...(type === 'blackhole' ? { device: '', isBlackhole: true } : { device: dev }),
    ...(gateway === undefined ? {} : { via: gateway }),
    ...(protocol === ROUTE_PROTOCOL ? { isOurs: true } : {}),
  }
}

/** `ip` writes a host route without its length and 0.0.0.0/0 and ::/0 as `default`. */
function withLength(destination: string, family: 4 | 6): string {
  if (destination === 'default') return family === 4 ? '0.0.0.0/0' : '::/0'
  return destination.includes('/') ? destination : `${destination}/${family === 4 ? '32' : '128'}`
}

/** Whether text is of an IPv6 address or prefix. */
function isText6(text: string): boolean {
  return text.includes(':')
}

/**
 * Brings the kernel to the desired state.
 * @returns the changes that were made, and what of somebody else's stands in the way
 * @throws  HEDDLE_APPLY when the kernel refuses a change
 */
export async function reconcile(
  desired: HostState,
): Promise<{ changes: readonly Change[]; conflicts: readonly Conflict[] }> {
  const hasIpv6 = desired.routes.some(({ destination }) => isText6(destination))
  const { changes, conflicts } = difference(desired, await readHostState(hasIpv6))
  if (changes.length > 0) {
    await runProgram(IP, ['-batch', '-'], changes.map(batchLine).join('\n') + '\n')
  }
  return { changes, conflicts }
}

/** Lines for `ip -batch`. */
function batchLine(change: Change): string {
  switch (change.kind) {
    case 'address-add':
      // Nobody else can have the address, on a link without neighbours: it need not be asked about.
      return `address add ${change.address.address} dev ${checked(change.address.device)}${isText6(change.address.address) ? ' nodad' : ''}`
    case 'address-remove':
      return `address del ${change.address.address} dev ${checked(change.address.device)}`
    case 'link-set':
      return linkLines(change.link)
    case 'route-add':
      if (change.route.isBlackhole === true) return `route add ${blackhole(change.route)}`
      return `route add ${change.route.destination} dev ${checked(change.route.device)}${isText6(change.route.destination) ? '' : ' scope global'}`
    case 'route-replace':
      return `route replace ${pastTunnel(change.route)}`
    case 'route-remove':
      if (change.route.isBlackhole === true) return `route del ${blackhole(change.route)}`
      return `route del ${pastTunnel(change.route)}`
  }
}

function pastTunnel({ destination, via = '', device }: RouteState): string {
  return `${destination} via ${via} dev ${checked(device)} proto ${ROUTE_PROTOCOL}`
}

function blackhole({ destination }: RouteState): string {
  return `blackhole ${destination} proto ${ROUTE_PROTOCOL} metric ${BLACKHOLE_METRIC}`
}

/** The MTU first: a device of less than 1280 bytes has no IPv6 that could be set. */
function linkLines({ name, mtu, isUp, hasLinkLocal }: LinkState): string {
  const set = `link set dev ${checked(name)}`
  return [
    `${set} mtu ${String(mtu)}`,
    ...(hasLinkLocal === false ? [`${set} addrgenmode none`] : []),
    `${set} ${isUp ? 'up' : 'down'}`,
  ].join('\n')
}

function checked(name: string): string {
  if (!DEVICE_NAME.test(name)) {
    throw new HeddleError('HEDDLE_APPLY', `"${name}" is no device name`)
  }
  return name
}
