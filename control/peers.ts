/**
 * Peers: turns what the lease watcher reports into routes of the dataplane, and remembers since
 * when each peer is known.
 */
import type { Dataplane } from '../dataplane/index.js'
import type { Backend } from './backend.js'
import { formatSubnet, type Lease, type LeaseSubnet } from './lease.js'
import type { LeaseChanges } from './lease-watcher.js'
import type { Logger } from './log.js'
import { formatPrefix4, overlaps4, parseAddr4 } from './prefix.js'
import type { PeerStatus } from './status.js'

interface Peer {
  readonly lease: Lease
  readonly since: number
}

export class Peers {
  private readonly dataplane: Pick<Dataplane, 'setRoute' | 'removeRoute'>
  private readonly own: LeaseSubnet
  private readonly backend: Pick<Backend, 'reach'>
  private readonly log: Logger
  private readonly peers = new Map<number, Peer>()

  /** @param backend  knows where the packets of a lease go */
  constructor(
    dataplane: Pick<Dataplane, 'setRoute' | 'removeRoute'>,
    own: LeaseSubnet,
    backend: Pick<Backend, 'reach'>,
    log: Logger,
  ) {
    this.dataplane = dataplane
    this.own = own
    this.backend = backend
    this.log = log
  }

  /** Applies changes: what went first, so that a subnet that moved is free before it is taken. */
  apply(changes: LeaseChanges): void {
    for (const lease of changes.removed) this.remove(lease)
    for (const { after } of changes.changed) this.set(after)
    for (const lease of changes.added) this.set(lease)
    for (const lease of changes.renewed) this.refresh(lease)
  }

  /** Routes a lease to its host. A lease that cannot be a peer's is named in the log and left out. */
  private set(lease: Lease): void {
    const fault = this.fault(lease)
    const reach = fault === null ? this.backend.reach(lease.attrs) : { fault }
    if ('fault' in reach) {
      this.log.warn(`ignoring lease ${formatSubnet(lease.subnet)}: ${reach.fault}`)
      this.remove(lease)
      return
    }
    this.dataplane.setRoute(lease.subnet.v4, reach)
    this.peers.set(keyOf(lease), { lease, since: Date.now() })
    this.log.info(`Subnet added: ${formatSubnet(lease.subnet)} via ${lease.attrs.publicIP}`)
  }

  /** The same lease with another expiry: for the status only. */
  private refresh(lease: Lease): void {
    const key = keyOf(lease)
    const peer = this.peers.get(key)
    if (peer !== undefined) this.peers.set(key, { lease, since: peer.since })
  }

  private remove(lease: Lease): void {
    this.peers.delete(keyOf(lease))
    if (this.dataplane.removeRoute(lease.subnet.v4)) {
      this.log.info(`Subnet removed: ${formatSubnet(lease.subnet)}`)
    }
  }

  /** The peers for the status, in ascending order of their subnets. */
  describe(): PeerStatus[] {
    return [...this.peers.values()]
      .sort((a, b) => a.lease.subnet.v4.addr - b.lease.subnet.v4.addr)
      .map(({ lease, since }) => ({
        subnet: formatSubnet(lease.subnet),
        publicIP: lease.attrs.publicIP,
        ageSeconds: (Date.now() - since) / 1000,
        expiresAt: lease.expiresAt === null ? null : new Date(lease.expiresAt).toISOString(),
      }))
  }

  /** Why a lease cannot be a peer's, null = it can. */
  private fault(lease: Lease): string | null {
    if (overlaps4(lease.subnet.v4, this.own.v4)) {
      return `it overlaps our own subnet ${formatPrefix4(this.own.v4)}`
    }
    const top = (parseAddr4(lease.attrs.publicIP) ?? 0) >>> 24
    return top === 0 || top === 127 || top >= 224
      ? `its public address ${lease.attrs.publicIP} cannot be sent to`
      : null
  }
}

/** A lease's prefix as one number: address × 64 + length. */
function keyOf({ subnet: { v4 } }: Lease): number {
  return v4.addr * 64 + v4.len
}
