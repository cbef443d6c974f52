/**
 * The store in etcd v3: flannel's keys, flannel's values, flannel's transactions.
 *
 * This file only puts the parts together: etcd-client (calls that end), etcd-reads, etcd-writes,
 * etcd-watch. One store serves one prefix; two prefixes in one etcd do not see each other.
 */
import { joinSignals, settle } from './abort.js'
import { createEtcdClient } from './etcd-client.js'
import type { EtcdAccess, EtcdTimes } from './etcd-endpoint.js'
import { createLeaseExpiry, remainingSeconds } from './etcd-expiry.js'
import { createEtcdKeys } from './etcd-keys.js'
import { createEtcdReads } from './etcd-reads.js'
import { watchEtcd } from './etcd-watch.js'
import { createEtcdWrites } from './etcd-writes.js'
import { createReachability } from './reachability.js'
import type { StoreObserver, SubnetStore } from './store.js'

export interface EtcdStoreOptions extends EtcdAccess, Partial<EtcdTimes> {
  /** Such as `/coreos.com/network`. */
  readonly prefix: string
  readonly observer?: StoreObserver
  /** Time between full listings while watching, ms. Default 300000. */
  readonly relistMs?: number
}

/** Time that close() leaves to revocations under way, ms. */
const CLOSE_GRACE_MS = 500

/**
 * A store in etcd. Connects with the first call, so an etcd that is not there is no error here.
 * @throws HeddleError HEDDLE_USAGE for a bad endpoint, an unreadable file, or half a key pair
 */
export function createEtcdStore(options: EtcdStoreOptions): SubnetStore {
  const observer = options.observer ?? {}
  const times: EtcdTimes = {
    timeoutMs: options.timeoutMs ?? 5000,
    keepAliveMs: options.keepAliveMs ?? 6000,
    keepAliveTimeoutMs: options.keepAliveTimeoutMs ?? 3000,
  }
  const relistMs = options.relistMs ?? 300_000
  const reachability = createReachability(observer)
  const client = createEtcdClient(options, times, reachability)
  const keys = createEtcdKeys(options.prefix)
  const reads = createEtcdReads(client, keys, createLeaseExpiry(client), observer)
  const writes = createEtcdWrites(client, keys)

  async function* watch(outer: AbortSignal) {
    const { signal, dispose } = joinSignals(outer, client.closed)
    try {
      yield* watchEtcd({ client, keys, reads, reachability, relistMs }, signal)
    } finally {
      dispose()
    }
  }

  return {
    description: `etcd ${options.endpoints.join(',')} ${options.prefix}`,
    readConfig: (signal) => reads.config(signal),
    async listLeases(signal) {
      const { entries } = await reads.list(signal)
      return entries.flatMap(({ lease }) => (lease === null ? [] : [lease]))
    },
    readLease: (subnet, signal) => reads.lease(subnet, signal),
    createLease: (subnet, attrs, ttlMs, signal) => writes.create(subnet, attrs, ttlMs, signal),
    updateLease: (lease, attrs, ttlMs, signal) => writes.update(lease, attrs, ttlMs, signal),
    deleteLease: (lease, signal) => writes.remove(lease, signal),
    async isStoreLeaseAlive(lease, signal) {
      if (lease.storeLease === '') return true
      return (await remainingSeconds(client, lease.storeLease, signal)) >= 0
    },
    watch,
    async close() {
      const giveUp = () => new Error('revocations take too long')
      await settle(writes.idle(), client.closed, CLOSE_GRACE_MS, giveUp).catch(() => undefined)
      client.close()
    },
  }
}
