/**
 * Which subnet this host should lease, given what is leased already.
 *
 * Pure, one decision per call: the own lease if it still fits the configuration, else the subnet
 * of last time if nobody overlaps it, else one of the first 100 free ones at random, so that hosts
 * starting together rarely collide. A host is recognised by its IPv4 public address alone, if it has one.
 * Free subnets are found by stepping over whole leased ranges: the cost is that of sorting the
 * leases, however large the network is.
 */
import {
  hasIpv4,
  isSameHost,
  NO_IPV4,
  type Lease,
  type LeaseAttrs,
  type LeaseSubnet,
} from './lease.js'
import type { NetworkConfig, SubnetRange } from './network-config.js'
import { overlaps4, overlaps6, prefix4, prefix6, size4, size6 } from './prefix.js'

/** How many free subnets are candidates, as in flannel. */
const CANDIDATES = 100

export interface SubnetRequest {
  readonly config: NetworkConfig
  /** Every lease of the network, in key order. */
  readonly leases: readonly Lease[]
  /** What this host publishes: it tells the own lease. */
  readonly attrs: LeaseAttrs
  /** The subnet of last time, null = none known. */
  readonly previous: LeaseSubnet | null
  /** Uniform in [0, 1), as Math.random. */
  readonly random: () => number
}

export type SubnetChoice =
  /** The own lease fits: renew it. */
  | { readonly kind: 'reuse'; readonly lease: Lease }
  /** The own lease does not fit the configuration: delete its key, then choose again. */
  | { readonly kind: 'incompatible'; readonly lease: Lease }
  | { readonly kind: 'create'; readonly subnet: LeaseSubnet; readonly isPrevious: boolean }
  /** Every subnet of the network is taken. */
  | { readonly kind: 'exhausted' }
  /** The network is of IPv6 alone, and this lease is not. */
  | { readonly kind: 'foreign'; readonly lease: Lease }

/** Chooses the subnet; never throws. */
export function chooseSubnet(request: SubnetRequest): SubnetChoice {
  const { config, leases, attrs, previous, random } = request
  // flannel cannot live beside keys without an IPv4 subnet: none are written where it may be.
  const foreign = config.ipv4 === null ? leases.find(({ subnet }) => hasIpv4(subnet)) : undefined
  if (foreign !== undefined) return { kind: 'foreign', lease: foreign }
  const own = leases.find((lease) => isSameHost(lease.attrs, attrs))
  if (own !== undefined) {
    return { kind: fitsConfig(own.subnet, config) ? 'reuse' : 'incompatible', lease: own }
  }
  if (previous !== null) {
    const subnet = {
      v4: config.ipv4 === null ? NO_IPV4 : previous.v4,
      v6: config.ipv6 === null ? null : previous.v6,
    }
    const isTaken = leases.some((lease) => overlaps(lease.subnet, subnet))
    if (fitsConfig(subnet, config) && !isTaken) return { kind: 'create', subnet, isPrevious: true }
  }
  const v4 = config.ipv4 === null ? NO_IPV4 : pickFree4(config.ipv4, leases, random)
  const v6 = config.ipv6 === null ? null : pickFree6(config.ipv6, leases, random)
  if (v4 === undefined || v6 === undefined) return { kind: 'exhausted' }
  return { kind: 'create', subnet: { v4, v6 }, isPrevious: false }
}

/** Whether a subnet has the configured length and range in each configured family. */
function fitsConfig(subnet: LeaseSubnet, { ipv4, ipv6 }: NetworkConfig): boolean {
  if (ipv4 === null ? hasIpv4(subnet) : !fitsRange(subnet.v4, ipv4)) return false
  if (ipv6 === null || subnet.v6 === null) return ipv6 === subnet.v6
  return fitsRange(subnet.v6, ipv6)
}

function fitsRange<A, P extends { readonly addr: A; readonly len: number }>(
  prefix: P,
  range: SubnetRange<A, P>,
): boolean {
  const { subnetLen, subnetMin, subnetMax } = range
  return prefix.len === subnetLen && prefix.addr >= subnetMin && prefix.addr <= subnetMax
}

function overlaps(a: LeaseSubnet, b: LeaseSubnet): boolean {
  return (
    (hasIpv4(a) && hasIpv4(b) && overlaps4(a.v4, b.v4)) ||
    (a.v6 !== null && b.v6 !== null && overlaps6(a.v6, b.v6))
  )
}

function pickFree4(
  range: SubnetRange<number, LeaseSubnet['v4']>,
  leases: readonly Lease[],
  random: () => number,
) {
  const leased = leases
    .filter(({ subnet }) => hasIpv4(subnet))
    .map(({ subnet: { v4 } }) => ({
      first: BigInt(v4.addr),
      end: BigInt(v4.addr + size4(v4.len)),
    }))
  const step = BigInt(size4(range.subnetLen))
  const free = firstFree(BigInt(range.subnetMin), BigInt(range.subnetMax), step, leased)
  const addr = pick(free, random)
  return addr === undefined ? undefined : prefix4(Number(addr), range.subnetLen)
}

function pickFree6(
  range: SubnetRange<bigint, NonNullable<LeaseSubnet['v6']>>,
  leases: readonly Lease[],
  random: () => number,
) {
  const leased = leases.flatMap(({ subnet: { v6 } }) =>
    v6 === null ? [] : [{ first: v6.addr, end: v6.addr + size6(v6.len) }],
  )
  const step = size6(range.subnetLen)
  const addr = pick(firstFree(range.subnetMin, range.subnetMax, step, leased), random)
  return addr === undefined ? undefined : prefix6(addr, range.subnetLen)
}

function pick(candidates: readonly bigint[], random: () => number): bigint | undefined {
  return candidates[Math.floor(random() * candidates.length)]
}

/**
 * The first free subnets in ascending order, at most CANDIDATES.
 * @param min,max  bases of the first and last subnet, multiples of `step`
 * @param leased   address ranges [first, end) in any order; they may nest and overlap
 */
function firstFree(
  min: bigint,
  max: bigint,
  step: bigint,
  leased: readonly { readonly first: bigint; readonly end: bigint }[],
): bigint[] {
  const ranges = leased
    .filter(({ first, end }) => end > min && first < max + step)
    .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
  const free: bigint[] = []
  let base = min
  const takeUntil = (limit: bigint) => {
    for (; base + step <= limit && free.length < CANDIDATES; base += step) free.push(base)
  }
  for (const { first, end } of ranges) {
    takeUntil(first)
    // Up to the next boundary at or after the end of this range.
    if (end > base) base = min + ((end - min + step - 1n) / step) * step
  }
  takeUntil(max + step)
  return free
}
