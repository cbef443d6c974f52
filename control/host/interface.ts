/**
 * Which interface carries the underlay, and which address peers are told.
 *
 * Pure: works on what `ip -json address` and `ip -json route` listed. Without `--iface` the default
 * route decides, or `--public-ip` when it is given, which then has to be an address of this host;
 * with `--iface` each value is tried in order as an address, then as a name, and `--public-ip` is
 * only published. Same rules as flannel's IPv4 stack; evaluated once, at start.
 */
import { HeddleError } from '../errors.js'
import { parseAddr4, parseAddr6 } from '../prefix.js'

/** One interface of `ip -json address`: the members that are read here. */
export interface AddressInfo {
  readonly ifindex: number
  readonly ifname: string
  readonly flags: readonly string[]
  /** Bytes. */
  readonly mtu: number
  readonly addr_info: readonly {
    readonly family: string
    readonly local?: string
    readonly prefixlen?: number
    /** Assigned for a limited time (DHCP). */
    readonly dynamic?: boolean
    /** Preferred lifetime is over. */
    readonly deprecated?: boolean
    /** Not the first address of its subnet. */
    readonly secondary?: boolean
  }[]
}

/** One route of `ip -json route`: the members that are read here. */
export interface RouteInfo {
  /** `default`, an address, or a prefix. */
  readonly dst: string
  /** Absent for routes without a device (blackhole) and for multipath routes. */
  readonly dev?: string
  readonly nexthops?: readonly { readonly dev?: string }[]
}

export interface InterfaceRequest {
  readonly interfaces: readonly AddressInfo[]
  /** The main IPv4 table in the kernel's order. */
  readonly routes: readonly RouteInfo[]
  /** Values of --iface, in order. */
  readonly ifaces: readonly string[]
  /** Value of --public-ip, null = not given. */
  readonly publicIP: string | null
}

export interface ChosenInterface {
  readonly name: string
  readonly index: number
  /** Bytes. */
  readonly mtu: number
  /** Dotted quad: the address that the underlay socket binds to. */
  readonly address: string
  /** Dotted quad: the address published in the lease. */
  readonly externalAddress: string
  /** What was tried and chosen, for the log. */
  readonly notes: readonly string[]
}

/** A finding, or why there is none. */
type Found = { readonly link: AddressInfo; readonly address: string } | { readonly miss: string }

/**
 * Chooses the external interface and its address.
 * @throws HeddleError HEDDLE_INTERFACE with every miss and a list of what the host has
 */
export function chooseInterface(request: InterfaceRequest): ChosenInterface {
  const { interfaces, publicIP } = request
  const notes: string[] = []
  if (publicIP !== null && parseAddr4(publicIP) === null) {
    throw failure(`--public-ip=${publicIP} is no IPv4 address`, interfaces)
  }
  const wanted = publicIP === null || request.ifaces.length > 0 ? request.ifaces : [publicIP]
  const searches = wanted.map((value) => () => findByValue(interfaces, value))
  if (wanted.length === 0) {
    notes.push('Determining IP address of default interface')
    searches.push(() => findByDefaultRoute(interfaces, request.routes))
  }
  for (const search of searches) {
    const found = search()
    if ('link' in found) return describeChoice(found, publicIP, notes)
    notes.push(`Could not find a valid interface: ${found.miss}`)
  }
  throw failure(notes.filter((note) => note.startsWith('Could not')).join('; '), interfaces)
}

function describeChoice(
  { link, address }: Extract<Found, { link: AddressInfo }>,
  publicIP: string | null,
  notes: readonly string[],
): ChosenInterface {
  const { ifname: name, ifindex: index, mtu } = link
  const external =
    publicIP === null
      ? `Defaulting external address to interface address (${address})`
      : `Using ${publicIP} as external address`
  return {
    name,
    index,
    mtu,
    address,
    externalAddress: publicIP ?? address,
    notes: [...notes, `Using interface with name ${name} and address ${address}`, external],
  }
}

function findByValue(interfaces: readonly AddressInfo[], value: string): Found {
  if (parseAddr6(value) !== null) {
    return { miss: `${value} is an IPv6 address, the underlay needs an IPv4 address` }
  }
  if (parseAddr4(value) !== null) {
    const owner = interfaces.find((i) => i.addr_info.some((a) => a.local === value))
    return owner ? accept(owner, value) : { miss: `no interface has the address ${value}` }
  }
  const link = interfaces.find((i) => i.ifname === value)
  return link ? acceptLink(link) : { miss: `there is no interface "${value}"` }
}

function findByDefaultRoute(
  interfaces: readonly AddressInfo[],
  routes: readonly RouteInfo[],
): Found {
  for (const route of routes) {
    if (route.dst !== 'default' && route.dst !== '0.0.0.0/0') continue
    const device = route.dev ?? route.nexthops?.find((hop) => hop.dev !== undefined)?.dev
    const link = interfaces.find((i) => i.ifname === device)
    if (link) return acceptLink(link)
  }
  return { miss: 'there is no IPv4 default route; name the interface with --iface' }
}

function acceptLink(link: AddressInfo): Found {
  const address = preferredAddress(link)
  return address === null
    ? { miss: `interface ${link.ifname} has no usable IPv4 address` }
    : accept(link, address)
}

function accept(link: AddressInfo, address: string): Found {
  return link.mtu > 0 ? { link, address } : { miss: `interface ${link.ifname} has MTU 0` }
}

/** Global before link-local, then permanent before dynamic, then primary; the first of equals. */
function preferredAddress(link: AddressInfo): string | null {
  let best: { local: string; rank: number } | null = null
  for (const { family, local = '', dynamic, deprecated, secondary } of link.addr_info) {
    const addr = family === 'inet' ? parseAddr4(local) : null
    if (addr === null || deprecated === true || !isUnicast(addr)) continue
    const rank =
      (isLinkLocal(addr) ? 4 : 0) + (dynamic === true ? 2 : 0) + (secondary === true ? 1 : 0)
    if (best === null || rank < best.rank) best = { local, rank }
  }
  return best?.local ?? null
}

/** Neither unspecified nor loopback, multicast or broadcast. */
function isUnicast(addr: number): boolean {
  return addr !== 0 && addr >>> 24 !== 127 && addr >>> 28 !== 14 && addr !== 0xffffffff
}

/** 169.254.0.0/16. Source: RFC 3927 §2.1 */
function isLinkLocal(addr: number): boolean {
  return addr >>> 16 === 0xa9fe
}

function failure(why: string, interfaces: readonly AddressInfo[]): HeddleError {
  const list = interfaces.map((i) => {
    const addresses = i.addr_info.map((a) => a.local).filter((local) => local !== undefined)
    return `${i.ifname} (${addresses.join(', ') || 'no address'}, MTU ${i.mtu})`
  })
  return new HeddleError(
    'HEDDLE_INTERFACE',
    `Failed to find any valid interface to use: ${why}. This host has: ${list.join('; ') || 'no interface'}`,
  )
}
