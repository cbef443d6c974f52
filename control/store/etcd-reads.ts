/**
 * From etcd's key-value pairs to leases: listing, single keys, and the pairs inside watch events.
 */
import type { IKeyValue } from 'etcd3'
import type { Lease, LeaseSubnet } from '../lease.js'
import { parseSubnetKey } from '../subnet-key.js'
import type { EtcdClient } from './etcd-client.js'
import type { LeaseExpiry } from './etcd-expiry.js'
import type { EtcdKeys } from './etcd-keys.js'
import { decodeRecord } from './record.js'
import type { StoreObserver } from './store.js'

/** What etcd calls the lease of a key that has none. */
export const NO_LEASE = '0'

/** A key, and its lease or null if what stands there is none. */
export interface KeyedLease {
  readonly key: string
  readonly lease: Lease | null
}

export interface Listing {
  /** In ascending key order, keys without a readable lease included. */
  readonly entries: readonly KeyedLease[]
  /** Revision of etcd at which this was so. */
  readonly revision: bigint
}

export interface EtcdReads {
  config(signal: AbortSignal): Promise<string | null>
  list(signal: AbortSignal): Promise<Listing>
  lease(subnet: LeaseSubnet, signal: AbortSignal): Promise<Lease | null>
  /** Leases of pairs in their order; what is none is reported to the observer and null here. */
  decode(pairs: readonly IKeyValue[], signal: AbortSignal): Promise<KeyedLease[]>
  /** Subnet that a key names, null if it names none. */
  subnetOf(key: string): LeaseSubnet | null
}

export function createEtcdReads(
  client: EtcdClient,
  keys: EtcdKeys,
  expiry: LeaseExpiry,
  observer: StoreObserver,
): EtcdReads {
  async function readOne(key: Buffer, signal: AbortSignal): Promise<IKeyValue | null> {
    const answer = await client.call(signal, (etcd, options) => etcd.kv.range({ key }, options))
    return answer.kvs[0] ?? null
  }

  async function decode(pairs: readonly IKeyValue[], signal: AbortSignal): Promise<KeyedLease[]> {
    const leased = pairs.map((pair) => pair.lease).filter((id) => id !== NO_LEASE)
    const expiries = await expiry.of(leased, signal)
    return pairs.map((pair) => {
      const key = pair.key.toString()
      const name = keys.leaseName(key)
      const record =
        name === null ? 'it is beside the leases' : decodeRecord(name, pair.value.toString())
      if (typeof record === 'string') {
        observer.onSkip?.(key, record)
        return { key, lease: null }
      }
      // Not `...record`: V8 gives every object made by a spread with more behind it a layout of its own.
      const lease: Lease = {
        subnet: record.subnet,
        attrs: record.attrs,
        expiresAt: expiries.get(pair.lease) ?? null,
        version: pair.mod_revision,
        storeLease: pair.lease === NO_LEASE ? '' : pair.lease,
      }
      return { key, lease }
    })
  }

  return {
    decode,
    async config(signal) {
      const pair = await readOne(keys.config, signal)
      return pair === null ? null : pair.value.toString()
    },
    async list(signal) {
      const answer = await client.call(signal, (etcd, options) =>
        etcd.kv.range({ key: keys.rangeStart, range_end: keys.rangeEnd }, options),
      )
      const entries = await decode(answer.kvs, signal)
      expiry.keepOnly(answer.kvs.map((pair) => pair.lease))
      return { entries, revision: BigInt(answer.header.revision) }
    },
    async lease(subnet, signal) {
      const pair = await readOne(keys.lease(subnet), signal)
      if (pair === null) return null
      const [entry] = await decode([pair], signal)
      return entry?.lease ?? null
    },
    subnetOf(key) {
      const name = keys.leaseName(key)
      return name === null || name.includes('/') ? null : parseSubnetKey(name)
    },
  }
}
