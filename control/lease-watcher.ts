/**
 * Store events in, changes to the set of peers out.
 *
 * Keeps what is known of every lease and answers only with differences: a snapshot is compared
 * lease by lease (attributes too, which flannel leaves out), a repeated value is no change, a
 * deletion carries what was remembered. The own subnet is never a peer; what happens to it is told
 * apart, so that the owner notices its loss. Does no I/O; the same events give the same changes.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Lease, LeaseAttrs, LeaseSubnet } from './lease.js'
import type { StoreEvent } from './store/store.js'
import { formatSubnetKey } from './subnet-key.js'

export interface LeaseChanges {
  readonly added: readonly Lease[]
  /** Peers whose attributes are others now, under the same subnet. */
  readonly changed: readonly { readonly before: Lease; readonly after: Lease }[]
  /** Peers seen again as they were: version and expiry may be others, nothing that routing needs. */
  readonly renewed: readonly Lease[]
  readonly removed: readonly Lease[]
  /** The own lease as just seen; `gone` = its key does not exist any more; null = nothing seen. */
  readonly own: Lease | 'gone' | null
}

export class LeaseWatcher {
  readonly #ownKey: string | null
  readonly #known = new Map<string, Lease>()

  /** @param own  subnet of this host, null = none, every lease is a peer */
  constructor(own: LeaseSubnet | null) {
    this.#ownKey = own && formatSubnetKey(own)
  }

  /** The peers as last told, in no order. */
  get peers(): readonly Lease[] {
    return [...this.#known.values()]
  }

  /** Takes one event in; never throws. */
  apply(event: StoreEvent): LeaseChanges {
    switch (event.type) {
      case 'snapshot':
        return this.#replace(event.leases)
      case 'put':
        return this.#put([event.lease])
      case 'delete':
        return this.#delete(formatSubnetKey(event.subnet))
    }
  }

  #replace(leases: readonly Lease[]): LeaseChanges {
    const keys = new Set(leases.map((lease) => formatSubnetKey(lease.subnet)))
    const removed: Lease[] = []
    for (const [key, lease] of this.#known) {
      if (keys.has(key)) continue
      this.#known.delete(key)
      removed.push(lease)
    }
    const isOwnGone = this.#ownKey !== null && !keys.has(this.#ownKey)
    const changes = this.#put(leases)
    return { ...changes, removed, own: isOwnGone ? 'gone' : changes.own }
  }

  #put(leases: readonly Lease[]): LeaseChanges {
    const added: Lease[] = []
    const changed: { before: Lease; after: Lease }[] = []
    const renewed: Lease[] = []
    let own: Lease | null = null
    for (const lease of leases) {
      const key = formatSubnetKey(lease.subnet)
      if (key === this.#ownKey) {
        own = lease
        continue
      }
      const before = this.#known.get(key)
      this.#known.set(key, lease)
      if (before === undefined) added.push(lease)
      else if (!sameAttrs(before.attrs, lease.attrs)) changed.push({ before, after: lease })
      else renewed.push(lease)
    }
    return { added, changed, renewed, removed: [], own }
  }

  #delete(key: string): LeaseChanges {
    const lease = this.#known.get(key)
    this.#known.delete(key)
    return {
      added: [],
      changed: [],
      renewed: [],
      removed: lease === undefined ? [] : [lease],
      own: key === this.#ownKey ? 'gone' : null,
    }
  }
}

/** Whether two hosts' attributes say the same; the order of fields in backend data is no matter. */
function sameAttrs(a: LeaseAttrs, b: LeaseAttrs): boolean {
  return (
    a.publicIP === b.publicIP &&
    a.publicIPv6 === b.publicIPv6 &&
    a.backendType === b.backendType &&
    isDeepStrictEqual(a.backendData, b.backendData) &&
    isDeepStrictEqual(a.backendV6Data, b.backendV6Data)
  )
}
