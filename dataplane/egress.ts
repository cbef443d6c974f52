/**
 * Egress: inside → outside. A packet that the kernel routed to the TUN device is checked, gets its
 * next hop from the FIB, loses one TTL if the backend says so, and is staged for the socket. What the
 * kernel left unfinished (a super-packet, a checksum) is finished on the way.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws;
 * what does not go on is counted under its verdict.
 */
import { EGRESS, READ, type Counters } from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { IcmpErrors } from './icmp.js'
import { MAX_SEGMENTS, type Segmenter } from './offload/segment.js'
import type { Runs } from './offload/runs.js'
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

/** Entries that the largest super-packet may take when no runs can be made of its segments. */
const ENTRIES_NEEDED = MAX_SEGMENTS

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
  private hop = 0

  constructor(parts: EgressParts) {
    this.parts = parts
  }

  /**
   * Stages the packets of a batch that go on, from a row on, as long as there is room. Borrows the
   * packets until what was staged has been sent.
   * @returns  the first row that was not looked at
   */
  run(batch: Batch, from: number): number {
    const view = batch.arena.view
    let row = from
    for (; row < batch.count && this.hasRoom(); row++) {
      const at = batch.at(row)
      const len = batch.len(row)
      let verdict = this.classify(view, at, len)
      if (verdict === FORWARD) verdict = this.route(view, at)
      if (verdict === FORWARD) verdict = this.age(view, at)
      if (verdict === FORWARD) verdict = this.finish(batch, at)
      if (verdict !== FORWARD) this.parts.counters.add(EGRESS, verdict, 1, len)
    }
    return row
  }

  /** Room for the largest super-packet that may come: entries for its runs, slots for its headers. */
  private hasRoom(): boolean {
    return this.parts.out.room() >= ENTRIES_NEEDED && this.parts.segmenter.room() >= MAX_SEGMENTS
  }

  /** Is it a packet that this backend carries? The only check on the way out; later reads rely on it. */
  private classify(view: DataView, at: number, len: number): Verdict {
    if (len === 0) return DROP_NOT_IP
    const version = ipv4.version(view, at)
    if (version === 6) return DROP_IPV6_UNSUPPORTED
    return ipv4.check(view, at, len)
  }

  /** Where to? Leaves the next hop in `this.hop`. */
  private route(view: DataView, at: number): Verdict {
    const hop = this.parts.fib.lookup4(ipv4.dst(view, at))
    this.hop = hop
    if (hop === 0) {
      this.parts.icmp.about(DROP_NO_ROUTE, at)
      return DROP_NO_ROUTE
    }
    return this.parts.hops.isLocal(hop) ? DROP_LOOP : FORWARD
  }

  /** flannel's proxy takes one TTL at each end; a packet whose last it would take ends here. */
  private age(view: DataView, at: number): Verdict {
    if (!this.parts.encap.lowersTtl) return FORWARD
    if (ipv4.ttl(view, at) <= 1) return DROP_TTL
    ipv4.decrementTtl(view, at)
    return FORWARD
  }

  /** Finishes what the kernel left to a network card: cutting a super-packet, a checksum. */
  private finish(batch: Batch, at: number): Verdict {
    const view = batch.arena.view
    const len = ipv4.totalLen(view, at)
    if (!this.parts.hasVnet) return this.stage(view, at, len)
    const vnet = at - VNET_HDR_LEN
    switch (vnethdr.gsoType(view, vnet)) {
      case vnethdr.GSO_NONE:
        return this.finishChecksum(batch, at, len, vnet)
          ? this.stage(view, at, len)
          : DROP_GSO_MALFORMED
      case vnethdr.GSO_TCPV4:
        return this.segment(view, at, len, vnethdr.gsoSize(view, vnet), true)
      case vnethdr.GSO_UDP_L4:
        return this.segment(view, at, len, vnethdr.gsoSize(view, vnet), false)
      default:
        return DROP_GSO_MALFORMED
    }
  }

  /** The field holds the pseudo-header's sum; what it covers is added, and a UDP sum of 0 is written as 0xffff. */
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
  private stage(view: DataView, at: number, len: number): Verdict {
    const { encap, out, runs, hops } = this.parts
    const header = encap.headerLen
    encap.push(view, at, this.hop)
    const entry = runs.place(this.hop, hops.name(this.hop), len + header)
    out.addPiece(entry, at - header, len + header)
    out.addPacket(entry, len)
    return FORWARD
  }

  /** Cuts a super-packet: fresh headers per segment, slices of the payload where it lies. */
  private segment(view: DataView, at: number, len: number, size: number, isTcp: boolean): Verdict {
    const { encap, out, runs, hops, segmenter, counters } = this.parts
    const count = segmenter.begin(at, len, size, isTcp)
    if (count === 0) return DROP_GSO_MALFORMED
    // Read as one packet, sent as many: each of them is accounted for.
    counters.gauge(READ + EGRESS, count - 1)
    const name = hops.name(this.hop)
    const header = encap.headerLen
    for (let k = 0; k < count; k++) {
      const headersAt = segmenter.header(k)
      const segmentLen = segmenter.len(k)
      encap.push(view, headersAt, this.hop)
      const entry = runs.place(this.hop, name, segmentLen + header)
      out.addPiece(entry, headersAt - header, segmenter.headerBytes + header)
      out.addPiece(entry, segmenter.sliceAt(k), segmenter.sliceLen(k))
      out.addPacket(entry, segmentLen)
    }
    return FORWARD
  }
}
