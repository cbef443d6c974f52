/**
 * Acquiring the lease: reuse the host's own, else the subnet of last time, else a free one; create
 * only where nobody was first, and try again when somebody was (flannel behaviour, section "Acquire
 * algorithm"; flanneld itself exits on a lost race, which is a defect).
 */
import { chooseSubnet } from './allocator.js'
import { HeddleError } from './errors.js'
import { formatSubnet, hostOf, type Lease, type LeaseAttrs, type LeaseSubnet } from './lease.js'
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
 * @throws HEDDLE_OUT_OF_SUBNETS when every subnet is taken, HEDDLE_STORE when the store fails,
 *         HEDDLE_CONFIG when an IPv6-only network would share its keys with IPv4 leases
 */
export async function acquireLease(request: AcquireRequest, signal: AbortSignal): Promise<Lease> {
  const { store, config, attrs, ttlMs, log } = request
  const host = hostOf(attrs)
  for (let attempt = 0; attempt <= RACE_RETRIES; attempt++) {
    if (attempt > 0) log.info(`choosing a subnet again (attempt ${String(attempt)})`)
    const leases = await store.listLeases(signal)
    const choice = chooseSubnet({
      config,
      leases,
      host,
      previous: request.previous,
      random: Math.random,
    })
    switch (choice.kind) {
      case 'reuse': {
        const lease = await store.updateLease(choice.lease, attrs, ttlMs, signal)
        if (lease !== null) {
          log.info(`Found lease (${formatSubnet(lease.subnet)}) for current IP (${host}), reusing`)
          return lease
        }
        break
      }
      case 'incompatible':
        log.info(
          `Lease (${formatSubnet(choice.lease.subnet)}) of current IP (${host}) does not fit the network configuration, deleting`,
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
              : `Allocated lease (${formatSubnet(lease.subnet)}) to current node (${host})`,
          )
          return lease
        }
        break
      }
      case 'foreign':
        throw new HeddleError(
          'HEDDLE_CONFIG',
          `EnableIPv4 is false, but ${formatSubnet(choice.lease.subnet)} is leased by ${hostOf(choice.lease.attrs)} in this network: daemons that lease IPv4 would be harmed by leases without it; use a prefix or directory of its own for the IPv6-only network, or stop those daemons and delete their keys`,
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
