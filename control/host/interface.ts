/**
 * Which interface carries the underlay, and which addresses peers are told.
 *
 * Pure: works on what `ip -json address` and `ip -json route` listed. Without `--iface` the default
 * route decides, or `--public-ip` (`--public-ipv6` where that is not given), which then has to be an
 * address of this host; with `--iface` each value is tried in order as an address, then as a name, and
 * the public addresses are only published. Same rules as flannel's; evaluated once, at start.
 */
import { HeddleError } from '../errors.js'
import { formatAddr6, parseAddr4, parseAddr6 } from '../prefix.js'
import { preferredAddress, type Family } from './preferred-address.js'

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
    /** Assigned for a limited time (DHCP, router advertisements). */
    readonly dynamic?: boolean
    /** Preferred lifetime is over. */
    readonly deprecated?: boolean
    /** Not the first address of its subnet. */
    readonly secondary?: boolean
    /** Made up for privacy (RFC 8981). */
    readonly temporary?: boolean
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

/** What a backend asks of the interface in one family. */
export type Need = 'required' | 'optional' | 'unused'

export interface InterfaceRequest {
  readonly interfaces: readonly AddressInfo[]
  /** The main tables in the kernel's order. */
  readonly routes4: readonly RouteInfo[]
  readonly routes6: readonly RouteInfo[]
  readonly needs: { readonly ipv4: Need; readonly ipv6: Need }
  /** Values of --iface, in order. */
  readonly ifaces: readonly string[]
  /** Value of --public-ip, null = not given. */
  readonly publicIP: string | null
  /** Value of --public-ipv6, null = not given. */
  readonly publicIPv6: string | null
}

/** The interface's address of one family, as text. */
export interface HostAddress {
  /** That the underlay socket binds to. */
  readonly local: string
  /** That the lease publishes. */
  readonly external: string
}

export interface ChosenInterface {
  readonly name: string
  readonly index: number
  /** Bytes. */
  readonly mtu: number
  /** Null where the family is not used, or optional and not there. */
  readonly ipv4: HostAddress | null
  readonly ipv6: HostAddress | null
  /** What was tried and chosen, for the log. */
  readonly notes: readonly string[]
}

/** A finding, or why there is none. */
type Found =
  | { readonly link: AddressInfo; readonly ipv4: string | null; readonly ipv6: string | null }
  | { readonly miss: string }

/**
 * Chooses the external interface and its addresses.
 * @throws HeddleError HEDDLE_INTERFACE with every miss and a list of what the host has
 */
export function chooseInterface(request: InterfaceRequest): ChosenInterface {
  const { interfaces, ifaces, needs } = request
  const notes: string[] = []
  const [public4, public6] = publicAddresses(request)
  const own = [public4, public6].filter((address) => address !== null)
  const searches: (() => Found)[] = []
  if (ifaces.length > 0) {
    searches.push(...ifaces.map((value) => () => findByValue(interfaces, [value], needs)))
  } else if (own.length > 0) {
    searches.push(() => findByValue(interfaces, own, needs))
  } else {
    notes.push('Determining IP address of default interface')
    searches.push(() => findByDefaultRoute(request))
  }
  for (const search of searches) {
    const found = search()
    if ('link' in found) return describeChoice(found, public4, public6, notes)
    notes.push(`Could not find a valid interface: ${found.miss}`)
  }
  throw failure(notes.filter((note) => note.startsWith('Could not')).join('; '), interfaces)
}

/** --public-ip and --public-ipv6, null where not given or of a family that is not used. */
function publicAddresses(request: InterfaceRequest): [string | null, string | null] {
  const { interfaces, needs, publicIP, publicIPv6 } = request
  if (publicIP !== null && parseAddr4(publicIP) === null) {
    throw failure(`--public-ip=${publicIP} is no IPv4 address`, interfaces)
  }
  if (publicIPv6 !== null && parseAddr6(publicIPv6) === null) {
    throw failure(`--public-ipv6=${publicIPv6} is no IPv6 address`, interfaces)
  }
  return [needs.ipv4 === 'unused' ? null : publicIP, needs.ipv6 === 'unused' ? null : publicIPv6]
}

function describeChoice(
  { link, ipv4, ipv6 }: Extract<Found, { link: AddressInfo }>,
  public4: string | null,
  public6: string | null,
  notes: readonly string[],
): ChosenInterface {
  const { ifname: name, ifindex: index, mtu } = link
  const locals = [ipv4, ipv6].filter((address) => address !== null)
  const lines = [`Using interface with name ${name} and address ${locals.join(', ')}`]
  const publish = (local: string | null, external: string | null): HostAddress | null => {
    if (local === null) return null
    lines.push(
      external === null
        ? `Defaulting external address to interface address (${local})`
        : `Using ${external} as external address`,
    )
    return { local, external: external ?? local }
  }
  return {
    name,
    index,
    mtu,
    ipv4: publish(ipv4, public4),
    ipv6: publish(ipv6, public6),
    notes: [...notes, ...lines],
  }
}

/** The interface with these addresses, all of them, or of this name. */
function findByValue(
  interfaces: readonly AddressInfo[],
  values: readonly string[],
  needs: InterfaceRequest['needs'],
): Found {
  const [first = ''] = values
  if (parseAddr4(first) === null && parseAddr6(first) === null) {
    const link = interfaces.find((i) => i.ifname === first)
    return link ? accept(link, needs, []) : { miss: `there is no interface "${first}"` }
  }
  const unused = values.find((value) => needs[familyOf(value)] === 'unused')
  if (unused !== undefined) {
    const [is, other] = parseAddr4(unused) === null ? ['IPv6', 'IPv4'] : ['IPv4', 'IPv6']
    return { miss: `${unused} is an ${is} address, the underlay needs an ${other} address` }
  }
  const owner = interfaces.find((i) =>
    values.every((value) => i.addr_info.some(({ local }) => isSame(local, value))),
  )
  if (owner) return accept(owner, needs, values)
  return values.length === 1
    ? { miss: `no interface has the address ${first}` }
    : { miss: `no interface has both addresses, ${values.join(' and ')}` }
}

function familyOf(address: string): Family {
  return parseAddr4(address) === null ? 'ipv6' : 'ipv4'
}

/** As leases publish it. */
function canonical(address: string): string {
  const addr = parseAddr6(address)
  return addr === null ? address : formatAddr6(addr)
}

function isSame(a: string | undefined, b: string): boolean {
  if (a === b) return true
  const addr = parseAddr6(b)
  return a !== undefined && addr !== null && parseAddr6(a) === addr
}

/** The first default route's interface; where both families are required, one that has both. */
function findByDefaultRoute(request: InterfaceRequest): Found {
  const { interfaces, routes4, routes6, needs } = request
  const four = needs.ipv4 === 'required' ? defaultDevices(routes4) : null
  const six = needs.ipv6 === 'required' ? defaultDevices(routes6) : null
  for (const device of four ?? six ?? []) {
    const link = interfaces.find((i) => i.ifname === device)
    if (link && (six === null || six.includes(device))) return accept(link, needs, [])
  }
  const what =
    four !== null && six !== null
      ? 'interface with both an IPv4 and an IPv6 default route'
      : `${four === null ? 'IPv6' : 'IPv4'} default route`
  return { miss: `there is no ${what}; name the interface with --iface` }
}

/** Devices of the default routes, in order. */
function defaultDevices(routes: readonly RouteInfo[]): string[] {
  return routes
    .filter(({ dst }) => dst === 'default' || dst === '0.0.0.0/0' || dst === '::/0')
    .flatMap(({ dev, nexthops = [] }) => [{ dev }, ...nexthops])
    .flatMap(({ dev }) => dev ?? [])
}

/** @param chosen  addresses of the interface that were asked for */
function accept(
  link: AddressInfo,
  needs: InterfaceRequest['needs'],
  chosen: readonly string[],
): Found {
  if (link.mtu <= 0) return { miss: `interface ${link.ifname} has MTU 0` }
  const address = (family: Family): string | null => {
    if (needs[family] === 'unused') return null
    const value = chosen.find((text) => familyOf(text) === family)
    return value === undefined ? preferredAddress(link, family) : canonical(value)
  }
  const found = { ipv4: address('ipv4'), ipv6: address('ipv6') }
  for (const [family, name] of [
    ['ipv4', 'IPv4'],
    ['ipv6', 'IPv6'],
  ] as const) {
    if (needs[family] === 'required' && found[family] === null) {
      return { miss: `interface ${link.ifname} has no usable ${name} address` }
    }
  }
  return { link, ...found }
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
