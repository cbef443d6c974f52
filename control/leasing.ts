/**
 * How this host comes by its lease, keeps it, and learns of those of others.
 *
 * There are two ways: hosts choose free subnets in a store that they share (store-leasing.ts), or somebody else has
 * given each host its subnet already, as Kubernetes does (kube/kube-leasing.ts). The agent knows neither.
 * Every call takes an AbortSignal and rejects with an `AbortError`-named error once it fires.
 */
import type { Lease, LeaseAttrs } from './lease.js'
import type { NetworkConfig } from './network-config.js'
import type { StoreEvent } from './store/store.js'

/** Addresses by which peers reach a host; null = not told. */
export interface GivenAddresses {
  readonly publicIP: string | null
  readonly publicIPv6: string | null
}

export interface Leasing {
  /** One line for the log: kind and place, without secrets. */
  readonly description: string

  /**
   * The network configuration, null when nobody has set it.
   * @throws HeddleError HEDDLE_CONFIG for one that is not valid, HEDDLE_STORE when it cannot be read
   */
  readConfig(signal: AbortSignal): Promise<NetworkConfig | null>

  /** What would keep a program that starts now from taking its lease, null = nothing is known. */
  whyNot(signal: AbortSignal): Promise<string | null>

  /** Addresses that are told for this host in place of those of the command line. */
  givenAddresses(signal: AbortSignal): Promise<GivenAddresses>

  /**
   * What this host published last time, null = nothing that is still known.
   * @param addresses  by which a store knows the host
   */
  published(
    addresses: Pick<LeaseAttrs, 'publicIP' | 'publicIPv6'>,
    signal: AbortSignal,
  ): Promise<LeaseAttrs | null>

  /** Takes a lease for this host, and publishes what it says of itself. */
  take(config: NetworkConfig, attrs: LeaseAttrs, signal: AbortSignal): Promise<Tenure>

  /** Every change to the leases after {@link take}, as a store's. @see SubnetStore.watch */
  watch(signal: AbortSignal): AsyncIterable<StoreEvent>

  /** Packets flow. */
  noteReady(): void

  /** Releases connections and timers. */
  close(): Promise<void>
}

/** The own lease while it is held. */
export interface Tenure {
  /** As last seen. */
  readonly lease: Lease

  /**
   * Does whatever the lease needs to stay, until the signal fires.
   * @throws HEDDLE_LEASE_LOST / HEDDLE_LEASE_EVICTED when it is no longer ours
   */
  renew(signal: AbortSignal): Promise<void>

  /**
   * Takes note of the own lease as the watch shows it now.
   * @param seen  null = it is gone
   * @throws HEDDLE_LEASE_LOST / HEDDLE_LEASE_EVICTED when the daemon has to stop
   */
  observe(seen: Lease | null, signal: AbortSignal): Promise<void>
}
