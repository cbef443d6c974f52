/**
 * A candidate: what coalescing must know of the packet at hand. Which flow is it of, where do its
 * headers end, may it take part in a super-packet, and is its checksum right?
 *
 * The kernel believes a super-packet and writes fresh checksums into what it cuts from it. So a
 * packet takes part only if cutting gives it back bit for bit: a wrong checksum stays wrong, a
 * missing one missing, and both go on alone, as through a router.
 */
import { fold, pseudo4 } from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'

// How a packet may take part.
/** It may belong to any flow, since its ports are not where they are looked for. */
export const ANY_FLOW = 0
/** It belongs to no flow that is ever joined. */
export const NO_FLOW = 1
/** It belongs to a flow, but must be written by itself. */
export const ALONE = 2
export const TCP = 3
export const UDP = 4

/** What a joined TCP packet may carry: ACK always, FIN at the end, and these. */
const TCP_FLAGS = tcp.ACK | tcp.PSH | tcp.ECE | tcp.FIN

export class Candidate {
  /** First byte, and bytes of the IP packet. */
  at = 0
  len = 0
  kind = ANY_FLOW
  isV6 = false
  /** Bytes before the transport header, and before the payload. */
  ipLen = 0
  headersLen = 0
  private readonly view: DataView

  constructor(view: DataView) {
    this.view = view
  }

  /** Payload bytes. */
  get payload(): number {
    return this.len - this.headersLen
  }

  /**
   * Takes up a packet that has passed `ipv4.check` or `ipv6.check`.
   * @param sum  sum of all its bytes, 0 = not known
   */
  take(at: number, len: number, sum: number): void {
    this.at = at
    this.len = len
    this.isV6 = ipv4.version(this.view, at) === 6
    this.kind = sum === 0 ? ANY_FLOW : this.classify(sum)
  }

  /** A number by which flows are told apart, 0 .. limit − 1; limit is a power of 2. */
  flowSlot(limit: number): number {
    const view = this.view
    let mix = 0
    for (let i = this.isV6 ? ipv6.SRC_AT : SRC4_AT; i < this.ipLen + PORTS_LEN; i += 4) {
      mix ^= view.getInt32(this.at + i)
    }
    return (Math.imul(mix, 0x9e37_79b1) >>> 16) & (limit - 1)
  }

  /** Whether another packet of the same protocol has the same addresses and ports. */
  isSameFlow(other: number): boolean {
    const view = this.view
    const at = this.at
    if (ipv4.version(view, other) !== (this.isV6 ? 6 : 4)) return false
    for (let i = this.isV6 ? ipv6.SRC_AT : SRC4_AT; i < this.ipLen + PORTS_LEN; i += 4) {
      if (view.getInt32(at + i) !== view.getInt32(other + i)) return false
    }
    return true
  }

  private classify(sum: number): number {
    const view = this.view
    const at = this.at
    let protocol: number
    if (this.isV6) {
      this.ipLen = ipv6.HEADER_LEN
      protocol = ipv6.nextHeader(view, at)
      if (protocol !== ipv4.PROTO_TCP && protocol !== ipv4.PROTO_UDP) return ANY_FLOW
    } else {
      this.ipLen = ipv4.HEADER_LEN
      protocol = ipv4.protocol(view, at)
      if (ipv4.isFragment(view, at) || ipv4.headerLen(view, at) !== ipv4.HEADER_LEN) return ANY_FLOW
      if (ipv4.checksum(view, at) === STALE_SUM) return ANY_FLOW
    }
    if (protocol === ipv4.PROTO_TCP) return this.classifyTcp(sum)
    return protocol === ipv4.PROTO_UDP ? this.classifyUdp(sum) : NO_FLOW
  }

  private classifyTcp(sum: number): number {
    const view = this.view
    const l4 = this.at + this.ipLen
    const l4Len = this.len - this.ipLen
    if (l4Len < tcp.HEADER_LEN) return ANY_FLOW
    const headerLen = tcp.headerLen(view, l4)
    this.headersLen = this.ipLen + headerLen
    const flags = tcp.flags(view, l4)
    const isPlain = (flags & ~TCP_FLAGS) === 0 && (flags & tcp.ACK) !== 0
    if (!isPlain || headerLen < tcp.HEADER_LEN || this.headersLen >= this.len) return ALONE
    if (tcp.checksum(view, l4) === STALE_SUM) return ALONE
    return this.isSumRight(sum, ipv4.PROTO_TCP, l4Len) ? TCP : ALONE
  }

  private classifyUdp(sum: number): number {
    const view = this.view
    const l4 = this.at + this.ipLen
    const l4Len = this.len - this.ipLen
    if (l4Len < udp.HEADER_LEN) return ANY_FLOW
    this.headersLen = this.ipLen + udp.HEADER_LEN
    if (udp.length(view, l4) !== l4Len || this.headersLen >= this.len) return ALONE
    if (!udp.hasChecksum(view, l4)) return ALONE
    return this.isSumRight(sum, ipv4.PROTO_UDP, l4Len) ? UDP : ALONE
  }

  /** The whole packet's sum is known; with the pseudo-header, what IP adds to it must come out as all ones. */
  private isSumRight(sum: number, protocol: number, l4Len: number): boolean {
    const view = this.view
    const at = this.at
    if (!this.isV6) {
      // A right header sums up to 0xffff, which adds nothing.
      const pseudo = pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, l4Len)
      return fold(sum + pseudo) === 0xffff
    }
    // The pseudo-header has the addresses, too: only the first eight bytes are to be taken off.
    const first = fold(
      view.getUint16(at) + view.getUint16(at + 2) + view.getUint16(at + 4) + view.getUint16(at + 6),
    )
    return fold(sum + (0xffff - first) + protocol + l4Len) === 0xffff
  }
}

/** Where the IPv4 addresses begin; the ports follow them when there are no options. */
const SRC4_AT = 12
const PORTS_LEN = 4
/**
 * An IPv4 or TCP checksum of 0xffff is right wherever 0 is. Only an update in place (RFC 1141) makes
 * it; computed afresh it is 0, so such a packet would not come back as it was.
 */
const STALE_SUM = 0xffff
