/**
 * What the kernel should hold, as data; what it holds; and the difference.
 *
 * Pure: `desired…` says what a backend needs, `difference` what must change. Only apply.ts turns
 * changes into commands. The same three steps serve the start, a repair and a restart.
 */
import type { LeaseSubnet } from '../lease.js'
import {
  contains4,
  contains6,
  formatPrefix4,
  formatPrefix6,
  parsePrefix4,
  parsePrefix6,
  type Prefix4,
  type Prefix6,
} from '../prefix.js'

export interface LinkState {
  readonly name: string
  readonly mtu: number
  readonly isUp: boolean
  /**
   * Whether the kernel gives the device a link-local IPv6 address, from which it would look for
   * routers; undefined = it is none of our business.
   */
  readonly hasLinkLocal?: boolean
}

export interface AddressState {
  readonly device: string
  /** Address with prefix length, as text: `10.5.72.0/32`. */
  readonly address: string
}

export interface RouteState {
  /** Destination prefix as text, always with its length. */
  readonly destination: string
  readonly device: string
  /** Gateway, of a route that leads past the tunnel straight to a peer. */
  readonly via?: string
  /** Packets end here; there is no device. */
  readonly isBlackhole?: true
  /** Of a route as found: whether its protocol says that it is ours. */
  readonly isOurs?: boolean
}

/** Links, addresses and routes, as wanted or as found. */
export interface HostState {
  readonly links: readonly LinkState[]
  readonly addresses: readonly AddressState[]
  readonly routes: readonly RouteState[]
}

export type Change =
  | { readonly kind: 'link-set'; readonly link: LinkState }
  | { readonly kind: 'address-add'; readonly address: AddressState }
  | { readonly kind: 'address-remove'; readonly address: AddressState }
  | { readonly kind: 'route-add'; readonly route: RouteState }
  | { readonly kind: 'route-replace'; readonly route: RouteState }
  | { readonly kind: 'route-remove'; readonly route: RouteState }

/** Something of somebody else's stands where ours should. */
export interface Conflict {
  readonly wanted: RouteState
  readonly found: RouteState
}

export interface Difference {
  readonly changes: readonly Change[]
  readonly conflicts: readonly Conflict[]
}

/** A family that a TUN device carries: the whole network, and this host's part of it. */
export interface Carried<P> {
  readonly network: P
  readonly subnet: P
}

/**
 * What a backend on a TUN needs: `<subnet base>/32` (`/128`) on the device, its MTU, and the whole
 * Network routed to it (flannel behaviour, backend/udp; its `vxlan` routes subnet by subnet instead).
 */
export function desiredForTun(
  device: string,
  mtu: number,
  ipv4: Carried<Prefix4> | null,
  ipv6: Carried<Prefix6> | null,
): HostState {
  const addresses: AddressState[] = []
  const routes: RouteState[] = []
  if (ipv4 !== null) {
    addresses.push({ device, address: formatPrefix4({ addr: ipv4.subnet.addr, len: 32 }) })
    routes.push({ destination: formatPrefix4(ipv4.network), device })
  }
  if (ipv6 !== null) {
    addresses.push({ device, address: formatPrefix6({ addr: ipv6.subnet.addr, len: 128 }) })
    routes.push({ destination: formatPrefix6(ipv6.network), device })
  }
  const link = { name: device, mtu, isUp: true }
  return {
    links: [ipv6 === null ? link : { ...link, hasLinkLocal: false }],
    addresses,
    routes,
  }
}

/** Routes that end packets to addresses of the own subnet which no other route leads to. */
export function blackholes({ v4, v6 }: LeaseSubnet): RouteState[] {
  const destinations = [
    ...(v4.len > 0 ? [formatPrefix4(v4)] : []),
    ...(v6 === null ? [] : [formatPrefix6(v6)]),
  ]
  return destinations.map((destination) => ({ destination, device: '', isBlackhole: true }))
}

/** Everything that several devices need. */
export function together(states: readonly HostState[]): HostState {
  return {
    links: states.flatMap(({ links }) => links),
    addresses: states.flatMap(({ addresses }) => addresses),
    routes: states.flatMap(({ routes }) => routes),
  }
}

/**
 * What must change for `actual` to become `desired`, in the order in which the kernel accepts it:
 * links, addresses, routes; a link before its addresses, since it comes up without the one that the
 * kernel would make, and since one of less than 1280 bytes takes none of IPv6. Only devices that
 * `desired` names are touched; other addresses on them go, since a device of ours has none but ours.
 * A route past the tunnel takes the place of whatever leads to that subnet, as flannel has it; one of ours
 * that is not wanted any more goes, if it lies in a network that is ours.
 */
export function difference(desired: HostState, actual: HostState): Difference {
  const changes: Change[] = []
  const ours = new Set(desired.links.map((link) => link.name))
  const wanted = new Set(desired.addresses.map(addressKey))
  const found = new Set(actual.addresses.map(addressKey))
  for (const link of desired.links) {
    const is = actual.links.find((l) => l.name === link.name)
    if (is === undefined || !isAs(link, is)) changes.push({ kind: 'link-set', link })
  }
  for (const address of actual.addresses) {
    if (ours.has(address.device) && !wanted.has(addressKey(address)))
      changes.push({ kind: 'address-remove', address })
  }
  for (const address of desired.addresses) {
    if (!found.has(addressKey(address))) changes.push({ kind: 'address-add', address })
  }
  const conflicts: Conflict[] = []
  const destinations = new Set(desired.routes.map(routeKey))
  const networks = desired.routes.filter(
    ({ via, isBlackhole }) => via === undefined && !isBlackhole,
  )
  for (const route of actual.routes) {
    const isStale = route.isOurs === true && !destinations.has(routeKey(route))
    if (isStale && networks.some(({ destination }) => isWithin(route.destination, destination)))
      changes.push({ kind: 'route-remove', route })
  }
  const routesTo = new Map<string, RouteState[]>()
  for (const route of actual.routes) {
    routesTo.set(routeKey(route), [...(routesTo.get(routeKey(route)) ?? []), route])
  }
  for (const route of desired.routes) {
    const same = routesTo.get(routeKey(route)) ?? []
    const isThere = (r: RouteState) => r.device === route.device && r.via === route.via
    if (same.some((r) => route.isBlackhole === true || isThere(r))) continue
    const other = same[0]
    if (route.via !== undefined) changes.push({ kind: 'route-replace', route })
    else if (other === undefined) changes.push({ kind: 'route-add', route })
    else conflicts.push({ wanted: route, found: other })
  }
  return { changes, conflicts }
}

/** Whether a prefix lies in another, as text. */
function isWithin(inner: string, outer: string): boolean {
  const [inner4, outer4] = [parsePrefix4(inner), parsePrefix4(outer)]
  if (inner4 !== null && outer4 !== null) return contains4(outer4, inner4.addr)
  const [inner6, outer6] = [parsePrefix6(inner), parsePrefix6(outer)]
  return inner6 !== null && outer6 !== null && contains6(outer6, inner6.addr)
}

function isAs(wanted: LinkState, is: LinkState): boolean {
  const isLinkLocalAs = wanted.hasLinkLocal === undefined || wanted.hasLinkLocal === is.hasLinkLocal
  return is.mtu === wanted.mtu && is.isUp === wanted.isUp && isLinkLocalAs
}

/** A blackhole stands beside the route to the same destination that leads somewhere. */
function routeKey({ destination, isBlackhole }: RouteState): string {
  return isBlackhole === true ? `blackhole ${destination}` : destination
}

function addressKey(a: AddressState): string {
  return `${a.device} ${a.address}`
}
