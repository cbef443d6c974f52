/**
 * What the kernel should hold for us, or holds, as data.
 *
 * The same three steps serve the start, a repair and a restart: backends say what they need,
 * difference.ts what must change, apply.ts alone reads the kernel and changes it.
 */
import type { LeaseSubnet } from '../lease.js'
import { formatPrefix4, formatPrefix6, type Prefix4, type Prefix6 } from '../prefix.js'

export interface LinkState {
  readonly name: string
  readonly mtu: number
  readonly isUp: boolean
  /**
   * Whether the kernel gives the device a link-local IPv6 address, from which it would look for
   * routers; undefined = it is none of our business.
   */
  readonly hasLinkLocal?: boolean
  /** Of a device that the kernel carries packets by: its MAC address, and what it is. */
  readonly mac?: string
  readonly vxlan?: VxlanLink
}

/** A VXLAN device of the kernel. */
export interface VxlanLink {
  readonly vni: number
  /** Name of the device that its packets leave by, and the address that they come from. */
  readonly lower: string
  readonly local: string
  /** UDP port at both ends. */
  readonly port: number
  readonly learning: boolean
  readonly gbp: boolean
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
  /** Gateway: of a route straight to a peer its address, of one through a VXLAN device its VTEP. */
  readonly via?: string
  /** Packets end here; there is no device. */
  readonly isBlackhole?: true
  /** Whether the gateway counts as a neighbour, although no address of the device says so. */
  readonly isOnlink?: boolean
  /** Of a route as found: whether its protocol says that it is ours, or that the kernel made it. */
  readonly isOurs?: boolean
  readonly isKernels?: boolean
}

/** A permanent neighbour: an IP address and its MAC address. */
export interface NeighbourState {
  readonly device: string
  readonly address: string
  readonly mac: string
}

/** An entry of a VXLAN device's forwarding database: the host behind which a MAC address is. */
export interface ForwardingState {
  readonly device: string
  readonly mac: string
  /** Address on the underlay. */
  readonly host: string
}

/** A kernel setting, as sysctl(8) has them. */
export interface SettingState {
  /** Below /proc/sys. */
  readonly path: string
  readonly value: string
}

/** What the kernel holds for us, as wanted or as found. */
export interface HostState {
  readonly links: readonly LinkState[]
  readonly addresses: readonly AddressState[]
  readonly routes: readonly RouteState[]
  readonly neighbours: readonly NeighbourState[]
  readonly forwarding: readonly ForwardingState[]
  readonly settings: readonly SettingState[]
  /** Prefixes, as text, in which a route of ours that is not wanted is one left over. */
  readonly networks: readonly string[]
}

export const NOTHING: HostState = {
  links: [],
  addresses: [],
  routes: [],
  neighbours: [],
  forwarding: [],
  settings: [],
  networks: [],
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
    ...NOTHING,
    links: [ipv6 === null ? link : { ...link, hasLinkLocal: false }],
    addresses,
    routes,
    networks: routes.map(({ destination }) => destination),
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

/** Everything that several states hold. */
export function together(states: readonly HostState[]): HostState {
  return {
    links: states.flatMap(({ links }) => links),
    addresses: states.flatMap(({ addresses }) => addresses),
    routes: states.flatMap(({ routes }) => routes),
    neighbours: states.flatMap(({ neighbours }) => neighbours),
    forwarding: states.flatMap(({ forwarding }) => forwarding),
    settings: states.flatMap(({ settings }) => settings),
    networks: states.flatMap(({ networks }) => networks),
  }
}
