/**
 * When etcd will forget a lease's key, asked once for each etcd lease.
 *
 * Nobody in a flannel network extends an etcd lease: renewing attaches the key to a new one. So an
 * answer stays true until it has passed, and a periodic listing asks only for leases it has not
 * met. etcd tells whole seconds, rounded down; a lease may live up to one second longer than told.
 */
import type { EtcdClient } from './etcd-client.js'

/** Questions under way at the same time. */
const PARALLEL = 16

export interface LeaseExpiry {
  /**
   * Unix time in ms for each etcd lease id; the time of asking for one that is gone already.
   * @throws as EtcdClient.call
   */
  of(ids: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, number>>
  /** Forgets all ids but these, which are the ones in use. */
  keepOnly(ids: Iterable<string>): void
}

export function createLeaseExpiry(client: EtcdClient): LeaseExpiry {
  const known = new Map<string, number>()

  async function ask(id: string, signal: AbortSignal): Promise<number> {
    const seconds = await remainingSeconds(client, id, signal)
    const expiresAt = Date.now() + Math.max(0, seconds) * 1000
    if (seconds >= 0) known.set(id, expiresAt)
    return expiresAt
  }

  return {
    async of(ids, signal) {
      const result = new Map<string, number>()
      const open: string[] = []
      for (const id of new Set(ids)) {
        const expiresAt = known.get(id)
        if (expiresAt !== undefined && expiresAt > Date.now()) result.set(id, expiresAt)
        else open.push(id)
      }
      const work = async () => {
        for (let id = open.pop(); id !== undefined; id = open.pop()) {
          result.set(id, await ask(id, signal))
        }
      }
      await Promise.all(Array.from({ length: Math.min(PARALLEL, open.length) }, work))
      return result
    },
    keepOnly(ids) {
      const inUse = new Set(ids)
      for (const id of known.keys()) if (!inUse.has(id)) known.delete(id)
    },
  }
}

/** Seconds an etcd lease has left, rounded down; -1 when there is no such lease. */
export async function remainingSeconds(
  client: EtcdClient,
  id: string,
  signal: AbortSignal,
): Promise<number> {
  const answer = await client.call(signal, (etcd, options) =>
    etcd.leaseClient.leaseTimeToLive({ ID: id, keys: false }, options),
  )
  return Number(answer.TTL)
}
