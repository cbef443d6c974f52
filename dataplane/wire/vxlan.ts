/**
 * VXLAN header, RFC 7348 §5: after the outer UDP header, before the inner Ethernet frame.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-+-+-+-+-+-+-+-+-----------------------------------------------+
 *   0 |R|R|R|R|I|R|R|R|            reserved, 24 bits                  |
 *     +-+-+-+-+-+-+-+-+-------------------------------+---------------+
 *   4 |     VXLAN network identifier (VNI), 24 bits   |   reserved    |
 *     +-----------------------------------------------+---------------+
 *
 * I must be set for a valid VNI; reserved bits are sent as 0 and ignored on receipt.
 */

/** Bytes of the header. */
export const HEADER_LEN = 8
/** UDP port that IANA assigned (RFC 7348 §5). */
export const PORT_IANA = 4789
/** UDP port of Linux' first VXLAN, which flannel keeps (drivers/net/vxlan, flannel's default). */
export const PORT_LINUX = 8472
/** The largest VNI. */
export const MAX_VNI = 0xffffff

/** `check`: the header is there and its VNI is valid. */
export const OK = 0
/** `check`: fewer than 8 bytes. */
export const TRUNCATED = 1
/** `check`: the I flag is clear, so that there is no VNI. */
export const NO_VNI = 2

const FLAGS_AT = 0
const VNI_AT = 4

/** The I flag. */
export const FLAG_I = 0x08

/**
 * The only test.
 * @param len  bytes there are, from `at`
 * @returns    OK, TRUNCATED or NO_VNI
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < HEADER_LEN) return TRUNCATED
  return (v.getUint8(at + FLAGS_AT) & FLAG_I) === 0 ? NO_VNI : OK
}

/** The eight flags. */
export const flags = (v: DataView, at: number): number => v.getUint8(at + FLAGS_AT)
/** VNI, 0..0xffffff. */
export const vni = (v: DataView, at: number): number => v.getInt32(at + VNI_AT) >>> 8

/** Sets the VNI and the reserved byte beside it (to 0). */
export const setVni = (v: DataView, at: number, value: number): void => {
  v.setInt32(at + VNI_AT, value << 8)
}

/** Writes a header: all 8 bytes, I set, everything reserved 0. */
export function write(v: DataView, at: number, vniBits: number): void {
  v.setInt32(at + FLAGS_AT, FLAG_I << 24)
  setVni(v, at, vniBits)
}

/** The header in words. */
export function describe(v: DataView, at: number): string {
  const set = (flags(v, at) & FLAG_I) !== 0 ? 'I' : 'none'
  return `VXLAN, flags [${set}] (0x${flags(v, at).toString(16).padStart(2, '0')}), vni ${vni(v, at)}`
}
