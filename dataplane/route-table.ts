/**
 * Routes as the control plane sets them: prefixes to peers, written into the forwarding table, the next
 * hops and the set of known hosts.
 *
 * Peers that several prefixes lead to share a hop; that of a peer without routes is retired.
 */
import { addressBytes6, mask4, maskAddress6, parseAddress } from './address.js'
import type { FibShared } from './fib/layout.js'
import { createFib, type Fib } from './fib/lpm-writer.js'
import { HostSet } from './host-set.js'
import type { SourceException } from './ingress-check.js'
import { formatMac, type Mac } from './mac.js'
import type { Family } from './native/native.js'

/** A prefix: an IPv4 address as uint32 in host order, or an IPv6 address as 128 bits; host bits are zero. */
export type RoutePrefix =
  { readonly addr: number; readonly len: number } | { readonly addr: bigint; readonly len: number }

/** Where a peer's packets go: UDP port (0 = there is none), and an address as text, of the family of the own socket. */
export interface PeerEndpoint {
  readonly address: string
  readonly port: number
  /** MAC address of its tunnel endpoint, for an encapsulation that has them. */
  readonly mac?: Mac
}

interface PeerHop {
  /** Of `peerHops`. */
  readonly key: number | string
  readonly hop: number
  /** Address bits; null for peers that take no IPv6. */
  readonly address: number | bigint | null
  routes: number
}

export class RouteTable {
  private readonly fib: Fib
  /** Hosts that peers' routes lead to, and those of exceptions. */
  private readonly hosts: HostSet
  private readonly peerHops = new Map<number | string, PeerHop>()
  private readonly routes = new Map<number | string, PeerHop>()
  private readonly localHop: number
  private readonly outer: Family

  /**
   * @param readers     engines
   * @param outer       family of the outer packets, and so of all peers' addresses
   * @param exceptions  hosts that are known although no route leads to them
   */
  constructor(readers: number, outer: Family, exceptions: readonly SourceException[]) {
    this.fib = createFib({ readers })
    this.localHop = this.fib.hops.addLocal()
    this.hosts = new HostSet(readers)
    this.outer = outer
    for (const { from } of exceptions) this.hosts.add(from)
  }

  /** Routes to peers. */
  get size(): number {
    return this.routes.size
  }

  /** What engines attach to: forwarding table with next hops, and known hosts. */
  get shared(): { readonly fib: FibShared; readonly hosts: FibShared } {
    return { fib: this.fib.shared, hosts: this.hosts.shared }
  }

  /** Marks a prefix as our own: packets from outside for it are delivered. */
  addLocal(prefix: RoutePrefix): void {
    this.insert(prefix, this.localHop)
  }

  removeLocal(prefix: RoutePrefix): void {
    this.remove(prefix)
  }

  /**
   * Routes a prefix to a peer, replacing what it was routed to.
   * @param peer  `no-ipv6` = the prefix is that of a peer which takes no IPv6: packets for it are
   *              dropped as such, and their senders told
   * @throws RangeError for an address that is none, or not of the own socket's family
   */
  set(prefix: RoutePrefix, peer: PeerEndpoint | 'no-ipv6'): void {
    const key = routeKey(prefix)
    const before = this.routes.get(key)
    const after = peer === 'no-ipv6' ? this.noIpv6Hop() : this.hopOf(peer)
    if (before === after) return
    this.insert(prefix, after.hop)
    after.routes++
    this.routes.set(key, after)
    if (before !== undefined) this.release(before)
  }

  /** Removes a route. @returns false when there was none */
  delete(prefix: RoutePrefix): boolean {
    const key = routeKey(prefix)
    const peer = this.routes.get(key)
    if (peer === undefined) return false
    this.remove(prefix)
    this.routes.delete(key)
    this.release(peer)
    return true
  }

  private insert(prefix: RoutePrefix, hop: number): void {
    const { writer } = this.fib
    if (typeof prefix.addr === 'number') {
      writer.insert4(prefix.addr & mask4(prefix.len), prefix.len, hop)
    } else {
      writer.insert6(networkBytes(prefix.addr, prefix.len), prefix.len, hop)
    }
  }

  private remove({ addr, len }: RoutePrefix): void {
    const { writer } = this.fib
    if (typeof addr === 'number') writer.remove4(addr | 0, len)
    else writer.remove6(networkBytes(addr, len), len)
  }

  private hopOf(peer: PeerEndpoint): PeerHop {
    const address = parseAddress(peer.address)
    if (address === null || familyOf(address) !== this.outer) {
      throw new RangeError(`"${peer.address}" is no IPv${String(this.outer)} address`)
    }
    const key = peerKey(address, peer)
    const known = this.peerHops.get(key)
    if (known !== undefined) return known
    const outer = typeof address === 'number' ? address : addressBytes6(address)
    const hop = this.fib.hops.addPeer(outer, peer.port, peer.mac)
    const added = { key, hop, address, routes: 0 }
    this.hosts.add(address)
    this.peerHops.set(key, added)
    return added
  }

  /** The hop of all peers that take no IPv6. */
  private noIpv6Hop(): PeerHop {
    const key = 'no-ipv6'
    const known = this.peerHops.get(key)
    if (known !== undefined) return known
    const added = { key, hop: this.fib.hops.addNoIpv6(), address: null, routes: 0 }
    this.peerHops.set(key, added)
    return added
  }

  /** Takes a route off a peer; the hop of a peer without routes is retired. */
  private release(peer: PeerHop): void {
    peer.routes--
    if (peer.routes > 0) return
    this.peerHops.delete(peer.key)
    if (peer.address !== null) this.hosts.remove(peer.address)
    this.fib.hops.retire(peer.hop)
  }
}

/** Family of address bits: a number is IPv4, a bigint IPv6. */
export function familyOf(address: number | bigint): Family {
  return typeof address === 'number' ? 4 : 6
}

function networkBytes(addr: bigint, len: number): Uint8Array {
  const bytes = addressBytes6(addr)
  maskAddress6(bytes, len)
  return bytes
}

/** A peer as one number where that is enough, address × 65536 + port: there may be many. */
function peerKey(address: number | bigint, { port, mac }: PeerEndpoint): number | string {
  if (typeof address === 'number') {
    const number = (address >>> 0) * 0x10000 + port
    return mac === undefined ? number : `${String(number)} ${formatMac(mac)}`
  }
  const text = `${address.toString(16)} ${String(port)}`
  return mac === undefined ? text : `${text} ${formatMac(mac)}`
}

/** A prefix as one number, address × 64 + length: where there are many, less room than text. */
function routeKey({ addr, len }: RoutePrefix): number | string {
  return typeof addr === 'number' ? (addr >>> 0) * 64 + len : `${addr.toString(16)}/${String(len)}`
}
