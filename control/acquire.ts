/**
 * Acquiring the lease: reuse the host's own, else the subnet of last time, else a free one; create
 * only where nobody was first, and try again when somebody was (flannel behaviour, section "Acquire
 * algorithm"; flanneld itself exits on a lost race, which is a defect).
 */
import { chooseSubnet } from './allocator.js'
import { HeddleError } from './errors.js'
import {
  formatSubnet,
  hostAddress,
  type Lease,
  type LeaseAttrs,
  type LeaseSubnet,
} from './lease.js'
import type { Logger } from './log.js'
import type { NetworkConfig } from './network-config.js'
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
        if (lease !== null) {
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
