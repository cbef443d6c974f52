/**
 * Acquiring the lease: reuse the host's own, else the subnet of last time, else a free one; create
 * only where nobody was first, and try again when somebody was (flannel behaviour, section "Acquire
 * algorithm"; flanneld itself exits on a lost race, which is a defect).
 */
import { chooseSubnet } from './allocator.js'
import { HeddleError } from './errors.js'
import {
  formatSubnet,
  hasIpv4,
  hostAddress,
  type Lease,
  type LeaseAttrs,
  type LeaseSubnet,
} from './lease.js'
import type { Logger } from './log.js'
import type { NetworkConfig } from './network-config.js'
import { overlaps4, overlaps6 } from './prefix.js'
import type { SubnetStore } from './store/store.js'

/** How often a lost race is tried again before giving up, as flannel. */
const RACE_RETRIES = 10

export interface AcquireRequest {
  readonly store: SubnetStore
  readonly config: NetworkConfig
  readonly attrs: LeaseAttrs
  readonly previous: LeaseSubnet | null
  readonly ttlMs: number
  readonly log: Logger
}

/**
 * A lease under another key that overlaps ours and came while we chose: the store refuses a second lease of
 * one key alone, and two hosts may have picked different IPv4 subnets with the same IPv6 subnet, or subnets of
 * different lengths. Whoever comes later sees the other, and gives way.
 */
function rivalOf(own: Lease, before: readonly Lease[], now: readonly Lease[]): Lease | null {
  const known = new Set(before.map(({ subnet }) => formatSubnet(subnet)))
  const ownText = formatSubnet(own.subnet)
  const rival = now.find(({ subnet }) => {
    const text = formatSubnet(subnet)
    if (text === ownText || known.has(text)) return false
    const is4 = hasIpv4(subnet) && hasIpv4(own.subnet) && overlaps4(subnet.v4, own.subnet.v4)
    const { v6 } = subnet
    return is4 || (v6 !== null && own.subnet.v6 !== null && overlaps6(v6, own.subnet.v6))
  })
  return rival ?? null
}

/**
 * Takes a lease for this host.
 * @throws HEDDLE_OUT_OF_SUBNETS when every subnet is taken, HEDDLE_STORE when the store fails
 */
export async function acquireLease(request: AcquireRequest, signal: AbortSignal): Promise<Lease> {
  const { store, config, attrs, ttlMs, log } = request
  for (let attempt = 0; attempt <= RACE_RETRIES; attempt++) {
    if (attempt > 0) log.info(`choosing a subnet again (attempt ${String(attempt)})`)
    const leases = await store.listLeases(signal)
    const choice = chooseSubnet({
      config,
      leases,
      attrs,
      previous: request.previous,
      random: Math.random,
    })
    switch (choice.kind) {
      case 'reuse': {
        const lease = await store.updateLease(choice.lease, attrs, ttlMs, signal)
        if (lease !== null) {
          log.info(
            `Found lease (${formatSubnet(lease.subnet)}) for current IP (${hostAddress(attrs)}), reusing`,
          )
          return lease
        }
        break
      }
      case 'incompatible':
        log.info(
          `Lease (${formatSubnet(choice.lease.subnet)}) of current IP (${hostAddress(attrs)}) does not fit the network configuration, deleting`,
        )
        // Gone, or changed meanwhile: either way the next round sees what is there.
        await store.deleteLease(choice.lease, signal)
        break
      case 'create': {
        const lease = await store.createLease(choice.subnet, attrs, ttlMs, signal)
        const rival = lease === null ? null : rivalOf(lease, leases, await store.listLeases(signal))
        if (lease !== null && rival !== null) {
          log.info(
            `${formatSubnet(rival.subnet)} was leased to ${hostAddress(rival.attrs)} at the same time, giving ${formatSubnet(lease.subnet)} back`,
          )
          await store.deleteLease(lease, signal)
        } else if (lease !== null) {
          log.info(
            choice.isPrevious
              ? `Found previously leased subnet (${formatSubnet(lease.subnet)}), reusing`
              : `Allocated lease (${formatSubnet(lease.subnet)}) to current node (${hostAddress(attrs)})`,
          )
          return lease
        }
        break
      }
      case 'foreign':
        throw new HeddleError(
          'HEDDLE_CONFIG',
          `the network has no IPv4 (EnableIPv4 is false), but ${formatSubnet(choice.lease.subnet)} is leased to ${hostAddress(choice.lease.attrs)}: flannel daemons there would be harmed by leases without an IPv4 subnet. Use another prefix or directory for this network, or remove that lease if its host is gone`,
        )
      case 'exhausted':
        throw new HeddleError(
          'HEDDLE_OUT_OF_SUBNETS',
          `out of subnets: all ${String(leases.length)} subnets of the network are taken; enlarge Network, widen SubnetMin..SubnetMax or raise SubnetLen`,
        )
    }
  }
  throw new HeddleError(
    'HEDDLE_STORE',
    `no subnet after ${String(RACE_RETRIES)} attempts: other hosts were faster each time`,
    { retryable: true },
  )
}
