/**
 * IPv4 header, RFC 791 §3.1; the traffic class byte as RFC 2474 and RFC 3168 read it.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-------+-------+-----------+---+-------------------------------+
 *   0 |Version|  IHL  |   DSCP    |ECN|         total length          |
 *     +-------+-------+-----------+---+-----+-------------------------+
 *   4 |        identification         |0|D|M|     fragment offset     |
 *     +---------------+---------------+-----+-------------------------+
 *   8 |      TTL      |   protocol    |        header checksum        |
 *     +---------------+---------------+-------------------------------+
 *  12 |                        source address                         |
 *     +---------------------------------------------------------------+
 *  16 |                      destination address                      |
 *     +---------------------------------------------------------------+
 *  20 |              options, IHL − 5 words (0..40 bytes)             |
 *
 * After `check` said FORWARD, every getter stays inside the packet. Addresses are *address bits*:
 * int32 in host order, so 192.0.2.1 is 0xc0000201 | 0.
 */
import {
  DROP_IPV4_MALFORMED,
  DROP_IPV4_TRUNCATED,
  DROP_NOT_IP,
  FORWARD,
  type Verdict,
} from '../packet/verdict.js'
import { finish, fold, sum } from './checksum.js'

/** Bytes of a header without options. */
const MIN_LEN = 20
export const HEADER_LEN = MIN_LEN
/** Bytes of the longest header: IHL 15. */
export const MAX_HEADER_LEN = 60

export const PROTO_ICMP = 1
export const PROTO_IPIP = 4
export const PROTO_TCP = 6
export const PROTO_UDP = 17

/** Bits of the word that `flagsAndOffset` reads. */
export const DONT_FRAGMENT = 0x4000
export const MORE_FRAGMENTS = 0x2000
export const OFFSET_MASK = 0x1fff

const VERSION_IHL_AT = 0
const TOS_AT = 1
const TOTAL_LEN_AT = 2
const ID_AT = 4
const FLAGS_OFFSET_AT = 6
const TTL_AT = 8
const PROTOCOL_AT = 9
const CHECKSUM_AT = 10
/** Position of the source address in the header, for comparisons that take either family. */
export const SRC_AT = 12
const DST_AT = 16

/**
 * The only test of a packet's shape. Bytes after the total length (link padding) are allowed.
 * @param len  bytes there are, from `at`
 * @returns    FORWARD, DROP_NOT_IP (no byte, or a version other than 4), DROP_IPV4_TRUNCATED (fewer
 *             bytes than the header or the total length) or DROP_IPV4_MALFORMED (IHL below 5, total
 *             length below the header's)
 * Source:     RFC 1812 §5.2.2, points 1 and 3 to 5; the checksum is `isChecksumRight`
 */
export function check(v: DataView, at: number, len: number): Verdict {
  if (len < MIN_LEN) return len < 1 || version(v, at) !== 4 ? DROP_NOT_IP : DROP_IPV4_TRUNCATED
  // Version, header length in words, class, and total length.
  const word = v.getInt32(at)
  if (word >>> 28 !== 4) return DROP_NOT_IP
  const header = (word >>> 22) & 60
  const total = word & 0xffff
  if (header < MIN_LEN || total < header) return DROP_IPV4_MALFORMED
  return total > len ? DROP_IPV4_TRUNCATED : FORWARD
}

/** IP version, 0..15; the same nibble in IPv6, so it may be asked of any packet of one byte. */
export const version = (v: DataView, at: number): number => v.getUint8(at + VERSION_IHL_AT) >>> 4
/** Header length in bytes, options included: 20..60 after `check`. */
export const headerLen = (v: DataView, at: number): number =>
  (v.getUint8(at + VERSION_IHL_AT) & 15) << 2
/** The byte once called type of service: DSCP (6 bits) and ECN (2 bits). */
export const tos = (v: DataView, at: number): number => v.getUint8(at + TOS_AT)
/** Bytes of header and payload. */
export const totalLen = (v: DataView, at: number): number => v.getUint16(at + TOTAL_LEN_AT)
export const id = (v: DataView, at: number): number => v.getUint16(at + ID_AT)
/** The 16 bits with the flags and the fragment offset (in units of 8 bytes). */
export const flagsAndOffset = (v: DataView, at: number): number => v.getUint16(at + FLAGS_OFFSET_AT)
/** Where this packet's payload lies in the whole datagram's, in bytes. */
export const fragmentOffset = (v: DataView, at: number): number =>
  (flagsAndOffset(v, at) & OFFSET_MASK) << 3
/** Whether the packet is a piece of a larger one: the first, a middle or the last. */
export const isFragment = (v: DataView, at: number): boolean =>
  (flagsAndOffset(v, at) & (MORE_FRAGMENTS | OFFSET_MASK)) !== 0
/** Whether the packet is a piece but not the first, so that it has no transport header. */
export const isLaterFragment = (v: DataView, at: number): boolean =>
  (flagsAndOffset(v, at) & OFFSET_MASK) !== 0
export const hasMoreFragments = (v: DataView, at: number): boolean =>
  (flagsAndOffset(v, at) & MORE_FRAGMENTS) !== 0
export const hasDontFragment = (v: DataView, at: number): boolean =>
  (flagsAndOffset(v, at) & DONT_FRAGMENT) !== 0
export const ttl = (v: DataView, at: number): number => v.getUint8(at + TTL_AT)
export const protocol = (v: DataView, at: number): number => v.getUint8(at + PROTOCOL_AT)
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM_AT)
/** Source, address bits: int32, host order. */
export const src = (v: DataView, at: number): number => v.getInt32(at + SRC_AT)
/** Destination, address bits: int32, host order. */
export const dst = (v: DataView, at: number): number => v.getInt32(at + DST_AT)

/** Sum of the header as it stands, checksum field included, not complemented: 0xffff when right. */
export function headerSum(v: DataView, at: number): number {
  const header = headerLen(v, at)
  return header === MIN_LEN ? fold(plainSum(v, at)) : sum(v, at, header)
}

/** Sum of a header without options, not folded. */
function plainSum(v: DataView, at: number): number {
  const a = v.getInt32(at)
  const b = v.getInt32(at + 4)
  const c = v.getInt32(at + 8)
  const d = v.getInt32(at + 12)
  const e = v.getInt32(at + 16)
  const high = (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16) + (e >>> 16)
  return high + (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff) + (e & 0xffff)
}

/**
 * Whether the header checksum is right (RFC 1071 §1 (3)).
 * Cost: five loads for a header without options.
 */
export const isChecksumRight = (v: DataView, at: number): boolean => headerSum(v, at) === 0xffff

export const setTos = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + TOS_AT, value)
}
export const setTotalLen = (v: DataView, at: number, len: number): void => {
  v.setUint16(at + TOTAL_LEN_AT, len)
}
export const setId = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + ID_AT, value)
}
export const setFlagsAndOffset = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + FLAGS_OFFSET_AT, value)
}
export const setTtl = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + TTL_AT, value)
}
export const setProtocol = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + PROTOCOL_AT, value)
}
export const setChecksum = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + CHECKSUM_AT, value)
}
/** @param bits  address bits, int32 or uint32 */
export const setSrc = (v: DataView, at: number, bits: number): void => {
  v.setInt32(at + SRC_AT, bits)
}
/** @param bits  address bits, int32 or uint32 */
export const setDst = (v: DataView, at: number, bits: number): void => {
  v.setInt32(at + DST_AT, bits)
}

/** Computes the header checksum afresh and stores it, after setters were used. */
export function finishChecksum(v: DataView, at: number): void {
  setChecksum(v, at, 0)
  setChecksum(v, at, finish(headerSum(v, at)))
}

/**
 * Lowers the TTL by one and patches the checksum, without reading the rest of the header. A wrong
 * checksum stays wrong by the same amount. The caller has seen that the TTL is not 0: that would
 * wrap to 255.
 * @returns  the new TTL
 * Source:   RFC 1141 as Linux does it (ip_decrease_ttl in include/net/ip.h): 0x0100 is added with
 *           end-around carry, and 0xffff comes out as 0, which is what RFC 1624 asks for
 */
export function decrementTtl(v: DataView, at: number): number {
  // TTL, protocol and checksum in one word.
  const word = v.getInt32(at + TTL_AT)
  const patched = (word & 0xffff) + 0x0100
  const lowered = word - 0x0100_0000
  const field = patched >= 0xffff ? patched + 1 : patched
  v.setInt32(at + TTL_AT, (lowered & ~0xffff) | (field & 0xffff))
  return lowered >>> 24
}

/**
 * Writes a header without options: all 20 bytes, the checksum included.
 * @param len             total length, header included
 * @param tosByte         DSCP and ECN
 * @param flagsWord       flags and fragment offset in one word, e.g. DONT_FRAGMENT
 * @param srcBits         source, address bits
 * @param dstBits         destination, address bits
 */
export function write(
  v: DataView,
  at: number,
  len: number,
  tosByte: number,
  idWord: number,
  flagsWord: number,
  ttlByte: number,
  protocolByte: number,
  srcBits: number,
  dstBits: number,
): void {
  v.setUint8(at + VERSION_IHL_AT, 0x45)
  v.setUint8(at + TOS_AT, tosByte)
  v.setUint16(at + TOTAL_LEN_AT, len)
  v.setUint16(at + ID_AT, idWord)
  v.setUint16(at + FLAGS_OFFSET_AT, flagsWord)
  v.setUint8(at + TTL_AT, ttlByte)
  v.setUint8(at + PROTOCOL_AT, protocolByte)
  v.setInt32(at + SRC_AT, srcBits)
  v.setInt32(at + DST_AT, dstBits)
  finishChecksum(v, at)
}

/**
 * Writes a header without options as a raw socket takes it (raw(7), IP_HDRINCL): total length,
 * identification, checksum and source are 0, for the kernel to fill in.
 * @param tosByte    DSCP and ECN
 * @param flagsWord  flags and fragment offset in one word, e.g. DONT_FRAGMENT
 * @param dstBits    destination, address bits
 */
export function writeOpen(
  v: DataView,
  at: number,
  tosByte: number,
  flagsWord: number,
  ttlByte: number,
  protocolByte: number,
  dstBits: number,
): void {
  v.setInt32(at, 0x4500_0000 | (tosByte << 16))
  v.setInt32(at + ID_AT, flagsWord)
  v.setInt32(at + TTL_AT, (ttlByte << 24) | (protocolByte << 16))
  v.setInt32(at + SRC_AT, 0)
  v.setInt32(at + DST_AT, dstBits)
}

/**
 * Sets the ECN field to CE, congestion experienced, and patches the checksum.
 * Source: RFC 3168 §5; RFC 1624 §3, equation 3
 */
export function markCongested(v: DataView, at: number): void {
  const before = v.getUint16(at)
  const after = before | 3
  v.setUint16(at, after)
  setChecksum(v, at, finish(fold((~checksum(v, at) & 0xffff) + (~before & 0xffff) + after)))
}

/**
 * Address bits as text.
 * @param bits  int32 or uint32, host order
 */
export function describeAddress(bits: number): string {
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`
}

/** What `tcpdump -v` puts in parentheses: the fields that are neither address nor payload. */
export function describe(v: DataView, at: number): string {
  const flags = [
    (flagsAndOffset(v, at) & 0x8000) !== 0 ? 'reserved' : '',
    hasDontFragment(v, at) ? 'DF' : '',
    hasMoreFragments(v, at) ? '+' : '',
  ].filter((flag) => flag !== '')
  const options = headerLen(v, at) - HEADER_LEN
  return (
    `tos 0x${tos(v, at).toString(16)}, ttl ${ttl(v, at)}, id ${id(v, at)}, ` +
    `offset ${fragmentOffset(v, at)}, flags [${flags.length > 0 ? flags.join(',') : 'none'}], ` +
    `proto ${protocol(v, at)}, length ${totalLen(v, at)}` +
    (options > 0 ? `, ${options} bytes of options` : '')
  )
}
