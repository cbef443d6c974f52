/**
 * Peers: turns what the lease watcher reports into routes of the dataplane, and remembers since
 * when each peer is known.
 */
import type { PeerEndpoint, RoutePrefix } from '../dataplane/index.js'
import type { Backend } from './backend.js'
import type { Family } from './host/preferred-address.js'
import { formatSubnet, hostOf, type Lease, type LeaseSubnet } from './lease.js'
import type { LeaseChanges } from './lease-watcher.js'
import type { Logger } from './log.js'
import {
  formatPrefix4,
  formatPrefix6,
  overlaps4,
  overlaps6,
  parseAddr4,
  parseAddr6,
} from './prefix.js'
import type { PeerStatus } from './status.js'
import { formatSubnetKey } from './subnet-key.js'

interface Peer {
  readonly lease: Lease
  readonly since: number
}

/** Where routes of either family are set and removed. */
export interface Routes {
  setRoute(prefix: RoutePrefix, peer: PeerEndpoint | 'no-ipv6'): void
  /** @returns false when there was none */
  removeRoute(prefix: RoutePrefix): boolean
}

export class Peers {
  private readonly routes: Routes
  private readonly own: LeaseSubnet
  private readonly backend: Pick<Backend, 'reach'>
  private readonly log: Logger
  private readonly peers = new Map<number | string, Peer>()

  /**
   * @param own      the own subnet, which has the families of the network
   * @param backend  knows where the packets of a lease go
   */
  constructor(routes: Routes, own: LeaseSubnet, backend: Pick<Backend, 'reach'>, log: Logger) {
    this.routes = routes
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

  /**
   * Routes a lease to its host, each family by itself. What cannot be a peer's is named in the log and
   * left out.
   */
  private set(lease: Lease): void {
    const fault = this.fault(lease)
    if (fault !== null) {
      this.log.warn(`ignoring lease ${formatSubnet(lease.subnet)}: ${fault}`)
      this.remove(lease)
      return
    }
    const { v4, v6 } = lease.subnet
    // Both are tried, whatever becomes of the first.
    const isReached = [this.setPrefix(lease, v4, 'ipv4'), this.setPrefix(lease, v6, 'ipv6')]
    if (!isReached.includes(true)) {
      this.remove(lease)
      return
    }
    this.peers.set(keyOf(lease), { lease, since: Date.now() })
    this.log.info(`Subnet added: ${formatSubnet(lease.subnet)} via ${hostOf(lease.attrs)}`)
  }

  /** @returns whether packets for the prefix can go to the lease's host */
  private setPrefix(lease: Lease, prefix: RoutePrefix | null, inner: Family): boolean {
    if (prefix === null || this.own[inner === 'ipv4' ? 'v4' : 'v6'] === null) return false
    const reach = this.backend.reach(lease.attrs, inner)
    const fault = reach === 'no-ipv6' ? null : 'fault' in reach ? reach.fault : addressFault(reach)
    if (fault !== null) {
      this.log.warn(`ignoring lease ${formatPrefix(prefix)}: ${fault}`)
      this.routes.removeRoute(prefix)
      return false
    }
    this.routes.setRoute(prefix, reach as PeerEndpoint | 'no-ipv6')
    return reach !== 'no-ipv6'
  }

  /** The same lease with another expiry: for the status only. */
  private refresh(lease: Lease): void {
    const key = keyOf(lease)
    const peer = this.peers.get(key)
    if (peer !== undefined) this.peers.set(key, { lease, since: peer.since })
  }

  private remove(lease: Lease): void {
    this.peers.delete(keyOf(lease))
    const { v4, v6 } = lease.subnet
    const had = [v4, v6].map((prefix) => prefix !== null && this.routes.removeRoute(prefix))
    if (had.includes(true)) this.log.info(`Subnet removed: ${formatSubnet(lease.subnet)}`)
  }

  /** The peers for the status, in ascending order of their subnets. */
  describe(): PeerStatus[] {
    return [...this.peers.values()]
      .sort((a, b) => compare(a.lease.subnet, b.lease.subnet))
      .map(({ lease, since }) => ({
        subnet: formatSubnet(lease.subnet),
        publicIP: lease.attrs.publicIP,
        publicIPv6: lease.attrs.publicIPv6,
        ageSeconds: (Date.now() - since) / 1000,
        expiresAt: lease.expiresAt === null ? null : new Date(lease.expiresAt).toISOString(),
      }))
  }

  /** Why a lease cannot be a peer's, null = it can. */
  private fault({ subnet: { v4, v6 } }: Lease): string | null {
    const { own } = this
    if ((v4 === null) !== (own.v4 === null)) {
      return own.v4 === null
        ? 'it has IPv4, and this network is IPv6-only'
        : 'it is of an IPv6-only network, and this one has IPv4'
    }
    if (v4 !== null && own.v4 !== null && overlaps4(v4, own.v4)) {
      return `it overlaps our own subnet ${formatPrefix4(own.v4)}`
    }
    return v6 !== null && own.v6 !== null && overlaps6(v6, own.v6)
      ? `it overlaps our own subnet ${formatPrefix6(own.v6)}`
      : null
  }
}

/** Why nothing can be sent to an address, null = something can. */
function addressFault({ address }: PeerEndpoint): string | null {
  const addr6 = parseAddr6(address)
  const top = (parseAddr4(address) ?? 0) >>> 24
  const isUnicast =
    addr6 === null
      ? top !== 0 && top !== 127 && top < 224
      : // Neither :: nor ::1, fe80::/10 nor ff00::/8.
        addr6 > 1n && addr6 >> 118n !== 0x3fan && addr6 >> 120n !== 0xffn
  return isUnicast ? null : `its public address ${address} cannot be sent to`
}

function formatPrefix({ addr, len }: RoutePrefix): string {
  return typeof addr === 'number' ? formatPrefix4({ addr, len }) : formatPrefix6({ addr, len })
}

function compare(a: LeaseSubnet, b: LeaseSubnet): number {
  if (a.v4 !== null && b.v4 !== null && a.v4.addr !== b.v4.addr) return a.v4.addr - b.v4.addr
  const [x, y] = [a.v6?.addr ?? 0n, b.v6?.addr ?? 0n]
  return x < y ? -1 : x > y ? 1 : 0
}

/** A lease's subnet as one number, address × 64 + length, where that is enough: there may be many. */
function keyOf({ subnet }: Lease): number | string {
  if (subnet.v4 === null || subnet.v6 !== null) return formatSubnetKey(subnet)
  return subnet.v4.addr * 64 + subnet.v4.len
}
