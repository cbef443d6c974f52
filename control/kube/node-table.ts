/**
 * Nodes in, events of leases out.
 *
 * Remembers the lease of each node, because a node that is deleted, ceases to take part or gets another subnet has
 * to free the one it had. A subnet is one node's: that of the node which had it first. Does no I/O.
 */
import { isDeepStrictEqual } from 'node:util'
import { formatSubnet, type Lease, type LeaseSubnet } from '../lease.js'
import type { StoreEvent, StoreObserver } from '../store/store.js'
import { formatSubnetKey } from '../subnet-key.js'
import type { AnnotationNames } from './annotations.js'
import { leaseOfNode, type Families, type KubeNode } from './node.js'

/** This host's node. Its subnet is nobody else's; with another subnet it is no peer of itself. */
export interface OwnNode {
  readonly name: string
  readonly subnet: LeaseSubnet
  /** Called with the node as it is now, null = it is gone. */
  onSeen(node: KubeNode | null): void
}

export interface NodeTableOptions {
  readonly names: AnnotationNames
  readonly families: Families
  readonly own: OwnNode
  readonly observer: StoreObserver
}

export class NodeTable {
  readonly #options: NodeTableOptions
  /** Valid leases by name of their node, in the order in which they came. */
  readonly #leases = new Map<string, Lease>()
  /** The node that has a subnet, by the subnet's key. */
  readonly #owners = new Map<string, string>()
  /** Nodes whose subnet another one has. */
  readonly #waiting = new Set<string>()

  constructor(options: NodeTableOptions) {
    this.#options = options
  }

  /** Takes the complete set of nodes. */
  reset(nodes: readonly KubeNode[]): StoreEvent {
    const { own } = this.#options
    const before = [own.name, ...this.#leases.keys()]
    this.#leases.clear()
    this.#owners.clear()
    this.#waiting.clear()
    const byName = new Map(nodes.map((node) => [node.name, node]))
    if (!byName.has(own.name)) own.onSeen(null)
    // Those that had their subnets before keep them, this host above all.
    for (const name of [...before, ...byName.keys()]) {
      const node = byName.get(name)
      if (node !== undefined) this.put(node)
      byName.delete(name)
    }
    const leases = [...this.#owners.values()].flatMap((name) => this.#leases.get(name) ?? [])
    return { type: 'snapshot', leases }
  }

  /** Takes a node as it is now. */
  put(node: KubeNode): StoreEvent[] {
    const { own, observer } = this.#options
    const isOwn = node.name === own.name
    if (isOwn) own.onSeen(node)
    const lease = this.#read(node)
    if (lease === null) return this.#forget(node.name)
    const key = formatSubnetKey(lease.subnet)
    const before = this.#leases.get(node.name)
    const isMoved = before !== undefined && formatSubnetKey(before.subnet) !== key
    const moved = isMoved ? this.#forget(node.name) : []
    this.#leases.set(node.name, lease)
    const owner = this.#owners.get(key) ?? node.name
    const isNew = owner !== node.name || before === undefined || isMoved
    if (owner !== node.name) {
      const [loser, winner] = isOwn ? [owner, node.name] : [node.name, owner]
      this.#waiting.add(loser)
      observer.onSkip?.(`node ${loser}`, `its subnet ${formatSubnet(lease.subnet)} is ${winner}'s`)
      if (!isOwn) return moved
    }
    this.#waiting.delete(node.name)
    this.#owners.set(key, node.name)
    // Nodes change all the time, by their heartbeats, and their leases hardly ever.
    const isSame = !isNew && isDeepStrictEqual(before.attrs, lease.attrs)
    return isSame ? [] : [...moved, { type: 'put', lease }]
  }

  /** A node is gone. */
  remove(name: string): StoreEvent[] {
    const { own } = this.#options
    if (name === own.name) own.onSeen(null)
    return this.#forget(name)
  }

  /** Forgets the lease of a node. Whoever had been given the same subnet has it now. */
  #forget(name: string): StoreEvent[] {
    const lease = this.#leases.get(name)
    this.#leases.delete(name)
    if (lease === undefined || this.#waiting.delete(name)) return []
    const key = formatSubnetKey(lease.subnet)
    this.#owners.delete(key)
    for (const waiting of this.#waiting) {
      const heir = this.#leases.get(waiting)
      if (heir === undefined || formatSubnetKey(heir.subnet) !== key) continue
      this.#waiting.delete(waiting)
      this.#owners.set(key, waiting)
      return [{ type: 'put', lease: heir }]
    }
    return [{ type: 'delete', subnet: lease.subnet }]
  }

  #read(node: KubeNode): Lease | null {
    const { names, families, own, observer } = this.#options
    const lease = leaseOfNode(node, names, families)
    if (lease === null) return null
    if ('fault' in lease) {
      observer.onSkip?.(`node ${node.name}`, lease.fault)
      return null
    }
    const isOwn = node.name === own.name
    return isOwn && formatSubnetKey(lease.subnet) !== formatSubnetKey(own.subnet) ? null : lease
  }
}
