/**
 * A lease: which host owns which subnet, and how its peers reach it.
 */
import { formatPrefix4, formatPrefix6, type Prefix4, type Prefix6 } from './prefix.js'

/** The subnet that one key stands for: IPv4, and IPv6 in networks that have it. */
export interface LeaseSubnet {
  /** {@link NO_IPV4} in networks of IPv6 alone. */
  readonly v4: Prefix4
  readonly v6: Prefix6 | null
}

/** What a host publishes under its subnet key. */
export interface LeaseAttrs {
  /** Dotted quad. */
  readonly publicIP: string
  /** RFC 5952 text, null = none. */
  readonly publicIPv6: string | null
  /** Empty for `udp` and `alloc`. */
  readonly backendType: string
  /** Parsed JSON of BackendData / BackendV6Data; undefined = absent. */
  readonly backendData?: unknown
  readonly backendV6Data?: unknown
}

export interface Lease {
  readonly subnet: LeaseSubnet
  readonly attrs: LeaseAttrs
  /** Unix time in ms at which the store forgets it; null = never (a reservation). */
  readonly expiresAt: number | null
  /** Opaque version of the record: changes with every write of the key. */
  readonly version: string
  /** Opaque id of the store's lease (etcd lease id), empty = none. */
  readonly storeLease: string
}

/** What stands where a lease has no IPv4 subnet, or its host no IPv4 address: flannel's zero values. */
export const NO_IPV4: Prefix4 = { addr: 0, len: 0 }
export const NO_PUBLIC_IP = '0.0.0.0'

/** Whether a lease has an IPv4 subnet. */
export function hasIpv4(subnet: LeaseSubnet): boolean {
  return subnet.v4.len > 0
}

type HostAddresses = Pick<LeaseAttrs, 'publicIP' | 'publicIPv6'>

/**
 * Whether two leases are of one host. A host is known by its IPv4 address alone, as flannel has it,
 * and only where it has none by its IPv6 address.
 */
export function isSameHost(a: HostAddresses, b: HostAddresses): boolean {
  if (a.publicIP !== NO_PUBLIC_IP || b.publicIP !== NO_PUBLIC_IP) return a.publicIP === b.publicIP
  return a.publicIPv6 !== null && a.publicIPv6 === b.publicIPv6
}

/** The address by which a host is known. */
export function hostAddress({ publicIP, publicIPv6 }: HostAddresses): string {
  return publicIP === NO_PUBLIC_IP && publicIPv6 !== null ? publicIPv6 : publicIP
}

/** The prefixes of a subnet as text: of IPv4, of IPv6, or both. */
export function prefixesOf(subnet: LeaseSubnet): string[] {
  const v4 = hasIpv4(subnet) ? [formatPrefix4(subnet.v4)] : []
  const v6 = subnet.v6 === null ? [] : [formatPrefix6(subnet.v6)]
  return [...v4, ...v6]
}

/** A subnet as people read it: `10.5.52.0/24`, or both families joined by a comma. */
export function formatSubnet(subnet: LeaseSubnet): string {
  return prefixesOf(subnet).join(',')
}
