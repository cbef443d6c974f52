/**
 * What coalescing must know of a packet: which flow it is of, where its headers end, whether it may
 * take part in a super-packet, and whether its checksum is right.
 *
 * The kernel believes a super-packet and writes fresh checksums into what it cuts from it. So a
 * packet takes part only if cutting gives it back bit for bit: a wrong checksum stays wrong, a
 * missing one missing, and both go on alone, as through a router.
 *
 * All functions take a packet that has passed `ipv4.check` or `ipv6.check`.
 */
import { fold } from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'

// Constants that are imported, and those that are exported, are read from their module's cell at each
// use (V8 11), and grow the code that the compiler takes in.
const { PROTO_TCP, PROTO_UDP } = ipv4

// What a packet is to coalescing.
/** It may belong to any flow, since its ports are not where they are looked for. */
export const ANY_FLOW = 0
/** It belongs to no flow that is ever joined. */
export const NO_FLOW = 1
export const TCP4 = 2
export const UDP4 = 3
export const TCP6 = 4
export const UDP6 = 5

/** First byte of an IPv4 packet without options. */
const PLAIN4 = 0x45
/** Both ports, behind an IPv4 header without options. */
const PORTS4_AT = ipv4.HEADER_LEN
/** The shortest packets that have a whole transport header. */
const MIN_TCP4 = ipv4.HEADER_LEN + tcp.HEADER_LEN
const MIN_UDP4 = ipv4.HEADER_LEN + udp.HEADER_LEN

/** What a joined TCP packet may carry: ACK always, FIN at the end, and these. */
const TCP_FLAGS = tcp.ACK | tcp.PSH | tcp.ECE | tcp.FIN
/**
 * An IPv4 or TCP checksum of 0xffff is right wherever 0 is. Only an update in place (RFC 1141) makes
 * it; computed afresh it is 0, so such a packet would not come back as it was.
 */
const STALE_SUM = 0xffff

export const isTcp = (kind: number): boolean => kind === TCP4 || kind === TCP6
export const isV6 = (kind: number): boolean => kind >= TCP6
/** Bytes before the transport header. */
export const ipLenOf = (kind: number): number => (kind >= TCP6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN)

/** What the packet is, by its IP header. One of a flow is long enough for its transport header. */
export function kindOf(view: DataView, at: number, len: number): number {
  const first = view.getUint8(at)
  if (first !== PLAIN4) return first >>> 4 === 6 ? kindOf6(view, at, len) : ANY_FLOW
  if (ipv4.isFragment(view, at)) return ANY_FLOW
  const protocol = ipv4.protocol(view, at)
  if (protocol === PROTO_TCP) return len < MIN_TCP4 ? ANY_FLOW : TCP4
  if (protocol === PROTO_UDP) return len < MIN_UDP4 ? ANY_FLOW : UDP4
  return NO_FLOW
}

function kindOf6(view: DataView, at: number, len: number): number {
  const protocol = ipv6.nextHeader(view, at)
  const l4Len = len - ipv6.HEADER_LEN
  if (protocol === PROTO_TCP && l4Len >= tcp.HEADER_LEN) return TCP6
  return protocol === PROTO_UDP && l4Len >= udp.HEADER_LEN ? UDP6 : ANY_FLOW
}

/** A number by which flows are told apart: 16 bits of a hash of addresses and ports. */
export function flowHash(view: DataView, kind: number, at: number): number {
  const mix = isV6(kind)
    ? mix6(view, at)
    : ipv4.src(view, at) ^ ipv4.dst(view, at) ^ view.getInt32(at + PORTS4_AT)
  return Math.imul(mix, 0x9e37_79b1) >>> 16
}

function mix6(view: DataView, at: number): number {
  let mix = 0
  for (let i = ipv6.SRC_AT; i <= ipv6.HEADER_LEN; i += 4) mix ^= view.getInt32(at + i)
  return mix
}

/** Whether two packets of one kind have the same addresses and ports. */
export function isSameFlow(view: DataView, kind: number, at: number, other: number): boolean {
  if (isV6(kind)) return isSameFlow6(view, at, other)
  return (
    ipv4.src(view, at) === ipv4.src(view, other) &&
    ipv4.dst(view, at) === ipv4.dst(view, other) &&
    view.getInt32(at + PORTS4_AT) === view.getInt32(other + PORTS4_AT)
  )
}

function isSameFlow6(view: DataView, at: number, other: number): boolean {
  for (let i = ipv6.SRC_AT; i <= ipv6.HEADER_LEN; i += 4) {
    if (view.getInt32(at + i) !== view.getInt32(other + i)) return false
  }
  return true
}

/**
 * Whether a packet of a flow may be part of a super-packet.
 * @param sum   sum of all its bytes
 * @param rest  `restOfSum` of the flow
 * @returns     bytes of its headers, 0 = it must be written by itself
 */
export function judge(
  view: DataView,
  kind: number,
  at: number,
  len: number,
  sum: number,
  rest: number,
): number {
  const ipLen = ipLenOf(kind)
  const l4 = at + ipLen
  let headersLen = ipLen + udp.HEADER_LEN
  if (isTcp(kind)) {
    const flags = tcp.flags(view, l4)
    const headerLen = tcp.headerLen(view, l4)
    const isPlain = (flags & ~TCP_FLAGS) === 0 && (flags & tcp.ACK) !== 0
    if (!isPlain || headerLen < tcp.HEADER_LEN) return 0
    headersLen = ipLen + headerLen
  } else if (udp.length(view, l4) !== len - ipLen) {
    return 0
  }
  return headersLen < len && isSumRight(view, kind, at, len, sum, rest) ? headersLen : 0
}

/**
 * What the sum of a flow's packets lacks to be that of transport header, payload and pseudo-header, but
 * for the length of these over IPv4. It is the same for every packet that could be joined.
 */
export function restOfSum(view: DataView, kind: number, at: number): number {
  const protocol = isTcp(kind) ? PROTO_TCP : PROTO_UDP
  if (isV6(kind)) {
    // The addresses are there, and one length stands for the other: the rest is to be taken off.
    const other = view.getUint16(at) + view.getUint16(at + 2) + view.getUint16(at + 6)
    return protocol + (0xffff - fold(other))
  }
  // A right header sums up to 0xffff, which adds nothing.
  const src = ipv4.src(view, at)
  const dst = ipv4.dst(view, at)
  return protocol + (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff)
}

/**
 * Whether the checksums are right, and such as a sender computes.
 * @param sum   sum of all the packet's bytes
 * @param rest  `restOfSum` of its flow
 */
export function isSumRight(
  view: DataView,
  kind: number,
  at: number,
  len: number,
  sum: number,
  rest: number,
): boolean {
  const ipLen = ipLenOf(kind)
  if (isTcp(kind)) {
    if (tcp.checksum(view, at + ipLen) === STALE_SUM) return false
  } else if (!udp.hasChecksum(view, at + ipLen)) {
    return false
  }
  if (isV6(kind)) return fold(sum + rest) === 0xffff
  return ipv4.checksum(view, at) !== STALE_SUM && fold(sum + rest + len - ipLen) === 0xffff
}
