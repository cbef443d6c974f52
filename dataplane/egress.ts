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
import type { IcmpErrors } from './icmp.js'
import type { Runs } from './offload/runs.js'
import type { Segmenter } from './offload/segment.js'
import type { Sums } from './offload/sums.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import { VNET_HDR_LEN } from './packet/layout.js'
import {
  DROP_GSO_MALFORMED,
  DROP_IPV6_UNSUPPORTED,
  DROP_LOOP,
  DROP_NO_ROUTE,
  DROP_NOT_IP,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'
import * as vnethdr from './wire/vnethdr.js'

export interface EgressParts {
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
}

export class Egress {
  private readonly parts: EgressParts
  private row = 0
  private hop = 0
  /** Segments of the super-packet at hand, and those that are staged already. */
  private segments = 0
  private segment = 0

  constructor(parts: EgressParts) {
    this.parts = parts
  }

  /** Takes up a batch. */
  begin(): void {
    this.row = 0
  }

  /**
   * Stages the packets of a batch that go on, as long as there is room. Borrows the packets until
   * what was staged has been sent.
   * @returns  whether any are left: send what was staged, then call again
   */
  run(batch: Batch): boolean {
    const view = batch.arena.view
    const { out, counters } = this.parts
    for (; this.row < batch.count; this.row++) {
      if (this.segment === this.segments) {
        if (out.isFull()) return true
        const len = batch.len(this.row)
        const verdict = this.packet(batch, batch.at(this.row), len)
        if (verdict !== FORWARD) counters.add(EGRESS, verdict, 1, len)
      }
      if (!this.stageSegments(view)) return true
    }
    return false
  }

  private packet(batch: Batch, at: number, len: number): Verdict {
    const view = batch.arena.view
    let verdict = this.classify(view, at, len)
    if (verdict === FORWARD) verdict = this.route(batch, at)
    if (verdict === FORWARD) verdict = this.age(view, at)
    if (verdict === FORWARD) verdict = this.finish(batch, at)
    if (verdict !== FORWARD) return verdict
    if (this.segments > 0) this.countSuper(view, at)
    else this.stage(view, at, ipv4.totalLen(view, at))
    return FORWARD
  }

  private countSuper(view: DataView, at: number): void {
    const isTcp = ipv4.protocol(view, at) === ipv4.PROTO_TCP
    this.parts.counters.gauge(isTcp ? TSO_CUT : USO_CUT, 1)
    this.parts.counters.gauge(isTcp ? TSO_PACKETS : USO_PACKETS, this.segments)
  }

  /** Is it a packet that this backend carries? The only check on the way out; later reads rely on it. */
  private classify(view: DataView, at: number, len: number): Verdict {
    if (len === 0) return DROP_NOT_IP
    const version = ipv4.version(view, at)
    if (version === 6) return DROP_IPV6_UNSUPPORTED
    return ipv4.check(view, at, len)
  }

  /** Where to? Leaves the next hop in `this.hop`. */
  private route(batch: Batch, at: number): Verdict {
    const hop = this.parts.fib.lookup4(ipv4.dst(batch.arena.view, at))
    this.hop = hop
    if (hop === 0) {
      this.reportLost(batch, at)
      return DROP_NO_ROUTE
    }
    return this.parts.hops.isLocal(hop) ? DROP_LOOP : FORWARD
  }

  /**
   * An ICMP error quotes what was sent (RFC 1812 §4.3.2.3), and a super-packet never is: a router
   * beyond a network card would have met its first segment, with finished checksums.
   */
  private reportLost(batch: Batch, at: number): void {
    if (this.finish(batch, at) !== FORWARD) return
    if (this.segments > 0) this.parts.segmenter.keepFirst()
    this.segments = 0
    this.parts.icmp.about(DROP_NO_ROUTE, at)
  }

  /** flannel's proxy takes one TTL at each end; a packet whose last it would take ends here. */
  private age(view: DataView, at: number): Verdict {
    if (!this.parts.encap.lowersTtl) return FORWARD
    if (ipv4.ttl(view, at) <= 1) return DROP_TTL
    ipv4.decrementTtl(view, at)
    return FORWARD
  }

  /**
   * Finishes what the kernel left to a network card: a checksum here, the cutting of a super-packet
   * by leaving the number of its segments in `this.segments`.
   */
  private finish(batch: Batch, at: number): Verdict {
    this.segments = 0
    this.segment = 0
    if (!this.parts.hasVnet) return FORWARD
    const view = batch.arena.view
    const len = ipv4.totalLen(view, at)
    const vnet = at - VNET_HDR_LEN
    const gso = vnethdr.gsoType(view, vnet)
    if (gso === vnethdr.GSO_NONE) {
      return this.finishChecksum(batch, at, len, vnet) ? FORWARD : DROP_GSO_MALFORMED
    }
    if (gso !== vnethdr.GSO_TCPV4 && gso !== vnethdr.GSO_UDP_L4) return DROP_GSO_MALFORMED
    const size = vnethdr.gsoSize(view, vnet)
    this.segments = this.parts.segmenter.begin(at, len, size, gso === vnethdr.GSO_TCPV4)
    return this.segments === 0 ? DROP_GSO_MALFORMED : FORWARD
  }

  /** The field holds the pseudo-header's sum; what it covers is added. 0 would mean "none" in UDP. */
  private finishChecksum(batch: Batch, at: number, len: number, vnet: number): boolean {
    const view = batch.arena.view
    if (!vnethdr.needsCsum(view, vnet)) return true
    const start = vnethdr.csumStart(view, vnet)
    const field = start + vnethdr.csumOffset(view, vnet)
    if (field + 2 > len) return false
    const sum = ~this.parts.sums.checksum(batch.arena.bytes, at + start, len - start) & 0xffff
    view.setUint16(at + field, sum === 0 ? 0xffff : sum)
    return true
  }

  /** Encapsulates in the headroom and hands the packet to the socket's next send. */
  private stage(view: DataView, at: number, len: number): void {
    const { encap, out, runs, hops } = this.parts
    const header = encap.headerLen
    this.parts.encap.push(view, at, this.hop)
    const entry = runs.place(this.hop, hops.name(this.hop), len + header)
    out.addPiece(entry, at - header, len + header)
    out.addPacket(entry, len)
  }

  /**
   * Cuts the super-packet at hand: fresh headers per segment, slices of the payload where it lies.
   * @returns  whether all of it found room
   */
  private stageSegments(view: DataView): boolean {
    const { encap, out, runs, hops, segmenter, counters } = this.parts
    const name = hops.name(this.hop)
    const header = encap.headerLen
    for (; this.segment < this.segments; this.segment++) {
      if (out.isFull() || !segmenter.hasRoom()) return false
      // Read as one packet, sent as many: each of them is accounted for.
      if (this.segment > 0) counters.gauge(READ + EGRESS, 1)
      const at = segmenter.header(this.segment)
      const len = segmenter.len(this.segment)
      this.parts.encap.push(view, at, this.hop)
      const entry = runs.place(this.hop, name, len + header)
      out.addPiece(entry, at - header, segmenter.headerBytes + header)
      out.addPiece(entry, segmenter.sliceAt(this.segment), segmenter.sliceLen(this.segment))
      out.addPacket(entry, len)
    }
    return true
  }
}
