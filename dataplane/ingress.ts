/**
 * Ingress: outside → inside. A datagram from the underlay is unwrapped, checked as bytes from the
 * network must be, aged, and staged for the TUN device, joined with its neighbours of the same flow
 * where the device takes super-packets. The kernel may hand over a train of datagrams in one piece
 * (UDP GRO); each of them is a packet of its own here.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws.
 */
import {
  INGRESS,
  READ,
  TRAIN_DATAGRAMS,
  TRAINS_RECEIVED,
  UNFINISHED_TAKEN,
  type Counters,
} from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { IcmpErrors } from './icmp.js'
import type { IngressCheck } from './ingress-check.js'
import { HOP_LIMIT, type NeighbourAnswers } from './neighbours.js'
import type { Coalescer } from './offload/coalesce.js'
import type { Segmenter } from './offload/segment.js'
import type { Sums } from './offload/sums.js'
import {
  FINISHED,
  ipLenOf,
  sumAtOf,
  tcpHeadersLen,
  unfinishedProtocol,
} from './offload/unfinished.js'
import type { Arena } from './packet/arena.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import {
  DROP_IPV4_CHECKSUM,
  DROP_IPV6_TRUNCATED,
  DROP_IPV6_UNSUPPORTED,
  DROP_NOT_IP,
  DROP_NOT_OUR_SUBNET,
  DROP_OVERSIZE,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'
import * as ipv6 from './wire/ipv6.js'

export interface IngressParts {
  /** Memory in which the batches lie. */
  readonly arena: Arena
  readonly fib: FibReader
  readonly hops: HopTable
  readonly encap: Encap
  readonly icmp: IcmpErrors
  readonly counters: Counters
  /** MTU of the TUN device; longer inner packets are dropped. */
  readonly mtu: number
  /** MTU of the pods behind it, at most that of the device. */
  readonly podMtu: number
  /** Whether the network has IPv6. */
  readonly hasIpv6: boolean
  /** Whether the TUN device takes a virtio-net header before each packet. */
  readonly hasVnet: boolean
  /** Cuts unfinished super-packets for a TUN device that takes none. */
  readonly segmenter: Segmenter
  /** Where packets are staged for the TUN device, and what joins them there. */
  readonly out: Entries
  readonly coalescer: Coalescer
  readonly sums: Sums
  readonly check: IngressCheck
  /** Answers those who ask for our MAC address; null = the encapsulation has none. */
  readonly neighbours: NeighbourAnswers | null
}

/** Sums of one batch: every row a train of as many datagrams as the kernel merges, 128. */
const MAX_SUMS = 64 * 128

/** Packets that an unfinished super-packet is cut into at most: 64 KiB at an MTU of 576. */
const MOST_SEGMENTS = 128
/** No place in the name table: the TUN needs none. */
const NO_NAME = -1

/** Takes the batches of the socket, one at a time. */
export interface Ingress {
  /** Takes up a batch: sums its datagrams, in one native call, if any of them may be joined. */
  begin(batch: Batch): void
  /**
   * Stages the packets of the batch that go on, as long as there is room. Borrows the packets until
   * what was staged has been written.
   * @returns  whether any are left: write what was staged, then call again
   */
  run(batch: Batch): boolean
}

/**
 * A closure and not a class: an engine's thread has one, so that the compiler knows the arrays and
 * views themselves.
 */
export function createIngress(parts: IngressParts): Ingress {
  const { arena, fib, hops, encap, icmp, counters, mtu, podMtu, out, coalescer, sums, check } =
    parts
  const { hasIpv6, hasVnet, segmenter, neighbours } = parts
  const { view, bytes } = arena
  const { headerLen, lowersTtl, takesUnfinished } = encap
  /** Entries that one datagram may need. */
  const mostEntries = takesUnfinished && !hasVnet ? MOST_SEGMENTS : 1
  /** Sums of the batch's datagrams, one after another; beyond the last they count as not known. */
  const sumOf = new Int32Array(MAX_SUMS)
  let summed = 0
  let nextSumAt = 0
  let row = 0
  /** Whether the packet at hand is IPv6. */
  let isV6 = false
  /** Its transport protocol if it is unfinished. */
  let unfinished = FINISHED
  /** Bytes of the row at hand that are behind us. */
  let done = 0
  /** The destination that was looked up last, and what was found: neighbours often share theirs. */
  let lastDst = 0
  let lastFound: Verdict = DROP_NOT_OUR_SUBNET

  function begin(batch: Batch): void {
    row = 0
    done = 0
    summed = 0
    nextSumAt = 0
    // The table may be another one by now.
    lookUp(lastDst)
    // A datagram that came alone has nothing to be joined with.
    if (!coalescer.isOn() || (batch.count === 1 && batch.segment(0) === 0)) return
    const { columns, capacity, count } = batch
    summed = sums.checksumRows(bytes, columns, capacity, count, headerLen, sumOf)
  }

  function run(batch: Batch): boolean {
    while (row < batch.count && train(batch)) {
      row++
      done = 0
    }
    coalescer.flush()
    return row < batch.count
  }

  /** The datagrams of one row, one after the other. @returns whether all of them found room */
  function train(batch: Batch): boolean {
    const len = batch.len(row)
    const segment = batch.segment(row)
    const step = segment === 0 ? len : segment
    if (batch.isTruncated(row) || len === 0) {
      drop(len === 0 ? DROP_NOT_IP : DROP_OVERSIZE, len)
      // Its sums were computed all the same.
      if (len > 0) nextSumAt += Math.ceil(len / step)
      return true
    }
    if (segment > 0 && done === 0) {
      counters.gauge(TRAINS_RECEIVED, 1)
      counters.gauge(TRAIN_DATAGRAMS, Math.ceil(len / step))
    }
    check.take(batch, row)
    const at = batch.at(row)
    for (let offset = done; offset < len; offset += step) {
      if (out.count + mostEntries > out.capacity) {
        done = offset
        return false
      }
      datagram(at + offset, Math.min(step, len - offset), nextSum())
    }
    // Read as one row, written as many: each of them is accounted for.
    if (step < len) counters.gauge(READ + INGRESS, Math.ceil(len / step) - 1)
    return true
  }

  function nextSum(): number {
    return nextSumAt < summed ? (sumOf[nextSumAt++] ?? 0) : 0
  }

  function datagram(start: number, length: number, sum: number): void {
    const at = start + headerLen
    const len = length - headerLen
    let verdict = encap.pull(view, start, length)
    if (verdict !== FORWARD) {
      refuse(verdict, start, length)
      return
    }
    verdict = classify(at, len)
    if (verdict === FORWARD && isV6 && neighbours !== null && ipv6.hopLimit(view, at) === HOP_LIMIT)
      verdict = neighbours.verdict(verdict, start, length)
    if (verdict === FORWARD) verdict = admit(at)
    if (verdict === FORWARD) verdict = isV6 ? check.verdict6(at) : check.verdict4(at)
    if (verdict === FORWARD) verdict = age(at)
    if (verdict !== FORWARD) {
      drop(verdict, Math.max(len, 0))
      return
    }
    // Bytes behind the packet's end are not passed on, and were summed with it.
    const total = totalLen(at)
    if (unfinished !== FINISHED) finish(at, total)
    else coalescer.add(at, total, total === len ? sumAsIs(sum) : 0)
  }

  /** No packet for us to take: perhaps a question. */
  function refuse(refusal: Verdict, start: number, length: number): void {
    const verdict = neighbours === null ? refusal : neighbours.verdict(refusal, start, length)
    drop(verdict, Math.max(length - headerLen, 0))
  }

  /** Leaves the packet to the kernel behind the TUN, or does here what a network card would. */
  function finish(at: number, total: number): void {
    counters.gauge(UNFINISHED_TAKEN, 1)
    if (hasVnet) {
      coalescer.addUnfinished(at, total, unfinished, mtu, podMtu)
      return
    }
    if (total > mtu) {
      cut(at, total)
      return
    }
    const l4 = at + ipLenOf(view, at)
    const sum = ~sums.checksum(bytes, l4, at + total - l4) & 0xffff
    view.setUint16(l4 + sumAtOf(unfinished), sum === 0 ? 0xffff : sum)
    coalescer.add(at, total, 0)
  }

  /** A TCP super-packet as the packets that it stands for, which `mostEntries` has room for. */
  function cut(at: number, total: number): void {
    const size = podMtu - tcpHeadersLen(view, at, total)
    const segments = segmenter.begin(at, total, size, true)
    counters.gauge(READ + INGRESS, segments - 1)
    for (let k = 0; k < segments; k++) {
      const entry = out.begin(NO_NAME)
      out.addPiece(entry, segmenter.header(k), segmenter.headerBytes())
      out.addPiece(entry, segmenter.sliceAt(k), segmenter.sliceLen(k))
      out.addPacket(entry, segmenter.len(k))
    }
  }

  /**
   * The sum was taken before `age`. A lower TTL in IPv4 changes the header checksum along with it, and
   * the sum not at all; the hop limit of IPv6, the low byte of its word, stands in no checksum.
   */
  function sumAsIs(sum: number): number {
    if (!isV6 || !lowersTtl || sum === 0) return sum
    return sum === 1 ? 0xffff : sum - 1
  }

  function drop(verdict: Verdict, len: number): void {
    counters.add(INGRESS, verdict, 1, len)
  }

  /** Is it an IP packet, as long as it says, no longer than our MTU, with a right header checksum? */
  function classify(at: number, len: number): Verdict {
    if (len <= 0) return DROP_NOT_IP
    isV6 = ipv4.version(view, at) === 6
    unfinished = FINISHED
    if (isV6) return classify6(at, len)
    const verdict = ipv4.check(view, at, len)
    if (verdict !== FORWARD) return verdict
    if (!fits(at)) return DROP_OVERSIZE
    return ipv4.isChecksumRight(view, at) ? FORWARD : DROP_IPV4_CHECKSUM
  }

  function classify6(at: number, len: number): Verdict {
    if (!hasIpv6) return DROP_IPV6_UNSUPPORTED
    if (ipv6.check(view, at, len) !== ipv6.OK) return DROP_IPV6_TRUNCATED
    return fits(at) ? FORWARD : DROP_OVERSIZE
  }

  /** No longer than the MTU, or a TCP super-packet of a kernel beside us. Notes what is unfinished. */
  function fits(at: number): boolean {
    const total = totalLen(at)
    if (takesUnfinished) unfinished = unfinishedProtocol(view, at, total)
    if (total <= mtu) return true
    // The size of a UDP super-packet's datagrams is nowhere to be read.
    if (unfinished !== ipv4.PROTO_TCP) return false
    const headersLen = tcpHeadersLen(view, at, total)
    return headersLen > 0 && total <= headersLen + MOST_SEGMENTS * (podMtu - headersLen)
  }

  function totalLen(at: number): number {
    return isV6 ? ipv6.totalLen(view, at) : ipv4.totalLen(view, at)
  }

  /** Is it for us? Anything else would be routed on by this host's kernel on a stranger's behalf. */
  function admit(at: number): Verdict {
    if (isV6) return isOurs(fib.lookup6(view, at + ipv6.DST_AT))
    const dst = ipv4.dst(view, at)
    if (dst !== lastDst) lookUp(dst)
    return lastFound
  }

  function lookUp(dst: number): void {
    lastDst = dst
    lastFound = isOurs(fib.lookup4(dst))
  }

  function isOurs(hop: number): Verdict {
    return hop !== 0 && hops.isLocal(hop) ? FORWARD : DROP_NOT_OUR_SUBNET
  }

  /** The receiving end takes its TTL too, and tells the sender, who lives behind a peer, if it was the last. */
  function age(at: number): Verdict {
    if (!lowersTtl) return FORWARD
    if ((isV6 ? ipv6.hopLimit(view, at) : ipv4.ttl(view, at)) <= 1) {
      icmp.about(DROP_TTL, at)
      return DROP_TTL
    }
    if (isV6) ipv6.decrementHopLimit(view, at)
    else ipv4.decrementTtl(view, at)
    return FORWARD
  }

  return { begin, run }
}
