/**
 * A lease: which host owns which subnet, and how its peers reach it.
 */
import { formatPrefix4, formatPrefix6, type Prefix4, type Prefix6 } from './prefix.js'

/** The subnet that one key stands for: IPv4 always, IPv6 in dual-stack networks. */
export interface LeaseSubnet {
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

/** A subnet as people read it: `10.5.52.0/24`, or both families joined by a comma. */
export function formatSubnet(subnet: LeaseSubnet): string {
  const v4 = formatPrefix4(subnet.v4)
  return subnet.v6 === null ? v4 : `${v4},${formatPrefix6(subnet.v6)}`
}
