/**
 * A contender: one way of joining two hosts' pod networks, brought up alone and taken down again.
 */
import type { Netns } from '../../control/lab/netns.js'
import type { ManagedProcess } from '../../control/lab/process.js'

/** The two hosts, joined by one veth pair, and a pod on each. */
export interface Bed {
  readonly hosts: readonly [Side, Side]
}

export interface Side {
  readonly place: Netns
  /** Underlay device and address. */
  readonly device: string
  readonly underlay: string
  /** Own subnet, as `10.5.1.0/24`, and its addresses for overlay device, bridge and pod. */
  readonly subnet: string
  readonly base: string
  readonly gateway: string
  readonly podAddress: string
  readonly pod: Netns
}

/** A contender that runs. */
export interface Running {
  /** Addresses at which the hosts themselves answer over this contender. */
  readonly addresses: readonly [string, string]
  /** MTU for pods. */
  readonly mtu: number
  /** Processes of the data path, for their memory; none for the kernel's own. */
  readonly daemons: readonly ManagedProcess[]
  stop(): Promise<void>
}

export interface Contender {
  readonly name: string
  /** What a reader must know when comparing: `encrypts`, `no overlay`. */
  readonly note: string
  /** Why it cannot run here; null = it can. */
  missing(): string | null
  start(bed: Bed): Promise<Running>
}
