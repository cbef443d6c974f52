/**
 * Peers: turns what the lease watcher reports into routes of the dataplanes, tells the hooks of them, and
 * remembers who is reached by which path, and since when.
 */
import type { Dataplane, RoutePrefix } from '../dataplane/index.js'
import type { KernelPath, Path, Reached, Tunnel } from './backend/backend.js'
import type { Hooks } from './backend/extension.js'
import { formatSubnet, hasIpv4, hostAddress, type Lease, type LeaseSubnet } from './lease.js'
import type { LeaseChanges } from './lease-watcher.js'
import type { Logger } from './log.js'
import { formatPrefix4, formatPrefix6, overlaps4, overlaps6 } from './prefix.js'
import type { PeerStatus } from './status.js'
import { formatSubnetKey } from './subnet-key.js'

/** A tunnel with the dataplane that runs it. */
export interface PeerTunnel {
  readonly tunnel: Pick<Tunnel, 'ipv4' | 'ipv6' | 'reach' | 'takesIpv6'>
  readonly dataplane: Pick<Dataplane, 'setRoute' | 'removeRoute'>
}

/** By which ways peers are reached. */
export interface Ways {
  readonly tunnels: readonly PeerTunnel[]
  /** What the kernel does, once it is told of the peers. */
  readonly kernel: readonly KernelPath[]
  readonly hooks: Hooks | null
}

/** What became of a peer; null = it was, or is, none. */
export interface PeerChange {
  /** Of the lease. */
  readonly key: number | string
  readonly before: Lease | null
  readonly after: Lease | null
}

interface Peer {
  readonly lease: Lease
  readonly since: number
}

export class Peers {
  private readonly ways: Ways
  /** What is asked of a lease. */
  private readonly paths: readonly Path[]
  private readonly own: LeaseSubnet
  private readonly log: Logger
  private readonly peers = new Map<number | string, Peer>()

  /** @param ways  know where the packets of a lease go, each for the families that it carries */
  constructor(ways: Ways, own: LeaseSubnet, log: Logger) {
    this.ways = ways
    this.paths = [
      ...ways.tunnels.map(({ tunnel }) => tunnel),
      ...ways.kernel,
      ...(ways.hooks === null ? [] : [ways.hooks.path]),
    ]
    this.own = own
    this.log = log
  }

  /**
   * Applies changes: what went first, so that a subnet that moved is free before it is taken.
   * @returns what became of the peers that they are about
   */
  apply({ removed, changed, added, renewed }: LeaseChanges): PeerChange[] {
    const touched = [...removed, ...changed.map(({ after }) => after), ...added].map(keyOf)
    const before = new Map(touched.map((key) => [key, this.peers.get(key)?.lease ?? null]))
    for (const lease of removed) this.remove(lease)
    for (const { after } of changed) this.set(after)
    for (const lease of added) this.set(lease)
    for (const lease of renewed) this.refresh(lease)
    return [...before].map(([key, was]) => ({
      key,
      before: was,
      after: this.peers.get(key)?.lease ?? null,
    }))
  }

  /**
   * Routes a lease to its host, each family by the tunnel that carries it. A lease that cannot be a
   * peer's is named in the log and left out; so is a family of it that has no way.
   */
  private set(lease: Lease): void {
    const fault = this.fault(lease)
    const { ways, faults } = fault === null ? this.open(lease) : { ways: 0, faults: [fault] }
    if (faults.length > 0) {
      const what = ways === 0 ? 'ignoring lease' : 'ignoring one family of lease'
      this.log.warn(`${what} ${formatSubnet(lease.subnet)}: ${faults.join('; ')}`)
    }
    if (ways === 0 && faults.length > 0) {
      this.remove(lease)
      return
    }
    this.peers.set(keyOf(lease), { lease, since: Date.now() })
    this.log.info(`Subnet added: ${formatSubnet(lease.subnet)} via ${hostAddress(lease.attrs)}`)
    void this.ways.hooks?.added(lease, this.log)
  }

  /** @returns by how many ways subnets of a lease are reached now, and why others are not */
  private open({ subnet, attrs }: Lease): { ways: number; faults: string[] } {
    let ways = 0
    const faults: string[] = []
    for (const path of this.paths) {
      const prefixes = carried(path, subnet)
      if (prefixes.length === 0) continue
      const reach = path.reach(attrs)
      if ('fault' in reach) faults.push(reach.fault)
      else ways += prefixes.length
    }
    for (const { tunnel, dataplane } of this.ways.tunnels) {
      const reach = tunnel.reach(attrs)
      for (const prefix of carried(tunnel, subnet)) {
        if ('fault' in reach) {
          dataplane.removeRoute(prefix)
          continue
        }
        const isRefused = typeof prefix.addr === 'bigint' && !tunnel.takesIpv6(attrs)
        dataplane.setRoute(prefix, isRefused ? 'no-ipv6' : reach)
      }
    }
    return { ways, faults }
  }

  /** Sets every route once more, for a dataplane that was made anew. */
  restore(): void {
    for (const { lease } of this.peers.values()) this.open(lease)
  }

  /** The same lease with another expiry: for the status only. */
  private refresh(lease: Lease): void {
    const key = keyOf(lease)
    const peer = this.peers.get(key)
    if (peer !== undefined) this.peers.set(key, { lease, since: peer.since })
  }

  private remove(lease: Lease): void {
    for (const { tunnel, dataplane } of this.ways.tunnels) {
      for (const prefix of carried(tunnel, lease.subnet)) dataplane.removeRoute(prefix)
    }
    if (!this.peers.delete(keyOf(lease))) return
    this.log.info(`Subnet removed: ${formatSubnet(lease.subnet)}`)
    void this.ways.hooks?.removed(lease, this.log)
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

  /** Those of all peers. */
  leases(): Lease[] {
    return [...this.peers.values()].map(({ lease }) => lease)
  }

  /** Why a lease cannot be a peer's, null = it can. */
  private fault({ subnet }: Lease): string | null {
    const { own } = this
    if (hasIpv4(subnet) !== hasIpv4(own)) {
      return hasIpv4(own)
        ? 'it is of an IPv6-only network, and this one has IPv4'
        : 'it has IPv4, and this network is IPv6-only'
    }
    if (hasIpv4(subnet) && hasIpv4(own) && overlaps4(subnet.v4, own.v4)) {
      return `it overlaps our own subnet ${formatPrefix4(own.v4)}`
    }
    if (subnet.v6 !== null && own.v6 !== null && overlaps6(subnet.v6, own.v6)) {
      return `it overlaps our own subnet ${formatPrefix6(own.v6)}`
    }
    return null
  }
}

/** The subnets of some leases that are reached by some paths, with their hosts. */
export function reachedOf(leases: readonly Lease[], paths: readonly Path[]): Reached[] {
  return leases.flatMap(({ subnet, attrs }) =>
    paths.flatMap((path) => {
      const reach = path.reach(attrs)
      if ('fault' in reach) return []
      return carried(path, subnet).map((prefix) => {
        const destination = formatPrefix(prefix)
        return { ...reach, destination, base: destination.slice(0, destination.indexOf('/')) }
      })
    }),
  )
}

/** The subnets of a lease that a tunnel carries. */
function carried({ ipv4, ipv6 }: Pick<Path, 'ipv4' | 'ipv6'>, subnet: LeaseSubnet): RoutePrefix[] {
  const prefixes: RoutePrefix[] = []
  if (ipv4 && hasIpv4(subnet)) prefixes.push(subnet.v4)
  if (ipv6 && subnet.v6 !== null) prefixes.push(subnet.v6)
  return prefixes
}

function formatPrefix({ addr, len }: RoutePrefix): string {
  return typeof addr === 'number' ? formatPrefix4({ addr, len }) : formatPrefix6({ addr, len })
}

function compare(a: LeaseSubnet, b: LeaseSubnet): number {
  if (a.v4.addr !== b.v4.addr) return a.v4.addr - b.v4.addr
  const [a6, b6] = [a.v6?.addr ?? 0n, b.v6?.addr ?? 0n]
  return a6 < b6 ? -1 : a6 > b6 ? 1 : 0
}

/** A lease's prefix as one number where it has an IPv4 subnet, address × 64 + length: there may be many. */
function keyOf({ subnet }: Lease): number | string {
  return hasIpv4(subnet) ? subnet.v4.addr * 64 + subnet.v4.len : formatSubnetKey(subnet)
}
