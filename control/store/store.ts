/**
 * Where leases are kept, behind one interface: etcd, or a directory for the daemons of one machine.
 *
 * A store speaks in leases and never in keys; what it reads that is no lease is skipped, counted and
 * reported through `onSkip`, never thrown. Every call takes an AbortSignal and rejects with an
 * `AbortError`-named error once it fires. Errors are `HeddleError`s with `retryable` set.
 */
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease.js'

export type StoreEvent =
  /** The complete set of leases: first, and again after compaction, a reconnect that lost history, or the periodic re-list. */
  | { readonly type: 'snapshot'; readonly leases: readonly Lease[] }
  | { readonly type: 'put'; readonly lease: Lease }
  | { readonly type: 'delete'; readonly subnet: LeaseSubnet }

export interface SubnetStore {
  /** One line for the log: kind and place, without secrets. */
  readonly description: string

  /** The network configuration's JSON text, null when nobody has set it. */
  readConfig(signal: AbortSignal): Promise<string | null>

  /** All leases, in ascending key order. */
  listLeases(signal: AbortSignal): Promise<readonly Lease[]>

  /** One lease by its exact subnet, null = no such key. */
  readLease(subnet: LeaseSubnet, signal: AbortSignal): Promise<Lease | null>

  /**
   * Creates a lease only where the key does not exist.
   * @param ttlMs  lifetime
   * @returns      the lease, or null when somebody else was first
   */
  createLease(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlMs: number,
    signal: AbortSignal,
  ): Promise<Lease | null>

  /**
   * Rewrites a lease under a fresh lifetime, only if the key still has the version we know.
   * A lease without expiry (reservation) keeps having none.
   * @returns  the new lease, or null when the key has another version or is gone
   */
  updateLease(
    lease: Lease,
    attrs: LeaseAttrs,
    ttlMs: number,
    signal: AbortSignal,
  ): Promise<Lease | null>

  /** Deletes the key of a lease if it still has the version we know. @returns whether it did */
  deleteLease(lease: Lease, signal: AbortSignal): Promise<boolean>

  /**
   * Whether the store's own lease behind a vanished key is still alive: true means that somebody
   * deleted the key (an operator evicted the host), false that it expired.
   */
  isStoreLeaseAlive(lease: Lease, signal: AbortSignal): Promise<boolean>

  /**
   * Every change to the leases, beginning with a snapshot. Reconnects, re-lists and backs off by
   * itself; ends only when the signal fires (then it returns, it does not throw).
   */
  watch(signal: AbortSignal): AsyncIterable<StoreEvent>

  /** Releases connections and timers. */
  close(): Promise<void>
}

/** What a store tells its owner beside results: garbage it skipped, connections lost and regained. */
export interface StoreObserver {
  /** A key or value that is no lease. `what` names the key, `why` the fault. */
  onSkip?(what: string, why: string): void
  /** The store cannot be reached / is reached again. Called on changes only. */
  onConnection?(up: boolean, detail: string): void
}
