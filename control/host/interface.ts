/**
 * Which interface carries the underlay, and which address peers are told.
 *
 * Pure: works on what `ip -json address` and `ip -json route` listed. Each value of `--iface` is tried in
 * order as an address, then as a name; then each `--iface-regex`, against the addresses of all
 * interfaces, then against their names; then the interface that routes to `--iface-can-reach`. The public addresses are
 * then only published. Without any of the three the default route decides, or `--public-ip` (else
 * `--public-ipv6`) when it is given, which then has to be an address of this host. Same rules as
 * flannel's; evaluated once, at start. Where both families are needed they are those of one interface.
 */
import { HeddleError } from '../errors.js'
import { formatAddr6, parseAddr4, parseAddr6 } from '../prefix.js'

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
    /** IPv6: made up for privacy (RFC 8981), not yet known to be unique, or known not to be. */
    readonly temporary?: boolean
    readonly tentative?: boolean
    readonly dadfailed?: boolean
  }[]
}

/** One route of `ip -json route`: the members that are read here. */
export interface RouteInfo {
  /** `default`, an address, or a prefix. */
  readonly dst: string
  /** Absent for routes without a device (blackhole) and for multipath routes. */
  readonly dev?: string
  /** `unreachable`, `blackhole`, …; absent for a route that leads somewhere. */
  readonly type?: string
  readonly gateway?: string
  /** Who made it: a name of rtnetlink(7), or a number. */
  readonly protocol?: string
  readonly nexthops?: readonly { readonly dev?: string }[]
}

/** Which addresses of the interface are asked for; `optional` = taken if there is one. */
export interface AddressNeeds {
  readonly ipv4: 'required' | 'optional' | 'unused'
  readonly ipv6: 'required' | 'unused'
}

export interface InterfaceRequest {
  readonly interfaces: readonly AddressInfo[]
  /** The main IPv4 table in the kernel's order, and the main IPv6 table. */
  readonly routes: readonly RouteInfo[]
  readonly routes6: readonly RouteInfo[]
  readonly needs: AddressNeeds
  /** Values of --iface, in order. */
  readonly ifaces: readonly string[]
  /** Values of --iface-regex, in order. */
  readonly regexes: readonly string[]
  /** Value of --iface-can-reach with the kernel's way there, null = not given. */
  readonly canReach: Reaching | null
  /** Value of --public-ip, null = not given. */
  readonly publicIP: string | null
  /** Value of --public-ipv6, null = not given. */
  readonly publicIPv6: string | null
}

/** An address, and how the kernel would send to it. */
export interface Reaching {
  readonly address: string
  /** Name of the device, and the source address; or why there is no way. */
  readonly way: { readonly device: string; readonly source: string } | { readonly miss: string }
}

export interface ChosenInterface {
  readonly name: string
  readonly index: number
  /** Bytes. */
  readonly mtu: number
  /** Dotted quad: the address that an IPv4 socket of the underlay binds to; null = unused, or there is none. */
  readonly address: string | null
  /** Dotted quad: the address published in the lease; null = none. */
  readonly externalAddress: string | null
  /** The same of IPv6. */
  readonly address6: string | null
  readonly externalAddress6: string | null
  /** What was tried and chosen, for the log. */
  readonly notes: readonly string[]
}

/** A finding, or why there is none. */
type Found =
  | {
      readonly link: AddressInfo
      readonly address: string | null
      readonly address6: string | null
    }
  | { readonly miss: string }

/**
 * Chooses the external interface and its addresses.
 * @throws HeddleError HEDDLE_INTERFACE with every miss and a list of what the host has
 */
export function chooseInterface(request: InterfaceRequest): ChosenInterface {
  const { interfaces, publicIP, publicIPv6 } = request
  const notes: string[] = []
  if (publicIP !== null && parseAddr4(publicIP) === null) {
    throw failure(`--public-ip=${publicIP} is no IPv4 address`, interfaces)
  }
  if (publicIPv6 !== null && parseAddr6(publicIPv6) === null) {
    throw failure(`--public-ipv6=${publicIPv6} is no IPv6 address`, interfaces)
  }
  const { ifaces, regexes, canReach } = request
  const isGiven = ifaces.length > 0 || regexes.length > 0 || canReach !== null
  const wanted = isGiven ? ifaces : publicOf(request)
  const searches = [
    ...wanted.map((value) => () => findByValue(request, value)),
    ...regexes.map((text) => () => findByRegex(request, text)),
    ...(canReach === null ? [] : [() => findByWay(request, canReach)]),
  ]
  if (searches.length === 0) {
    notes.push('Determining IP address of default interface')
    searches.push(() => findByDefaultRoute(request))
  }
  for (const search of searches) {
    const found = search()
    if ('link' in found) return describeChoice(found, request, notes)
    notes.push(`Could not find a valid interface: ${found.miss}`)
  }
  throw failure(notes.filter((note) => note.startsWith('Could not')).join('; '), interfaces)
}

/** The public address that stands for a missing --iface, of a family that is needed. */
function publicOf({ needs, publicIP, publicIPv6 }: InterfaceRequest): string[] {
  if (publicIP !== null && needs.ipv4 === 'required') return [publicIP]
  return publicIPv6 !== null && needs.ipv6 === 'required' ? [publicIPv6] : []
}

function describeChoice(
  { link, address, address6 }: Extract<Found, { link: AddressInfo }>,
  { needs, publicIP, publicIPv6 }: InterfaceRequest,
  before: readonly string[],
): ChosenInterface {
  const { ifname: name, ifindex: index, mtu } = link
  const notes = [...before]
  if (address !== null) {
    notes.push(
      `Using interface with name ${name} and address ${address}`,
      publicIP === null
        ? `Defaulting external address to interface address (${address})`
        : `Using ${publicIP} as external address`,
    )
  }
  if (address6 !== null) {
    notes.push(
      `Using interface with name ${name} and v6 address ${address6}`,
      publicIPv6 === null
        ? `Defaulting external v6 address to interface address (${address6})`
        : `Using ${publicIPv6} as external v6 address`,
    )
  }
  return {
    name,
    index,
    mtu,
    address,
    externalAddress: needs.ipv4 === 'unused' ? null : (publicIP ?? address),
    address6,
    externalAddress6: needs.ipv6 === 'unused' ? null : canonical6(publicIPv6 ?? address6),
    notes,
  }
}

function canonical6(text: string | null): string | null {
  const addr = text === null ? null : parseAddr6(text)
  return addr === null ? null : formatAddr6(addr)
}

function findByValue(request: InterfaceRequest, value: string): Found {
  const { interfaces, needs } = request
  if (parseAddr6(value) !== null) {
    if (needs.ipv6 === 'unused') {
      return { miss: `${value} is an IPv6 address, the underlay needs an IPv4 address` }
    }
    const address6 = canonical6(value)
    const owner = interfaces.find((i) =>
      i.addr_info.some((a) => a.family === 'inet6' && canonical6(a.local ?? '') === address6),
    )
    return owner
      ? accept(owner, request, { address6 })
      : { miss: `no interface has the address ${value}` }
  }
  if (parseAddr4(value) !== null) {
    if (needs.ipv4 === 'unused') {
      return { miss: `${value} is an IPv4 address, the underlay needs an IPv6 address` }
    }
    const owner = interfaces.find((i) => i.addr_info.some((a) => a.local === value))
    return owner
      ? accept(owner, request, { address: value })
      : { miss: `no interface has the address ${value}` }
  }
  const link = interfaces.find((i) => i.ifname === value)
  return link ? accept(link, request, {}) : { miss: `there is no interface "${value}"` }
}

/** The first interface with an address that matches, of each family that is needed; else the first whose name does. */
function findByRegex(request: InterfaceRequest, text: string): Found {
  const { interfaces, needs } = request
  const regex = createRegex(text)
  if (regex === null) return { miss: `--iface-regex=${text} is no regular expression` }
  const byIndex = [...interfaces].sort((a, b) => a.ifindex - b.ifindex)
  const matching = (link: AddressInfo, family: string): string | undefined =>
    link.addr_info.find((a) => a.family === family && regex.test(a.local ?? ''))?.local
  for (const link of byIndex) {
    const address = needs.ipv4 === 'required' ? matching(link, 'inet') : undefined
    const address6 = needs.ipv6 === 'required' ? matching(link, 'inet6') : undefined
    const isMatch =
      (needs.ipv4 !== 'required' || address !== undefined) &&
      (needs.ipv6 !== 'required' || address6 !== undefined)
    if (isMatch) {
      return accept(link, request, {
        ...(address === undefined ? {} : { address }),
        ...(address6 === undefined ? {} : { address6: canonical6(address6) }),
      })
    }
  }
  const named = byIndex.find(({ ifname }) => regex.test(ifname))
  return named
    ? accept(named, request, {})
    : { miss: `no interface has an address or a name that matches ${text}` }
}

/** Go's syntax where JavaScript's differs and people use it: flags for the whole at its beginning. */
function createRegex(text: string): RegExp | null {
  const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(text) ?? []
  try {
    return new RegExp(rest, flags)
  } catch {
    return null
  }
}

/** The kernel's way to an address gives the interface, and the source address of its family. */
function findByWay(request: InterfaceRequest, { address: to, way }: Reaching): Found {
  if ('miss' in way) return { miss: `there is no way to ${to}: ${way.miss}` }
  const link = request.interfaces.find(({ ifname }) => ifname === way.device)
  if (link === undefined) return { miss: `${way.device}, which routes to ${to}, is gone` }
  const isV6 = way.source.includes(':')
  return accept(
    link,
    request,
    isV6 ? { address6: canonical6(way.source) } : { address: way.source },
  )
}

function findByDefaultRoute(request: InterfaceRequest): Found {
  const isV4 = request.needs.ipv4 === 'required'
  const [routes, any, name] = isV4
    ? [request.routes, '0.0.0.0/0', 'IPv4']
    : [request.routes6, '::/0', 'IPv6']
  for (const route of routes) {
    if (route.dst !== 'default' && route.dst !== any) continue
    const device = route.dev ?? route.nexthops?.find((hop) => hop.dev !== undefined)?.dev
    const link = request.interfaces.find((i) => i.ifname === device)
    if (link) return accept(link, request, {})
  }
  return { miss: `there is no ${name} default route; name the interface with --iface` }
}

/** Takes an interface, with addresses that were asked for or the ones that it prefers. */
function accept(
  link: AddressInfo,
  { needs }: InterfaceRequest,
  given: { readonly address?: string; readonly address6?: string | null },
): Found {
  if (link.mtu <= 0) return { miss: `interface ${link.ifname} has MTU 0` }
  const address = needs.ipv4 === 'unused' ? null : (given.address ?? preferredAddress(link, rank4))
  const address6 =
    needs.ipv6 === 'unused' ? null : (given.address6 ?? preferredAddress(link, rank6))
  if (needs.ipv4 === 'required' && address === null) {
    return { miss: `interface ${link.ifname} has no usable IPv4 address` }
  }
  if (needs.ipv6 === 'required' && address6 === null) {
    return {
      miss: `interface ${link.ifname} has no usable IPv6 address (link-local ones are none)`,
    }
  }
  return { link, address, address6 }
}

type AddressRow = AddressInfo['addr_info'][number]

/** The address of the lowest rank, the first of equals; null = none has a rank. */
function preferredAddress(
  link: AddressInfo,
  rankOf: (row: AddressRow) => number | null,
): string | null {
  let best: { local: string; rank: number } | null = null
  for (const row of link.addr_info) {
    const rank = row.deprecated === true ? null : rankOf(row)
    if (rank !== null && (best === null || rank < best.rank))
      best = { local: row.local ?? '', rank }
  }
  return best?.local ?? null
}

/** Global before link-local, then permanent before dynamic, then primary. */
function rank4({ family, local = '', dynamic, secondary }: AddressRow): number | null {
  const addr = family === 'inet' ? parseAddr4(local) : null
  if (addr === null || !isUnicast(addr)) return null
  return (isLinkLocal(addr) ? 4 : 0) + (dynamic === true ? 2 : 0) + (secondary === true ? 1 : 0)
}

/**
 * Permanent before dynamic, then no temporary one. Peers cannot send to a link-local address, which
 * flannel would take: it needs to be told a link.
 */
function rank6({
  family,
  local = '',
  dynamic,
  temporary,
  tentative,
  dadfailed,
}: AddressRow): number | null {
  const addr = family === 'inet6' ? parseAddr6(local) : null
  if (addr === null || tentative === true || dadfailed === true || !isReachable6(addr)) return null
  return (dynamic === true ? 2 : 0) + (temporary === true ? 1 : 0)
}

/** Neither unspecified nor loopback, multicast or broadcast. */
function isUnicast(addr: number): boolean {
  return addr !== 0 && addr >>> 24 !== 127 && addr >>> 28 !== 14 && addr !== 0xffffffff
}

/** 169.254.0.0/16. Source: RFC 3927 §2.1 */
function isLinkLocal(addr: number): boolean {
  return addr >>> 16 === 0xa9fe
}

/** Neither unspecified, loopback, link-local (fe80::/10) nor multicast (ff00::/8). Source: RFC 4291 §2.4 */
export function isReachable6(addr: bigint): boolean {
  return addr > 1n && addr >> 118n !== 0x3fan && addr >> 120n !== 0xffn
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
