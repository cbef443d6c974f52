/**
 * Leasing where hosts choose: a free subnet of the network, in a store that all of them share, for a lifetime that each
 * renews.
 */
import { acquireLease } from './acquire.js'
import { LeaseKeeper } from './keeper.js'
import { isSameHost, type LeaseSubnet } from './lease.js'
import type { Leasing } from './leasing.js'
import type { Logger } from './log.js'
import { parseNetworkConfig, type NetworkConfig } from './network-config.js'
import type { SubnetStore } from './store/store.js'

export interface StoreLeasingOptions {
  readonly store: SubnetStore
  /** The subnet of last time, null = none known. */
  readonly previous: LeaseSubnet | null
  readonly leaseTtlMs: number
  readonly renewMarginMs: number
  readonly log: Logger
}

export function createStoreLeasing(options: StoreLeasingOptions): Leasing {
  const { store, previous, leaseTtlMs: ttlMs, renewMarginMs: marginMs, log } = options
  const readConfig = async (signal: AbortSignal): Promise<NetworkConfig | null> => {
    const text = await store.readConfig(signal)
    return text === null ? null : parseNetworkConfig(text)
  }
  return {
    description: store.description,
    readConfig,
    whyNot: async (signal) =>
      (await readConfig(signal)) === null ? 'there is no network config' : null,
    givenAddresses: () => Promise.resolve({ publicIP: null, publicIPv6: null }),
    published: async (addresses, signal) => {
      const leases = await store.listLeases(signal)
      return leases.find(({ attrs }) => isSameHost(attrs, addresses))?.attrs ?? null
    },
    take: async (config, attrs, signal) => {
      const lease = await acquireLease({ store, config, attrs, previous, ttlMs, log }, signal)
      return new LeaseKeeper(lease, { store, attrs, ttlMs, marginMs, log })
    },
    watch: (signal) => store.watch(signal),
    noteReady: () => undefined,
    close: () => store.close(),
  }
}
