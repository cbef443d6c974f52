/**
 * Creating, rewriting and deleting a lease's key: flannel's transactions, made safe to send twice.
 *
 * A lifetime is an etcd lease, granted first; the key is then put with it in a transaction that
 * compares the key's version. When the comparison fails the transaction reads the key instead: if
 * it carries the etcd lease just granted, an earlier attempt of ours was carried out and only its
 * answer was lost. etcd's keep-alive is not used; the etcd lease of an earlier lifetime is left to
 * run out, as flannel does, so that it still tells an evicted host from an expired one.
 */
import type { ICompare, IKeyValue, ITxnResponse } from 'etcd3'
import { isHeddleError } from '../errors.js'
import { formatLeaseAttrs } from '../lease-json.js'
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease.js'
import type { EtcdClient } from './etcd-client.js'
import { isConnectionFault } from './etcd-errors.js'
import type { EtcdKeys } from './etcd-keys.js'
import { NO_LEASE } from './etcd-reads.js'

export interface EtcdWrites {
  create(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlMs: number,
    signal: AbortSignal,
  ): Promise<Lease | null>
  update(lease: Lease, attrs: LeaseAttrs, ttlMs: number, signal: AbortSignal): Promise<Lease | null>
  remove(lease: Lease, signal: AbortSignal): Promise<boolean>
  /** Resolves once no revocation is under way any more. */
  idle(): Promise<void>
}

interface Lifetime {
  readonly id: string
  readonly expiresAt: number | null
}

const ENDLESS: Lifetime = { id: NO_LEASE, expiresAt: null }

export function createEtcdWrites(client: EtcdClient, keys: EtcdKeys): EtcdWrites {
  const revocations = new Set<Promise<unknown>>()

  async function grant(ttlMs: number, signal: AbortSignal): Promise<Lifetime> {
    const asked = Date.now()
    const TTL = Math.max(1, Math.ceil(ttlMs / 1000))
    const granted = await client.call(signal, (etcd, options) =>
      etcd.leaseClient.leaseGrant({ TTL, ID: 0 }, options),
    )
    return { id: granted.ID, expiresAt: asked + Number(granted.TTL) * 1000 }
  }

  /** Gives an etcd lease back in the background; if that fails it runs out by itself. */
  function revoke(lifetime: Lifetime): void {
    if (lifetime.id === NO_LEASE) return
    const revocation = client
      .call(client.closed, (etcd, options) =>
        etcd.leaseClient.leaseRevoke({ ID: lifetime.id }, options),
      )
      .catch(() => undefined)
      .finally(() => revocations.delete(revocation))
    revocations.add(revocation)
  }

  /** Puts a key if the comparison holds. @returns the key's new version, null if it does not hold */
  async function put(
    key: Buffer,
    value: Buffer,
    lifetime: Lifetime,
    compare: ICompare,
    signal: AbortSignal,
  ): Promise<string | null> {
    const sent = { again: false }
    const answer = await client.call(signal, (etcd, options, attempt) => {
      sent.again = attempt > 0
      return etcd.kv.txn(
        {
          compare: [{ ...compare, key }],
          success: [{ request_put: { key, value, lease: lifetime.id } }],
          failure: [{ request_range: { key } }],
        },
        options,
      )
    })
    if (answer.succeeded) return answer.header.revision
    const found = foundInstead(answer)
    if (found?.lease !== lifetime.id) return null
    const ours = lifetime.id !== NO_LEASE || (sent.again && found.value.equals(value))
    return ours ? found.mod_revision : null
  }

  return {
    async create(subnet, attrs, ttlMs, signal) {
      const lifetime = await grant(ttlMs, signal)
      let version: string | null = null
      try {
        const absent: ICompare = { target: 'Version', result: 'Equal', version: 0 }
        const value = Buffer.from(formatLeaseAttrs(attrs))
        version = await put(keys.lease(subnet), value, lifetime, absent, signal)
      } finally {
        // After an error too: nobody relies on a key that its creator does not know of.
        if (version === null) revoke(lifetime)
      }
      if (version === null) return null
      return { subnet, attrs, expiresAt: lifetime.expiresAt, version, storeLease: lifetime.id }
    },

    async update(lease, attrs, ttlMs, signal) {
      const lifetime = lease.expiresAt === null ? ENDLESS : await grant(ttlMs, signal)
      const same: ICompare = { target: 'Mod', result: 'Equal', mod_revision: lease.version }
      let version: string | null
      try {
        const value = Buffer.from(formatLeaseAttrs(attrs))
        version = await put(keys.lease(lease.subnet), value, lifetime, same, signal)
      } catch (error) {
        // A put whose answer was lost may have renewed the key: revoking would delete it.
        if (isHeddleError(error) && !isConnectionFault(error)) revoke(lifetime)
        throw error
      }
      if (version === null) {
        revoke(lifetime)
        return null
      }
      return {
        subnet: lease.subnet,
        attrs,
        expiresAt: lifetime.expiresAt,
        version,
        storeLease: lifetime === ENDLESS ? '' : lifetime.id,
      }
    },

    async remove(lease, signal) {
      const key = keys.lease(lease.subnet)
      const sent = { again: false }
      const answer = await client.call(signal, (etcd, options, attempt) => {
        sent.again = attempt > 0
        return etcd.kv.txn(
          {
            compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: lease.version }],
            success: [{ request_delete_range: { key } }],
            failure: [{ request_range: { key } }],
          },
          options,
        )
      })
      return answer.succeeded || (sent.again && foundInstead(answer) === null)
    },

    async idle() {
      await Promise.all(revocations)
    },
  }
}

/** What stood under the key when a transaction's comparison failed. */
function foundInstead(answer: ITxnResponse): IKeyValue | null {
  return answer.responses[0]?.response_range.kvs[0] ?? null
}
