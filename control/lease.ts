/**
 * A lease: which host owns which subnet, and how its peers reach it.
 */
import { formatPrefix4, formatPrefix6, type Prefix4, type Prefix6 } from './prefix.js'

/** The subnet that one key stands for: IPv4, both families, or IPv6 alone in an IPv6-only network. */
export type LeaseSubnet =
  | { readonly v4: Prefix4; readonly v6: Prefix6 | null }
  | { readonly v4: null; readonly v6: Prefix6 }

/** What stands for PublicIP where a host has no IPv4 address to publish. */
export const NO_PUBLIC_IP = '0.0.0.0'

/** What a host publishes under its subnet key. */
export interface LeaseAttrs {
  /** Dotted quad, {@link NO_PUBLIC_IP} = none. */
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

/** The address by which hosts are told apart: PublicIP, as with flannel; PublicIPv6 where there is none. */
export function hostOf({ publicIP, publicIPv6 }: LeaseAttrs): string {
  return publicIP === NO_PUBLIC_IP ? (publicIPv6 ?? publicIP) : publicIP
}

/** A subnet as people read it: `10.5.52.0/24`, or both families joined by a comma. */
export function formatSubnet({ v4, v6 }: LeaseSubnet): string {
  if (v4 === null) return formatPrefix6(v6)
  return v6 === null ? formatPrefix4(v4) : `${formatPrefix4(v4)},${formatPrefix6(v6)}`
}
