/**
 * IPv6 header, RFC 8200 §3. What follows it is walked by ipv6-extensions.ts.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-------+---------------+---------------------------------------+
 *   0 |Version| traffic class |              flow label               |
 *     +-------+---------------+-------+---------------+---------------+
 *   4 |        payload length         |  next header  |   hop limit   |
 *     +-------------------------------+---------------+---------------+
 *   8 |                    source address, 16 bytes                   |
 *     +---------------------------------------------------------------+
 *  24 |                 destination address, 16 bytes                 |
 *     +---------------------------------------------------------------+
 *
 * After `check` said OK, every getter stays inside the packet. There is no header checksum. A jumbo
 * payload (RFC 2675) is not supported: its payload length of 0 reads as "no payload".
 */

/** Bytes of the header. */
export const HEADER_LEN = 40
/** The least MTU that a link may have, bytes: whatever carries IPv6 takes packets of this length (§5). */
export const LEAST_MTU = 1280
/** Bytes of an address. */
export const ADDRESS_LEN = 16

/** `check`: the header and its payload are there. */
export const OK = 0
/** `check`: there is no byte, or the version is not 6. */
export const NOT_IPV6 = 1
/** `check`: fewer bytes than the header, or than header and payload length together. */
export const TRUNCATED = 2

const PAYLOAD_LEN_AT = 4
const NEXT_HEADER_AT = 6
const HOP_LIMIT_AT = 7
/** Position of the addresses in the header, for sums over them and for lookups. */
export const SRC_AT = 8
export const DST_AT = 24

/**
 * The only test of a packet's shape. Bytes after the payload (link padding) are allowed.
 * @param len  bytes there are, from `at`
 * @returns    OK, NOT_IPV6 or TRUNCATED
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < 1 || v.getUint8(at) >>> 4 !== 6) return NOT_IPV6
  if (len < HEADER_LEN) return TRUNCATED
  return HEADER_LEN + v.getUint16(at + PAYLOAD_LEN_AT) > len ? TRUNCATED : OK
}

/** DSCP and ECN in one byte. */
export const trafficClass = (v: DataView, at: number): number => (v.getUint16(at) >>> 4) & 0xff
/** 20 bits. */
export const flowLabel = (v: DataView, at: number): number => v.getInt32(at) & 0xfffff
/** Bytes after the header, extension headers included. */
export const payloadLen = (v: DataView, at: number): number => v.getUint16(at + PAYLOAD_LEN_AT)
/** Bytes of header and payload. */
export const totalLen = (v: DataView, at: number): number => HEADER_LEN + payloadLen(v, at)
/** Protocol number of what follows: the first extension header, or the upper layer. */
export const nextHeader = (v: DataView, at: number): number => v.getUint8(at + NEXT_HEADER_AT)
export const hopLimit = (v: DataView, at: number): number => v.getUint8(at + HOP_LIMIT_AT)
/** @returns  32 bits of the source, int32, host order; word 0 is the most significant of 0..3 */
export const srcWord = (v: DataView, at: number, word: number): number =>
  v.getInt32(at + SRC_AT + word * 4)
/** @returns  32 bits of the destination, int32, host order; word 0 is the most significant of 0..3 */
export const dstWord = (v: DataView, at: number, word: number): number =>
  v.getInt32(at + DST_AT + word * 4)

export const setTrafficClass = (v: DataView, at: number, value: number): void => {
  v.setUint16(at, (v.getUint16(at) & 0xf00f) | ((value & 0xff) << 4))
}
export const setFlowLabel = (v: DataView, at: number, value: number): void => {
  v.setInt32(at, (v.getInt32(at) & ~0xfffff) | (value & 0xfffff))
}
export const setPayloadLen = (v: DataView, at: number, len: number): void => {
  v.setUint16(at + PAYLOAD_LEN_AT, len)
}
export const setNextHeader = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + NEXT_HEADER_AT, value)
}
export const setHopLimit = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + HOP_LIMIT_AT, value)
}
/** Copies 16 address bytes from `from` at `fromAt` into the source field. */
export const setSrc = (v: DataView, at: number, from: DataView, fromAt: number): void => {
  copyAddress(v, at + SRC_AT, from, fromAt)
}
/** Copies 16 address bytes from `from` at `fromAt` into the destination field. */
export const setDst = (v: DataView, at: number, from: DataView, fromAt: number): void => {
  copyAddress(v, at + DST_AT, from, fromAt)
}

/**
 * Lowers the hop limit by one. The caller has seen that it is not 0: that would wrap to 255.
 * @returns  the new hop limit
 */
export function decrementHopLimit(v: DataView, at: number): number {
  const lowered = v.getUint8(at + HOP_LIMIT_AT) - 1
  v.setUint8(at + HOP_LIMIT_AT, lowered)
  return lowered & 0xff
}

/**
 * Writes a header: all 40 bytes. The addresses are copied from where they lie; they may lie in the
 * arena, but not in the 40 bytes being written.
 * @param len    payload length, extension headers included
 * @param next   protocol number of what follows
 * @param src    bytes that hold the source, at `srcAt`
 * @param dst    bytes that hold the destination, at `dstAt`
 */
export function write(
  v: DataView,
  at: number,
  len: number,
  trafficClassByte: number,
  flowLabelBits: number,
  next: number,
  hopLimitByte: number,
  src: DataView,
  srcAt: number,
  dst: DataView,
  dstAt: number,
): void {
  v.setInt32(at, (6 << 28) | ((trafficClassByte & 0xff) << 20) | (flowLabelBits & 0xfffff))
  v.setUint16(at + PAYLOAD_LEN_AT, len)
  v.setUint8(at + NEXT_HEADER_AT, next)
  v.setUint8(at + HOP_LIMIT_AT, hopLimitByte)
  copyAddress(v, at + SRC_AT, src, srcAt)
  copyAddress(v, at + DST_AT, dst, dstAt)
}

/** Copies 16 bytes from where an address lies. */
export function copyAddress(v: DataView, at: number, from: DataView, fromAt: number): void {
  for (let i = 0; i < ADDRESS_LEN; i += 4) v.setInt32(at + i, from.getInt32(fromAt + i))
}

/**
 * An address as text, by the rules of RFC 5952: lower case, no leading zeros, `::` for the longest
 * run of two or more zero groups and for the first of equals. IPv4-mapped addresses end in dotted
 * form.
 * @param addressAt  first of the 16 bytes (not the header's)
 */
export function describeAddress(v: DataView, addressAt: number): string {
  const groups: number[] = []
  for (let i = 0; i < ADDRESS_LEN; i += 2) groups.push(v.getUint16(addressAt + i))
  const isMapped = groups.findIndex((group) => group !== 0) === 5 && groups[5] === 0xffff
  if (isMapped) {
    const bytes = [12, 13, 14, 15].map((i) => v.getUint8(addressAt + i))
    return `::ffff:${bytes.join('.')}`
  }
  let runAt = 0
  let runLen = 0
  for (let i = 0; i < groups.length; i++) {
    let end = i
    while (groups[end] === 0) end++
    if (end - i > runLen) {
      runAt = i
      runLen = end - i
    }
  }
  const text = groups.map((group) => group.toString(16))
  if (runLen < 2) return text.join(':')
  return `${text.slice(0, runAt).join(':')}::${text.slice(runAt + runLen).join(':')}`
}

/** What `tcpdump -v` puts in parentheses: the fields that are neither address nor payload. */
export function describe(v: DataView, at: number): string {
  return (
    `class 0x${trafficClass(v, at).toString(16)}, flowlabel 0x${flowLabel(v, at).toString(16)}, ` +
    `hlim ${hopLimit(v, at)}, next-header ${nextHeader(v, at)}, payload length ${payloadLen(v, at)}`
  )
}
