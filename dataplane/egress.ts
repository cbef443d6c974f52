/**
 * Egress: inside → outside. A packet that the kernel routed to the TUN device is checked, gets its
 * next hop from the FIB, loses one TTL if the backend says so, and is staged for the socket. What the
 * kernel left unfinished (a super-packet, a checksum) is finished on the way.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws;
 * what does not go on is counted under its verdict.
 */
import {
  EGRESS,
  READ,
  TSO_CUT,
  TSO_PACKETS,
  USO_CUT,
  USO_PACKETS,
  type Counters,
} from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import { flowHash4, flowHash6 } from './flow-hash.js'
import type { IcmpErrors } from './icmp.js'
import type { Runs } from './offload/runs.js'
import type { Segmenter } from './offload/segment.js'
import type { Sums } from './offload/sums.js'
import type { Arena } from './packet/arena.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import { VNET_HDR_LEN } from './packet/layout.js'
import {
  DROP_GSO_MALFORMED,
  DROP_IPV6_TRUNCATED,
  DROP_IPV6_UNSUPPORTED,
  DROP_LOOP,
  DROP_NO_ROUTE,
  DROP_NOT_IP,
  DROP_PEER_NO_IPV6,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'
import * as ipv6 from './wire/ipv6.js'
import { FRAGMENT } from './wire/ipv6-extensions.js'
import * as vnethdr from './wire/vnethdr.js'

export interface EgressParts {
  /** Memory in which the batches lie. */
  readonly arena: Arena
  readonly fib: FibReader
  readonly hops: HopTable
  readonly encap: Encap
  readonly icmp: IcmpErrors
  readonly counters: Counters
  /** Where packets are staged, and how they join there. */
  readonly out: Entries
  readonly runs: Runs
  readonly segmenter: Segmenter
  readonly sums: Sums
  /** Whether a virtio-net header stands before each packet. */
  readonly hasVnet: boolean
  /** Whether the network has IPv6. */
  readonly hasIpv6: boolean
  /** Sockets that the port sends from, a power of two: a flow keeps to one of them. */
  readonly sockets: number
}

/** Takes the batches of the TUN device, one at a time. */
export interface Egress {
  /** Takes up a batch. */
  begin(): void
  /**
   * Stages the packets of the batch that go on, as long as there is room. Borrows the packets until
   * what was staged has been sent.
   * @returns  whether any are left: send what was staged, then call again
   */
  run(batch: Batch): boolean
}

/**
 * A closure and not a class: an engine's thread has one, so that the compiler knows the arrays and
 * views themselves.
 */
export function createEgress(parts: EgressParts): Egress {
  const { arena, fib, hops, encap, icmp, counters, out, runs, segmenter, sums, hasVnet, hasIpv6 } =
    parts
  const { sockets } = parts
  /** What of a flow's hash is left is the number of its socket. */
  const socketShift = 32 - Math.log2(sockets)
  const { view, bytes } = arena
  const { headerLen, lowersTtl } = encap
  let row = 0
  let hop = 0
  /** Whether the packet at hand is IPv6, and whether its super-packet is TCP. */
  let isV6 = false
  let isTcp = false
  /** The socket that the packet at hand leaves by. */
  let socket = 0
  /** Whether the packet before was a fragment. */
  let wasFragment = false
  /** Segments of the super-packet at hand, and those that are staged already. */
  let segments = 0
  let segment = 0

  function begin(): void {
    row = 0
  }

  function run(batch: Batch): boolean {
    for (; row < batch.count; row++) {
      if (segment === segments) {
        if (out.isFull()) return true
        const len = batch.len(row)
        const verdict = packet(batch.at(row), len)
        if (verdict !== FORWARD) counters.add(EGRESS, verdict, 1, len)
      }
      if (segment < segments && !stageSegments()) return true
    }
    return false
  }

  function packet(at: number, len: number): Verdict {
    let verdict = classify(at, len)
    if (verdict === FORWARD) verdict = route(at)
    if (verdict === FORWARD) verdict = age(at)
    if (verdict === FORWARD) verdict = finish(at)
    if (verdict !== FORWARD) return verdict
    if (sockets > 1) socket = pickSocket(at)
    if (segments > 0) countSuper()
    else stage(at, totalLen(at))
    return FORWARD
  }

  /**
   * From where? The flow decides, so that it keeps its order. Fragments and whole datagrams of one flow
   * leave by two sockets: neither may join a run that was begun before the other.
   */
  function pickSocket(at: number): number {
    const isFragment = isV6 ? ipv6.nextHeader(view, at) === FRAGMENT : ipv4.isFragment(view, at)
    if (isFragment !== wasFragment) runs.clear()
    wasFragment = isFragment
    return (isV6 ? flowHash6(view, at) : flowHash4(view, at)) >>> socketShift
  }

  /** Read as one packet, sent as many: each of them is accounted for. */
  function countSuper(): void {
    counters.gauge(READ + EGRESS, segments - 1)
    counters.gauge(isTcp ? TSO_CUT : USO_CUT, 1)
    counters.gauge(isTcp ? TSO_PACKETS : USO_PACKETS, segments)
  }

  /** Is it a packet that this backend carries? The only check on the way out; later reads rely on it. */
  function classify(at: number, len: number): Verdict {
    if (len === 0) return DROP_NOT_IP
    isV6 = ipv4.version(view, at) === 6
    if (!isV6) return ipv4.check(view, at, len)
    if (!hasIpv6) return DROP_IPV6_UNSUPPORTED
    return ipv6.check(view, at, len) === ipv6.OK ? FORWARD : DROP_IPV6_TRUNCATED
  }

  /** Bytes of the packet by its header. */
  function totalLen(at: number): number {
    return isV6 ? ipv6.totalLen(view, at) : ipv4.totalLen(view, at)
  }

  /** Where to? Leaves the next hop in `hop`. */
  function route(at: number): Verdict {
    hop = isV6 ? fib.lookup6(view, at + ipv6.DST_AT) : fib.lookup4(ipv4.dst(view, at))
    if (hop === 0) {
      reportLost(DROP_NO_ROUTE, at)
      return DROP_NO_ROUTE
    }
    return hops.isPeer(hop) ? FORWARD : noPeer(at)
  }

  function noPeer(at: number): Verdict {
    if (hops.isLocal(hop)) return DROP_LOOP
    reportLost(DROP_PEER_NO_IPV6, at)
    return DROP_PEER_NO_IPV6
  }

  /**
   * An ICMP error quotes what was sent (RFC 1812 §4.3.2.3), and a super-packet never is: a router
   * beyond a network card would have met its first segment, with finished checksums.
   */
  function reportLost(verdict: Verdict, at: number): void {
    if (finish(at) !== FORWARD) return
    if (segments > 0) segmenter.keepFirst()
    segments = 0
    icmp.about(verdict, at)
  }

  /** flannel's proxy takes one TTL at each end; a packet whose last it would take ends here. */
  function age(at: number): Verdict {
    if (!lowersTtl) return FORWARD
    if ((isV6 ? ipv6.hopLimit(view, at) : ipv4.ttl(view, at)) <= 1) {
      reportLost(DROP_TTL, at)
      return DROP_TTL
    }
    if (isV6) ipv6.decrementHopLimit(view, at)
    else ipv4.decrementTtl(view, at)
    return FORWARD
  }

  /**
   * Finishes what the kernel left to a network card: a checksum here, the cutting of a super-packet
   * by leaving the number of its segments in `segments`.
   */
  function finish(at: number): Verdict {
    segments = 0
    segment = 0
    if (!hasVnet) return FORWARD
    const len = totalLen(at)
    const vnet = at - VNET_HDR_LEN
    const gso = vnethdr.gsoType(view, vnet)
    if (gso === vnethdr.GSO_NONE) {
      return finishChecksum(at, len, vnet) ? FORWARD : DROP_GSO_MALFORMED
    }
    isTcp = gso === (isV6 ? vnethdr.GSO_TCPV6 : vnethdr.GSO_TCPV4)
    if (!isTcp && gso !== vnethdr.GSO_UDP_L4) return DROP_GSO_MALFORMED
    segments = segmenter.begin(at, len, vnethdr.gsoSize(view, vnet), isTcp)
    return segments === 0 ? DROP_GSO_MALFORMED : FORWARD
  }

  /** The field holds the pseudo-header's sum; what it covers is added. 0 would mean "none" in UDP. */
  function finishChecksum(at: number, len: number, vnet: number): boolean {
    if (!vnethdr.needsCsum(view, vnet)) return true
    const start = vnethdr.csumStart(view, vnet)
    const field = start + vnethdr.csumOffset(view, vnet)
    if (field + 2 > len) return false
    const sum = ~sums.checksum(bytes, at + start, len - start) & 0xffff
    view.setUint16(at + field, sum === 0 ? 0xffff : sum)
    return true
  }

  /** Encapsulates in the headroom and hands the packet to the socket's next send. */
  function stage(at: number, len: number): void {
    parts.encap.push(view, at, hop)
    const entry = runs.place(hop, hops.name(hop), len + headerLen, socket)
    out.append(entry, at - headerLen, len + headerLen, len)
  }

  /**
   * Cuts the super-packet at hand: fresh headers per segment, slices of the payload where it lies.
   * @returns  whether all of it found room
   */
  function stageSegments(): boolean {
    const name = hops.name(hop)
    for (; segment < segments; segment++) {
      if (out.isFull() || !segmenter.hasRoom()) return false
      const at = segmenter.header(segment)
      const len = segmenter.len(segment)
      parts.encap.push(view, at, hop)
      const entry = runs.place(hop, name, len + headerLen, socket)
      out.addPiece(entry, at - headerLen, segmenter.headerBytes() + headerLen)
      out.addPiece(entry, segmenter.sliceAt(segment), segmenter.sliceLen(segment))
      out.addPacket(entry, len)
    }
    return true
  }

  return { begin, run }
}
