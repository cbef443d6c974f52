/**
 * IPv6 extension headers: the walk from the IPv6 header to the upper layer. RFC 8200 §4, and RFC
 * 4302 §2 for the authentication header.
 *
 *     hop-by-hop options 0, routing 43,        fragment 44
 *     destination options 60
 *     +------+-----+-----------+               +------+-----+--------------+---+-+
 *     | next | len | ...       |               | next |  0  | offset, 13   | 0 |M|
 *     +------+-----+-----------+               +------+-----+--------------+---+-+
 *     (len + 1) * 8 bytes                      |         identification          |
 *                                              +---------------------------------+
 *     authentication 51: next, len, 0, SPI, sequence, value: (len + 2) * 4 bytes
 *
 * The walk answers with one integer, so that it allocates nothing: negative is a fault, any other
 * answer is read with the functions below. ESP (50), "no next header" (59), mobility and every
 * other number end the walk as the upper layer. A later fragment ends it, too: what follows its
 * fragment header are bytes from the middle of something.
 */
import { HEADER_LEN, nextHeader, totalLen } from './ipv6.js'

export const HOP_BY_HOP = 0
export const ROUTING = 43
export const FRAGMENT = 44
export const AUTHENTICATION = 51
export const NO_NEXT_HEADER = 59
export const DESTINATION_OPTIONS = 60

/** Bytes of a fragment header. */
export const FRAGMENT_LEN = 8

/**
 * Extension headers that the walk passes at most. RFC 8200 §4.1 names six in its recommended order,
 * one of them twice; eight leaves room and still bounds the work per packet.
 */
export const MAX_EXTENSIONS = 8

/** Fault: a header begins or ends outside the packet. */
export const WALK_TRUNCATED = -1
/** Fault: more than MAX_EXTENSIONS headers. */
export const WALK_TOO_MANY = -2
/** Fault: hop-by-hop options anywhere but straight after the IPv6 header (RFC 8200 §4.1, §4). */
export const WALK_MISPLACED = -3

// Bits of a walk's answer: protocol 0..7, offset 8..25, then the flags.
const OFFSET_SHIFT = 8
const OFFSET_BITS = 0x3ffff
const FRAGMENT_FLAG = 1 << 26
const LATER_FLAG = 1 << 27
const EXTENSION_FLAG = 1 << 28

// Fragment header, relative to its first byte.
const FRAGMENT_WORD_AT = 2
const FRAGMENT_ID_AT = 4

/** Whether a protocol number is one of the extension headers that the walk passes over. */
export const isExtension = (protocol: number): boolean =>
  protocol === HOP_BY_HOP ||
  protocol === ROUTING ||
  protocol === FRAGMENT ||
  protocol === AUTHENTICATION ||
  protocol === DESTINATION_OPTIONS

/**
 * Finds the upper layer of an IPv6 packet.
 * @param at   the IPv6 header, of which all 40 bytes are there
 * @param len  bytes there are, from `at`; a payload length beyond them is cut to them
 * @returns    a walk for the functions below, or a fault: WALK_TRUNCATED, WALK_TOO_MANY,
 *             WALK_MISPLACED. The upper layer's offset may be the end of the packet.
 * Cost:       one load and a few compares without extension headers; at most MAX_EXTENSIONS steps
 */
export function walk(v: DataView, at: number, len: number): number {
  const total = totalLen(v, at)
  const end = total < len ? total : len
  let protocol = nextHeader(v, at)
  let offset = HEADER_LEN
  let flags = 0
  for (let passed = 0; isExtension(protocol); passed++) {
    if (protocol === HOP_BY_HOP && passed > 0) return WALK_MISPLACED
    if (passed === MAX_EXTENSIONS) return WALK_TOO_MANY
    const header = at + offset
    if (offset + 8 > end) return WALK_TRUNCATED
    flags |= EXTENSION_FLAG
    if (protocol === FRAGMENT) {
      offset += FRAGMENT_LEN
      if (fragmentOffset(v, header) !== 0) flags |= LATER_FLAG | FRAGMENT_FLAG
      else if (hasMoreFragments(v, header)) flags |= FRAGMENT_FLAG
    } else if (protocol === AUTHENTICATION) {
      offset += (v.getUint8(header + 1) + 2) << 2
    } else {
      offset += (v.getUint8(header + 1) + 1) << 3
    }
    if (offset > end) return WALK_TRUNCATED
    protocol = v.getUint8(header)
    if ((flags & LATER_FLAG) !== 0) break
  }
  return flags | (offset << OFFSET_SHIFT) | protocol
}

/** Upper-layer protocol of a walk without fault; of a later fragment, what its header names. */
export const upperProtocol = (walked: number): number => walked & 0xff
/** Bytes from the IPv6 header to the upper layer; of a later fragment, to its data. */
export const upperOffset = (walked: number): number => (walked >>> OFFSET_SHIFT) & OFFSET_BITS
/** Whether the walk passed any extension header. */
export const hasExtensions = (walked: number): boolean => (walked & EXTENSION_FLAG) !== 0
/**
 * Whether the packet is a piece of a larger one. An "atomic" fragment (offset 0 and no more to
 * come, RFC 6946) is a whole packet and is not counted.
 */
export const isFragment = (walked: number): boolean => (walked & FRAGMENT_FLAG) !== 0
/** Whether the packet is a piece but not the first, so that it has no upper-layer header. */
export const isLaterFragment = (walked: number): boolean => (walked & LATER_FLAG) !== 0

/** Where a piece lies in the whole payload, in bytes. `at` is the fragment header's first byte. */
export const fragmentOffset = (v: DataView, at: number): number =>
  v.getUint16(at + FRAGMENT_WORD_AT) & 0xfff8
/** Whether more pieces follow. `at` is the fragment header's first byte. */
export const hasMoreFragments = (v: DataView, at: number): boolean =>
  (v.getUint16(at + FRAGMENT_WORD_AT) & 1) !== 0
/** Identification, 32 bits as int32. `at` is the fragment header's first byte. */
export const fragmentId = (v: DataView, at: number): number => v.getInt32(at + FRAGMENT_ID_AT)

/**
 * Writes a fragment header: all 8 bytes.
 * @param next    protocol number of what follows in the first piece
 * @param offset  bytes, a multiple of 8
 * @param more    whether more pieces follow
 */
export function writeFragment(
  v: DataView,
  at: number,
  next: number,
  offset: number,
  more: boolean,
  id: number,
): void {
  v.setUint8(at, next)
  v.setUint8(at + 1, 0)
  v.setUint16(at + FRAGMENT_WORD_AT, (offset & 0xfff8) | (more ? 1 : 0))
  v.setInt32(at + FRAGMENT_ID_AT, id)
}

/** The fault of a walk in words. */
export function describeFault(fault: number): string {
  if (fault === WALK_TRUNCATED) return 'an extension header ends outside the packet'
  if (fault === WALK_TOO_MANY) return `more than ${MAX_EXTENSIONS} extension headers`
  if (fault === WALK_MISPLACED) return 'hop-by-hop options after another header'
  return `extension header fault ${fault}`
}

/** A fragment header as tcpdump prints it. `at` is its first byte. */
export function describeFragment(v: DataView, at: number, dataLen: number): string {
  return `frag (${fragmentOffset(v, at)}|${dataLen})`
}
