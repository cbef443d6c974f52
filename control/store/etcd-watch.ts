/**
 * Following the leases in etcd: list, then watch from the next revision, for as long as asked.
 *
 * Whatever breaks the stream, the loop waits and resumes behind the last event it has passed on;
 * only a compacted revision, or a refusal by etcd, makes it list again. A periodic listing repairs
 * what any defect may have lost; it needs no new stream, since events up to its revision are then
 * passed over. A key that held a lease and now holds garbage keeps its lease until it is deleted.
 */
import type { IEvent } from 'etcd3'
import type { Lease } from '../lease.js'
import { sleep } from './abort.js'
import { createBackoff } from './backoff.js'
import type { EtcdClient } from './etcd-client.js'
import { isConnectionFault, WatchCancelled } from './etcd-errors.js'
import type { EtcdKeys } from './etcd-keys.js'
import type { EtcdReads } from './etcd-reads.js'
import type { WatchStream } from './etcd-watch-stream.js'
import type { Reachability } from './reachability.js'
import type { StoreEvent } from './store.js'

export interface EtcdWatchParts {
  readonly client: EtcdClient
  readonly keys: EtcdKeys
  readonly reads: EtcdReads
  readonly reachability: Reachability
  /** Time between full listings, ms, plus or minus a fifth: hosts that start together part. */
  readonly relistMs: number
}

/** Ends when the signal fires; never throws. */
export async function* watchEtcd(
  { client, keys, reads, reachability, relistMs }: EtcdWatchParts,
  signal: AbortSignal,
): AsyncGenerator<StoreEvent, void, undefined> {
  const known = new Map<string, Lease>()
  const backoff = createBackoff()
  /** Last revision passed on; null = a listing is due. */
  let passed: bigint | null = null
  let relistAt = 0
  /** Endpoints that failed since one accepted a watch. */
  let failed = 0

  const stopped = () => signal.aborted

  const list = async (): Promise<StoreEvent> => {
    const { entries, revision } = await reads.list(signal)
    const before = new Map(known)
    known.clear()
    for (const { key, lease } of entries) {
      const valid = lease ?? before.get(key)
      if (valid !== undefined) known.set(key, valid)
    }
    passed = revision
    relistAt = Date.now() + relistMs * (0.8 + 0.4 * Math.random())
    return { type: 'snapshot', leases: [...known.values()] }
  }

  const translate = async (events: readonly IEvent[]): Promise<StoreEvent[]> => {
    const puts = events.filter((event) => event.type === 'Put').map((event) => event.kv)
    const decoded = (await reads.decode(puts, signal)).values()
    const result: StoreEvent[] = []
    for (const event of events) {
      const key = event.kv.key.toString()
      if (event.type === 'Put') {
        const lease = decoded.next().value?.lease
        if (lease === undefined || lease === null) continue
        known.set(key, lease)
        result.push({ type: 'put', lease })
      } else {
        const subnet = reads.subnetOf(key)
        known.delete(key)
        if (subnet !== null) result.push({ type: 'delete', subnet })
      }
    }
    return result
  }

  while (!stopped()) {
    let stream: WatchStream | null = null
    try {
      if (passed === null) yield await list()
      const from: bigint = passed ?? 0n
      stream = await client.watch(signal, {
        key: keys.rangeStart,
        range_end: keys.rangeEnd,
        start_revision: String(from + 1n),
      })
      backoff.reset()
      failed = 0
      while (!stopped()) {
        const response = await stream.next(Math.max(0, relistAt - Date.now()), signal)
        if (response === null) {
          if (Date.now() >= relistAt) yield await list()
          continue
        }
        const done: bigint = passed ?? 0n
        const fresh = response.events.filter((event) => BigInt(event.kv.mod_revision) > done)
        const last = fresh.at(-1)
        if (last === undefined) continue
        yield* await translate(fresh)
        // Not the header's revision: that is etcd's newest, while older events may be on their way.
        passed = BigInt(last.kv.mod_revision)
      }
    } catch (error) {
      if (stopped()) return
      if (!isConnectionFault(error)) passed = null
      // A stream that breaks counts as well: its keepalive has waited long enough already.
      const isFailure = stream === null ? !isCompaction(error) : isConnectionFault(error)
      if (isFailure && ++failed >= client.endpoints) {
        reachability.down(error instanceof Error ? error.message : String(error))
      }
    } finally {
      stream?.close()
    }
    await sleep(backoff.next(), signal).catch(() => undefined)
  }
}

function isCompaction(error: unknown): boolean {
  return error instanceof WatchCancelled && error.compacted
}
