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
const TCP_SUM_AT = 16
const UDP_LEN_AT = 4
const UDP_SUM_AT = 6

/** FIN and PSH belong to the last segment alone, CWR to the first (as in Linux, tcp_offload.c). */
const TCP_FIN_PSH = 0x09
const TCP_CWR = 0x80

export class Segmenter {
  private readonly view: DataView
  private readonly bytes: Uint8Array
  private readonly words: Int32Array
  private readonly base: number
  private readonly slots: number
  private readonly native: Sums
  private readonly sums = new Int32Array(MAX_SEGMENTS)
  private used = 0

  // The super-packet at hand.
  private at = 0
  private isV6 = false
  private isTcp = false
  private ipLen = 0
  private headersLen = 0
  private payloadLen = 0
  private size = 0
  private count = 0
  private ipBase = 0
  private l4Base = 0

  /**
   * @param base      offset in the arena of `slots` header slots; a multiple of 4
   * @param sums      the native sums
   */
  constructor(arena: Arena, base: number, slots: number, sums: Sums) {
    this.view = arena.view
    this.bytes = arena.bytes
    this.words = new Int32Array(arena.bytes.buffer)
    this.base = base
    this.slots = slots
    this.native = sums
  }

  /** All header slots are free again: what they held was sent. */
  clear(): void {
    this.used = 0
  }

  /** Whether a segment's headers find a free slot. */
  hasRoom(): boolean {
    return this.used < this.slots
  }

  /**
   * Takes up a super-packet that the kernel handed over; it has passed `ipv4.check` or `ipv6.check`.
   * @param at     its first byte; a multiple of 4
   * @param len    bytes of the IP packet
   * @param size   payload bytes of a segment (gso_size)
   * @param isTcp  TCP, else UDP
   * @returns      number of segments, 0 when the headers make no sense
   */
  begin(at: number, len: number, size: number, isTcp: boolean): number {
    const view = this.view
    this.at = at
    this.isV6 = ipv4.version(view, at) === 6
    this.isTcp = isTcp
    this.ipLen = this.isV6 ? this.upperOffset6(len) : this.upperOffset4()
    const l4 = at + this.ipLen
    const shortest = isTcp ? tcp.HEADER_LEN : udp.HEADER_LEN
    if (this.ipLen === 0 || len < this.ipLen + shortest || size === 0) return 0
    const l4HeaderLen = isTcp ? tcp.headerLen(view, l4) : udp.HEADER_LEN
    this.headersLen = this.ipLen + l4HeaderLen
    this.payloadLen = len - this.headersLen
    this.size = size
    this.count = Math.ceil(this.payloadLen / size)
    if (l4HeaderLen < shortest || this.payloadLen <= 0) return 0
    if (this.headersLen > MAX_HEADERS || this.count > MAX_SEGMENTS) return 0
    this.native.checksumSteps(this.bytes, at + this.headersLen, this.payloadLen, size, this.sums)
    this.ipBase = this.isV6 ? 0 : this.baseOfIp()
    this.l4Base = this.baseOfL4(l4, len - this.ipLen)
    return this.count
  }

  /** Bytes of segment k, headers included. */
  len(k: number): number {
    return this.headersLen + this.sliceLen(k)
  }

  /** First payload byte of segment k. */
  sliceAt(k: number): number {
    return this.at + this.headersLen + k * this.size
  }

  /** Payload bytes of segment k. */
  sliceLen(k: number): number {
    return k === this.count - 1 ? this.payloadLen - k * this.size : this.size
  }

  /** Bytes of the headers of every segment. */
  get headerBytes(): number {
    return this.headersLen
  }

  /**
   * Writes the headers of segment k into a free slot.
   * @returns  where they begin; the bytes before, up to 24, are free for an encapsulation
   */
  header(k: number): number {
    const to = this.base + this.used++ * HEADER_SLOT + BEFORE
    this.copy(this.at, to, this.headersLen)
    this.write(k, to)
    return to
  }

  /** Makes the super-packet its own first segment, in place. It can be cut no more after that. */
  keepFirst(): void {
    this.write(0, this.at)
  }

  /** Writes what the headers of segment k have of their own; the rest of them lies at `to` already. */
  private write(k: number, to: number): void {
    const view = this.view
    const len = this.len(k)
    if (this.isV6) {
      view.setUint16(to + IPV6_LEN_AT, len - ipv6.HEADER_LEN)
    } else {
      const id = (ipv4.id(view, this.at) + k) & 0xffff
      view.setUint16(to + IPV4_LEN_AT, len)
      view.setUint16(to + IPV4_ID_AT, id)
      view.setUint16(to + IPV4_SUM_AT, ~fold(this.ipBase + len + id) & 0xffff)
    }
    const l4Len = len - this.ipLen
    if (this.isTcp) this.finishTcp(to + this.ipLen, k, l4Len)
    else this.finishUdp(to + this.ipLen, k, l4Len)
  }

  private finishTcp(l4: number, k: number, l4Len: number): void {
    const view = this.view
    const seq = (tcp.seq(view, this.at + this.ipLen) + k * this.size) | 0
    let flags = view.getUint16(this.at + this.ipLen + TCP_FLAGS_AT)
    if (k < this.count - 1) flags &= ~TCP_FIN_PSH
    if (k > 0) flags &= ~TCP_CWR
    view.setInt32(l4 + TCP_SEQ_AT, seq)
    view.setUint16(l4 + TCP_FLAGS_AT, flags)
    const sum = this.l4Base + (seq >>> 16) + (seq & 0xffff) + flags + l4Len + this.sumOf(k)
    view.setUint16(l4 + TCP_SUM_AT, ~fold(sum) & 0xffff)
  }

  private finishUdp(l4: number, k: number, l4Len: number): void {
    const view = this.view
    view.setUint16(l4 + UDP_LEN_AT, l4Len)
    // The length stands in the header and in the pseudo-header.
    const sum = ~fold(this.l4Base + l4Len + l4Len + this.sumOf(k)) & 0xffff
    view.setUint16(l4 + UDP_SUM_AT, sum === 0 ? 0xffff : sum)
  }

  private sumOf(k: number): number {
    return this.sums[k] ?? 0
  }

  /** Sum of the IPv4 header without length, id and checksum. */
  private baseOfIp(): number {
    const view = this.view
    let sum = 0
    for (let i = 0; i < this.ipLen; i += 2) {
      if (i !== IPV4_LEN_AT && i !== IPV4_ID_AT && i !== IPV4_SUM_AT) {
        sum += view.getUint16(this.at + i)
      }
    }
    return sum
  }

  /** Bytes before the transport header, 0 = it is not there. */
  private upperOffset4(): number {
    const view = this.view
    const at = this.at
    const isThere =
      ipv4.protocol(view, at) === (this.isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP) &&
      !ipv4.isFragment(view, at)
    return isThere ? ipv4.headerLen(view, at) : 0
  }

  /** The same behind extension headers, which every segment repeats. */
  private upperOffset6(len: number): number {
    const walked = extensions.walk(this.view, this.at, len)
    const isThere =
      walked >= 0 &&
      extensions.upperProtocol(walked) === (this.isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP) &&
      !extensions.isFragment(walked)
    return isThere ? extensions.upperOffset(walked) : 0
  }

  /** Sum of pseudo-header and transport header without what changes from segment to segment. */
  private baseOfL4(l4: number, l4Len: number): number {
    const view = this.view
    let sum = this.pseudoBase(l4, l4Len)
    const end = this.at + this.headersLen
    if (!this.isTcp) return sum + view.getUint16(l4) + view.getUint16(l4 + 2)
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
  private pseudoBase(l4: number, l4Len: number): number {
    const view = this.view
    const at = this.at
    if (this.isV6 && this.ipLen > ipv6.HEADER_LEN) {
      const field = view.getUint16(l4 + (this.isTcp ? TCP_SUM_AT : UDP_SUM_AT))
      return field + (0xffff - fold(l4Len))
    }
    const protocol = this.isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP
    return this.isV6
      ? pseudo6(view, at + ipv6.SRC_AT, at + ipv6.DST_AT, protocol, 0)
      : pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, 0)
  }

  /** Copies headers word by word, which is faster than the call that copies a range this short. */
  private copy(from: number, to: number, len: number): void {
    const words = this.words
    let source = from >> 2
    const end = (from + len + 3) >> 2
    let target = to >> 2
    while (source < end) words[target++] = words[source++] ?? 0
  }
}
