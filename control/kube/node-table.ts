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

export interface NodeTableOptions {
  readonly names: AnnotationNames
  readonly families: Families
  /** This host's node and its subnet: with another subnet it is no peer of itself. */
  readonly own: { readonly name: string; readonly subnet: LeaseSubnet }
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
    const before = [...this.#leases.keys()]
    this.#leases.clear()
    this.#owners.clear()
    this.#waiting.clear()
    const byName = new Map(nodes.map((node) => [node.name, node]))
    // Those that had their subnets before keep them.
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
    const lease = this.#read(node)
    if (lease === null) return this.remove(node.name)
    const key = formatSubnetKey(lease.subnet)
    const before = this.#leases.get(node.name)
    const isMoved = before !== undefined && formatSubnetKey(before.subnet) !== key
    const moved = isMoved ? this.remove(node.name) : []
    this.#leases.set(node.name, lease)
    const owner = this.#owners.get(key) ?? node.name
    if (owner !== node.name) {
      this.#waiting.add(node.name)
      const subnet = formatSubnet(lease.subnet)
      this.#options.observer.onSkip?.(`node ${node.name}`, `its subnet ${subnet} is ${owner}'s`)
      return moved
    }
    this.#owners.set(key, node.name)
    // Nodes change all the time, by their heartbeats, and their leases hardly ever.
    const isSame = before !== undefined && isDeepStrictEqual(before.attrs, lease.attrs)
    return isSame && !isMoved ? [] : [...moved, { type: 'put', lease }]
  }

  /** A node is gone. Whoever had been given the same subnet has it now. */
  remove(name: string): StoreEvent[] {
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
