/**
 * Ethernet II header, IEEE 802.3 clause 3; the inner header of VXLAN (RFC 7348 §5).
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +---------------------------------------------------------------+
 *   0 |                    destination MAC, 6 bytes                   |
 *     |                               +-------------------------------+
 *   6 |                               |                               |
 *     +-------------------------------+                               |
 *     |                      source MAC, 6 bytes                      |
 *     +-------------------------------+-------------------------------+
 *  12 |           EtherType           |
 *     +-------------------------------+
 *
 * A MAC address is two numbers, because 48 bits do not fit an int32: the upper 16 bits, and the
 * lower 32 as int32. An 802.1Q tag is not looked through: it is an EtherType of its own.
 */

/** Bytes of the header; no frame check sequence follows on the devices met here. */
export const HEADER_LEN = 14
/** Bytes of a MAC address. */
export const MAC_LEN = 6

export const TYPE_IPV4 = 0x0800
export const TYPE_ARP = 0x0806
export const TYPE_VLAN = 0x8100
export const TYPE_IPV6 = 0x86dd

/** `check`: the header is there. */
export const OK = 0
/** `check`: fewer than 14 bytes. */
export const TRUNCATED = 1

const DST_AT = 0
const SRC_AT = 6
const TYPE_AT = 12

/**
 * The only test.
 * @param len  bytes there are, from `at`
 * @returns    OK or TRUNCATED
 */
export function check(_v: DataView, _at: number, len: number): number {
  return len < HEADER_LEN ? TRUNCATED : OK
}

/** Upper 16 bits of the destination MAC. */
export const dstHigh = (v: DataView, at: number): number => v.getUint16(at + DST_AT)
/** Lower 32 bits of the destination MAC, int32. */
export const dstLow = (v: DataView, at: number): number => v.getInt32(at + DST_AT + 2)
/** Upper 16 bits of the source MAC. */
export const srcHigh = (v: DataView, at: number): number => v.getUint16(at + SRC_AT)
/** Lower 32 bits of the source MAC, int32. */
export const srcLow = (v: DataView, at: number): number => v.getInt32(at + SRC_AT + 2)
/** EtherType; below 0x0600 it is a length (IEEE 802.3), which nothing here carries. */
export const etherType = (v: DataView, at: number): number => v.getUint16(at + TYPE_AT)
/** Whether the destination is a group: multicast or broadcast (the lowest bit of its first byte). */
export const isGroup = (v: DataView, at: number): boolean => (v.getUint8(at + DST_AT) & 1) !== 0

/** @param low  int32 or uint32 */
export const setDst = (v: DataView, at: number, high: number, low: number): void => {
  v.setUint16(at + DST_AT, high)
  v.setInt32(at + DST_AT + 2, low)
}
/** @param low  int32 or uint32 */
export const setSrc = (v: DataView, at: number, high: number, low: number): void => {
  v.setUint16(at + SRC_AT, high)
  v.setInt32(at + SRC_AT + 2, low)
}
export const setEtherType = (v: DataView, at: number, type: number): void => {
  v.setUint16(at + TYPE_AT, type)
}

/** Writes a header: all 14 bytes. Low halves are int32 or uint32. */
export function write(
  v: DataView,
  at: number,
  dstHighBits: number,
  dstLowBits: number,
  srcHighBits: number,
  srcLowBits: number,
  type: number,
): void {
  setDst(v, at, dstHighBits, dstLowBits)
  setSrc(v, at, srcHighBits, srcLowBits)
  setEtherType(v, at, type)
}

/** A MAC address as text, e.g. `02:00:00:00:00:0a`. */
export function describeMac(high: number, low: number): string {
  const digits = high.toString(16).padStart(4, '0') + (low >>> 0).toString(16).padStart(8, '0')
  return digits.replace(/..(?=.)/g, '$&:')
}

/** The header as `tcpdump -e` prints it, without the frame's length. */
export function describe(v: DataView, at: number): string {
  const src = describeMac(srcHigh(v, at), srcLow(v, at))
  const dst = describeMac(dstHigh(v, at), dstLow(v, at))
  return `${src} > ${dst}, ethertype 0x${etherType(v, at).toString(16).padStart(4, '0')}`
}
