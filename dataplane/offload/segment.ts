/**
 * Segmentation: what the kernel hands over as one super-packet (TSO, USO) leaves as the packets it
 * stands for. Each gets a header of its own, written into scratch memory; the payload is not
 * copied, every segment names its slice of it.
 *
 *     super-packet   | IP | TCP |  payload ...........................|
 *     segment k      | IP'| TCP'|  payload[k × size, (k+1) × size)
 *
 * The sums are not computed anew per segment. What a header's checksum covers and does not change
 * from segment to segment is added once; per segment the changing words and the payload's sum, which
 * comes from the native side for all slices at once, are added to it.
 */
import type { Arena } from '../packet/arena.js'
import { fold, pseudo4, pseudo6 } from '../wire/checksum.js'
import * as extensions from '../wire/ipv6-extensions.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import type { Sums } from './sums.js'

/** Bytes in a header slot before the headers: room for an encapsulation (VXLAN: 22). */
const BEFORE = 24
/** Bytes kept for one segment's headers: the longest of IPv4 (60) and TCP (60) fit behind `BEFORE`. */
export const HEADER_SLOT = 160
/** Longer headers, which only IPv6 extension headers could make, are refused. */
const MAX_HEADERS = HEADER_SLOT - BEFORE

/**
 * Super-packets of more segments are refused. 65535 bytes have fewer even at the smallest payload
 * that Linux puts into a segment: 8 bytes, TCP_MIN_SND_MSS less the longest options.
 */
export const MAX_SEGMENTS = 8192

const IPV4_LEN_AT = 2
const IPV4_ID_AT = 4
const IPV4_SUM_AT = 10
const IPV6_LEN_AT = 4
const TCP_SEQ_AT = 4
const TCP_FLAGS_AT = 12
const TCP_SUM_AT = tcp.CHECKSUM_AT
const UDP_LEN_AT = 4
const UDP_SUM_AT = udp.CHECKSUM_AT

/** FIN and PSH belong to the last segment alone, CWR to the first (as in Linux, tcp_offload.c). */
const TCP_FIN_PSH = 0x09
const TCP_CWR = 0x80

/** Cuts super-packets, one at a time. */
export interface Segmenter {
  /** All header slots are free again: what they held was sent. */
  clear(): void
  /** Whether a segment's headers find a free slot. */
  hasRoom(): boolean
  /**
   * Takes up a super-packet that the kernel handed over; it has passed `ipv4.check` or `ipv6.check`.
   * @param at     its first byte; a multiple of 4
   * @param len    bytes of the IP packet
   * @param size   payload bytes of a segment (gso_size)
   * @param isTcp  TCP, else UDP
   * @returns      number of segments, 0 when the headers make no sense
   */
  begin(at: number, len: number, size: number, isTcp: boolean): number
  /** Bytes of segment k, headers included. */
  len(k: number): number
  /** Bytes of the headers of every segment. */
  headerBytes(): number
  /** First payload byte of segment k. */
  sliceAt(k: number): number
  /** Payload bytes of segment k. */
  sliceLen(k: number): number
  /**
   * Writes the headers of segment k into a free slot.
   * @returns  where they begin; the bytes before, up to 24, are free for an encapsulation
   */
  header(k: number): number
  /** Makes the super-packet its own first segment, in place. It can be cut no more after that. */
  keepFirst(): void
}

/**
 * A closure and not a class: an engine's thread has one, so that the compiler knows the arrays and
 * views themselves.
 * @param base    offset in the arena of `slots` header slots; a multiple of 4
 * @param native  sums the payloads
 */
export function createSegmenter(
  arena: Arena,
  base: number,
  slots: number,
  native: Sums,
): Segmenter {
  const { view, bytes } = arena
  const words = new Int32Array(bytes.buffer)
  const sums = new Int32Array(MAX_SEGMENTS)
  let used = 0

  // The super-packet at hand.
  let first = 0
  let isV6 = false
  let hasTcp = false
  let ipLen = 0
  let headersLen = 0
  let payloadLen = 0
  let size = 0
  let count = 0
  // What all of its segments' headers are made of: id, sequence number and flags of the first one,
  // sums of the words that do not change.
  let id = 0
  let seq = 0
  let flags = 0
  let ipBase = 0
  let l4Base = 0

  function clear(): void {
    used = 0
  }

  function hasRoom(): boolean {
    return used < slots
  }

  function begin(at: number, len: number, gsoSize: number, isTcp: boolean): number {
    first = at
    isV6 = ipv4.version(view, at) === 6
    hasTcp = isTcp
    size = gsoSize
    ipLen = isV6 ? upperOffset6(len) : upperOffset4()
    const l4 = at + ipLen
    const shortest = isTcp ? tcp.HEADER_LEN : udp.HEADER_LEN
    if (ipLen === 0 || len < ipLen + shortest || size === 0) return 0
    const l4HeaderLen = isTcp ? tcp.headerLen(view, l4) : udp.HEADER_LEN
    headersLen = ipLen + l4HeaderLen
    payloadLen = len - headersLen
    count = Math.ceil(payloadLen / size)
    if (l4HeaderLen < shortest || payloadLen <= 0) return 0
    if (headersLen > MAX_HEADERS || count > MAX_SEGMENTS) return 0
    native.checksumSteps(bytes, at + headersLen, payloadLen, size, sums)
    id = isV6 ? 0 : ipv4.id(view, at)
    seq = isTcp ? tcp.seq(view, l4) : 0
    flags = isTcp ? view.getUint16(l4 + TCP_FLAGS_AT) : 0
    ipBase = isV6 ? 0 : baseOfIp()
    l4Base = baseOfL4(l4, len - ipLen)
    return count
  }

  function len(k: number): number {
    return headersLen + sliceLen(k)
  }

  function headerBytes(): number {
    return headersLen
  }

  function sliceAt(k: number): number {
    return first + headersLen + k * size
  }

  function sliceLen(k: number): number {
    return k === count - 1 ? payloadLen - k * size : size
  }

  function header(k: number): number {
    const to = base + used++ * HEADER_SLOT + BEFORE
    copy(first, to, headersLen)
    write(k, to)
    return to
  }

  function keepFirst(): void {
    write(0, first)
  }

  /** Writes what the headers of segment k have of their own; the rest of them lies at `to` already. */
  function write(k: number, to: number): void {
    const l4Len = len(k) - ipLen
    if (isV6) {
      view.setUint16(to + IPV6_LEN_AT, ipLen + l4Len - ipv6.HEADER_LEN)
    } else {
      const own = (id + k) & 0xffff
      const total = ipLen + l4Len
      view.setUint16(to + IPV4_LEN_AT, total)
      view.setUint16(to + IPV4_ID_AT, own)
      view.setUint16(to + IPV4_SUM_AT, ~fold(ipBase + total + own))
    }
    if (hasTcp) finishTcp(to + ipLen, k, l4Len)
    else finishUdp(to + ipLen, k, l4Len)
  }

  function finishTcp(l4: number, k: number, l4Len: number): void {
    const own = (seq + k * size) | 0
    let ownFlags = flags
    if (k < count - 1) ownFlags &= ~TCP_FIN_PSH
    if (k > 0) ownFlags &= ~TCP_CWR
    view.setInt32(l4 + TCP_SEQ_AT, own)
    view.setUint16(l4 + TCP_FLAGS_AT, ownFlags)
    const sum = l4Base + (own >>> 16) + (own & 0xffff) + ownFlags + l4Len + (sums[k] ?? 0)
    view.setUint16(l4 + TCP_SUM_AT, ~fold(sum))
  }

  function finishUdp(l4: number, k: number, l4Len: number): void {
    view.setUint16(l4 + UDP_LEN_AT, l4Len)
    // The length stands in the header and in the pseudo-header.
    const sum = ~fold(l4Base + l4Len + l4Len + (sums[k] ?? 0)) & 0xffff
    view.setUint16(l4 + UDP_SUM_AT, sum === 0 ? 0xffff : sum)
  }

  /** Sum of the IPv4 header without length, id and checksum. */
  function baseOfIp(): number {
    let sum = 0
    for (let i = 0; i < ipLen; i += 2) {
      if (i !== IPV4_LEN_AT && i !== IPV4_ID_AT && i !== IPV4_SUM_AT) {
        sum += view.getUint16(first + i)
      }
    }
    return sum
  }

  /** Bytes before the transport header, 0 = it is not there. */
  function upperOffset4(): number {
    const isThere =
      ipv4.protocol(view, first) === (hasTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP) &&
      !ipv4.isFragment(view, first)
    return isThere ? ipv4.headerLen(view, first) : 0
  }

  /** The same behind extension headers, which every segment repeats. */
  function upperOffset6(len: number): number {
    const walked = extensions.walk(view, first, len)
    const isThere =
      walked >= 0 &&
      extensions.upperProtocol(walked) === (hasTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP) &&
      !extensions.isFragment(walked)
    return isThere ? extensions.upperOffset(walked) : 0
  }

  /** Sum of pseudo-header and transport header without what changes from segment to segment. */
  function baseOfL4(l4: number, l4Len: number): number {
    let sum = pseudoBase(l4, l4Len)
    const end = first + headersLen
    if (!hasTcp) return sum + view.getUint16(l4) + view.getUint16(l4 + 2)
    for (let at = l4; at < end; at += 2) {
      const i = at - l4
      const isChanging =
        i === TCP_SEQ_AT || i === TCP_SEQ_AT + 2 || i === TCP_FLAGS_AT || i === TCP_SUM_AT
      if (!isChanging) sum += view.getUint16(at)
    }
    return sum
  }

  /**
   * Sum of the pseudo-header without the length. Behind a routing header its destination is not the
   * IPv6 header's (RFC 8200 §8.1); the kernel has left the right sum in the checksum field then.
   */
  function pseudoBase(l4: number, l4Len: number): number {
    if (isV6 && ipLen > ipv6.HEADER_LEN) {
      const field = view.getUint16(l4 + (hasTcp ? TCP_SUM_AT : UDP_SUM_AT))
      return field + (0xffff - fold(l4Len))
    }
    const protocol = hasTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP
    return isV6
      ? pseudo6(view, first + ipv6.SRC_AT, first + ipv6.DST_AT, protocol, 0)
      : pseudo4(ipv4.src(view, first), ipv4.dst(view, first), protocol, 0)
  }

  /**
   * Copies headers word by word, which is faster than the call that copies a range this short; four
   * words a round, which is faster than one.
   */
  function copy(from: number, to: number, length: number): void {
    let source = from >> 2
    let target = to >> 2
    const end = (from + length + 3) >> 2
    for (; source + 3 < end; source += 4) {
      words[target] = words[source] ?? 0
      words[target + 1] = words[source + 1] ?? 0
      words[target + 2] = words[source + 2] ?? 0
      words[target + 3] = words[source + 3] ?? 0
      target += 4
    }
    for (; source < end; source++) words[target++] = words[source] ?? 0
  }

  return {
    clear,
    hasRoom,
    begin,
    len,
    headerBytes,
    sliceAt,
    sliceLen,
    header,
    keepFirst,
  }
}
