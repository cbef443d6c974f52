/**
 * Ingress: outside → inside. A datagram from the underlay is unwrapped, checked as bytes from the
 * network must be, aged, and staged for the TUN device, joined with its neighbours of the same flow
 * where the device takes super-packets. The kernel may hand over a train of datagrams in one piece
 * (UDP GRO); each of them is a packet of its own here.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws.
 */
import { INGRESS, READ, TRAIN_DATAGRAMS, TRAINS_RECEIVED, type Counters } from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { Coalescer } from './offload/coalesce.js'
import type { Sums } from './offload/sums.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import {
  DROP_IPV4_CHECKSUM,
  DROP_IPV6_UNSUPPORTED,
  DROP_NOT_IP,
  DROP_NOT_OUR_SUBNET,
  DROP_OVERSIZE,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'

export interface IngressParts {
  readonly fib: FibReader
  readonly hops: HopTable
  readonly encap: Encap
  readonly counters: Counters
  /** MTU of the TUN device; longer inner packets are dropped. */
  readonly mtu: number
  /** Where packets are staged for the TUN device, and what joins them there. */
  readonly out: Entries
  readonly coalescer: Coalescer
  readonly sums: Sums
}

/** Sums of one batch: every row a train of as many datagrams as the kernel merges, 128. */
const MAX_SUMS = 64 * 128

export class Ingress {
  private readonly parts: IngressParts
  /** Sums of the batch's datagrams, one after another; beyond the last they count as not known. */
  private readonly sumOf = new Int32Array(MAX_SUMS)
  private summed = 0
  private nextSumAt = 0
  private row = 0
  /** Bytes of the row at hand that are behind us. */
  private done = 0

  constructor(parts: IngressParts) {
    this.parts = parts
  }

  /** Takes up a batch: sums all its datagrams, in one native call. */
  begin(batch: Batch): void {
    const { sums, encap, coalescer } = this.parts
    this.row = 0
    this.done = 0
    this.summed = 0
    this.nextSumAt = 0
    if (!coalescer.isOn()) return
    this.summed = sums.checksumRows(
      batch.arena.bytes,
      batch.columns,
      batch.capacity,
      batch.count,
      encap.headerLen,
      this.sumOf,
    )
  }

  /**
   * Stages the packets of a batch that go on, as long as there is room. Borrows the packets until
   * what was staged has been written.
   * @returns  whether any are left: write what was staged, then call again
   */
  run(batch: Batch): boolean {
    while (this.row < batch.count && this.train(batch, this.row)) {
      this.row++
      this.done = 0
    }
    this.parts.coalescer.flush()
    return this.row < batch.count
  }

  /** The datagrams of one row, one after the other. @returns whether all of them found room */
  private train(batch: Batch, row: number): boolean {
    const { out, counters } = this.parts
    const len = batch.len(row)
    const segment = batch.segment(row)
    const step = segment === 0 ? len : segment
    if (batch.isTruncated(row) || len === 0) {
      this.drop(len === 0 ? DROP_NOT_IP : DROP_OVERSIZE, len)
      // Its sums were computed all the same.
      if (len > 0) this.nextSumAt += Math.ceil(len / step)
      return true
    }
    if (segment > 0 && this.done === 0) {
      counters.gauge(TRAINS_RECEIVED, 1)
      counters.gauge(TRAIN_DATAGRAMS, Math.ceil(len / step))
    }
    const at = batch.at(row)
    for (; this.done < len; this.done += step) {
      if (out.isFull()) return false
      // Read as one row, written as many: each of them is accounted for.
      if (this.done > 0) counters.gauge(READ + INGRESS, 1)
      const bytes = Math.min(step, len - this.done)
      this.datagram(batch.arena.view, at + this.done, bytes, this.nextSum())
    }
    return true
  }

  private nextSum(): number {
    return this.nextSumAt < this.summed ? (this.sumOf[this.nextSumAt++] ?? 0) : 0
  }

  private datagram(view: DataView, start: number, bytes: number, sum: number): void {
    const header = this.parts.encap.headerLen
    const at = start + header
    const len = bytes - header
    let verdict = this.parts.encap.pull(view, start, bytes)
    if (verdict === FORWARD) verdict = this.classify(view, at, len)
    if (verdict === FORWARD) verdict = this.admit(view, at)
    if (verdict === FORWARD) verdict = this.age(view, at)
    if (verdict !== FORWARD) {
      this.drop(verdict, Math.max(len, 0))
      return
    }
    // Bytes behind the packet's end are not passed on, and were summed with it.
    const total = ipv4.totalLen(view, at)
    this.parts.coalescer.add(at, total, total === len ? sum : 0)
  }

  private drop(verdict: Verdict, len: number): void {
    this.parts.counters.add(INGRESS, verdict, 1, len)
  }

  /** Is it an IPv4 packet, as long as it says, no longer than our MTU, with a right header checksum? */
  private classify(view: DataView, at: number, len: number): Verdict {
    if (len <= 0) return DROP_NOT_IP
    if (ipv4.version(view, at) === 6) return DROP_IPV6_UNSUPPORTED
    const verdict = ipv4.check(view, at, len)
    if (verdict !== FORWARD) return verdict
    if (ipv4.totalLen(view, at) > this.parts.mtu) return DROP_OVERSIZE
    return ipv4.isChecksumRight(view, at) ? FORWARD : DROP_IPV4_CHECKSUM
  }

  /** Is it for us? Anything else would be routed on by this host's kernel on a stranger's behalf. */
  private admit(view: DataView, at: number): Verdict {
    const hop = this.parts.fib.lookup4(ipv4.dst(view, at))
    return hop !== 0 && this.parts.hops.isLocal(hop) ? FORWARD : DROP_NOT_OUR_SUBNET
  }

  /** The receiving end takes its TTL too. */
  private age(view: DataView, at: number): Verdict {
    if (!this.parts.encap.lowersTtl) return FORWARD
    if (ipv4.ttl(view, at) <= 1) return DROP_TTL
    ipv4.decrementTtl(view, at)
    return FORWARD
  }
}
