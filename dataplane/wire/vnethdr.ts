/**
 * `struct virtio_net_hdr`, the 10 bytes before every packet on a TUN opened with IFF_VNET_HDR
 * (include/uapi/linux/virtio_net.h; virtio 1.2 §5.1.6).
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +---------------+---------------+-------------------------------+
 *   0 |     flags     |   GSO type    |         header length         |
 *     +---------------+---------------+-------------------------------+
 *   4 |           GSO size            |        checksum start         |
 *     +-------------------------------+-------------------------------+
 *   8 |        checksum offset        |
 *     +-------------------------------+
 *
 * Unlike everything else in this folder the 16-bit fields are little-endian: a TUN uses the
 * machine's own order unless told otherwise (TUNSETVNETLE), and the supported machines are x86-64
 * and arm64. Positions in it count from the packet's first byte, not from this header's.
 */

/** Bytes of the header. */
export const HEADER_LEN = 10

/** Flag: the transport checksum holds only the pseudo-header's sum and is to be finished. */
export const NEEDS_CSUM = 1
/** Flag: somebody has verified the transport checksum. */
export const DATA_VALID = 2

/** GSO type: one ordinary packet. */
export const GSO_NONE = 0
/** GSO type: a TCP super-packet over IPv4. */
export const GSO_TCPV4 = 1
/** GSO type: UDP to be cut by IP fragmentation (UFO); Linux no longer makes it. */
export const GSO_UDP = 3
/** GSO type: a TCP super-packet over IPv6. */
export const GSO_TCPV6 = 4
/** GSO type: UDP datagrams of equal size behind one header (USO), Linux ≥ 6.2. */
export const GSO_UDP_L4 = 5
/** Bit beside the GSO type: the TCP segments use ECN, so CWR belongs to the first alone. */
export const GSO_ECN = 0x80

/** `check`: the header makes sense. */
export const OK = 0
/** `check`: fewer than 10 bytes. */
export const TRUNCATED = 1
/** `check`: a GSO type other than those above. */
export const UNKNOWN_GSO = 2
/** `check`: a super-packet whose GSO size is 0. */
export const NO_GSO_SIZE = 3
/** `check`: the header length or the checksum field lies outside the packet. */
export const OUTSIDE_PACKET = 4

const FLAGS_AT = 0
const GSO_TYPE_AT = 1
const HDR_LEN_AT = 2
const GSO_SIZE_AT = 4
const CSUM_START_AT = 6
const CSUM_OFFSET_AT = 8

/**
 * The only test: what Linux itself refuses on a write (tun_get_user, virtio_net_hdr_to_skb).
 * @param len  bytes there are, from `at`: this header and the packet
 * @returns    OK, TRUNCATED, UNKNOWN_GSO, NO_GSO_SIZE or OUTSIDE_PACKET
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < HEADER_LEN) return TRUNCATED
  const packetLen = len - HEADER_LEN
  const type = gsoType(v, at)
  if (type > GSO_UDP_L4 || type === 2) return UNKNOWN_GSO
  if (type !== GSO_NONE && gsoSize(v, at) === 0) return NO_GSO_SIZE
  if (hdrLen(v, at) > packetLen) return OUTSIDE_PACKET
  const fieldEnd = csumStart(v, at) + csumOffset(v, at) + 2
  return needsCsum(v, at) && fieldEnd > packetLen ? OUTSIDE_PACKET : OK
}

export const flags = (v: DataView, at: number): number => v.getUint8(at + FLAGS_AT)
export const needsCsum = (v: DataView, at: number): boolean => (flags(v, at) & NEEDS_CSUM) !== 0
/** GSO type without the ECN bit. */
export const gsoType = (v: DataView, at: number): number => v.getUint8(at + GSO_TYPE_AT) & ~GSO_ECN
export const hasEcn = (v: DataView, at: number): boolean =>
  (v.getUint8(at + GSO_TYPE_AT) & GSO_ECN) !== 0
/** Bytes of all headers of a super-packet; a hint, Linux may give more. */
export const hdrLen = (v: DataView, at: number): number => v.getUint16(at + HDR_LEN_AT, true)
/** Payload bytes of each segment of a super-packet; the last may have fewer. */
export const gsoSize = (v: DataView, at: number): number => v.getUint16(at + GSO_SIZE_AT, true)
/** Where the checksum is to begin, from the packet's first byte. */
export const csumStart = (v: DataView, at: number): number => v.getUint16(at + CSUM_START_AT, true)
/** Where the checksum is to be stored, from `csumStart`. */
export const csumOffset = (v: DataView, at: number): number =>
  v.getUint16(at + CSUM_OFFSET_AT, true)

/**
 * Writes a header: all 10 bytes.
 * @param flagsByte    NEEDS_CSUM, DATA_VALID or 0
 * @param gsoTypeByte  one of GSO_…, with GSO_ECN or without
 * @param headersLen   bytes of all headers of a super-packet
 * @param segmentLen   payload bytes per segment
 * @param startAt      where the checksum begins, from the packet's first byte
 * @param fieldAt      where it is stored, from `startAt`
 */
export function write(
  v: DataView,
  at: number,
  flagsByte: number,
  gsoTypeByte: number,
  headersLen: number,
  segmentLen: number,
  startAt: number,
  fieldAt: number,
): void {
  v.setUint8(at + FLAGS_AT, flagsByte)
  v.setUint8(at + GSO_TYPE_AT, gsoTypeByte)
  v.setUint16(at + HDR_LEN_AT, headersLen, true)
  v.setUint16(at + GSO_SIZE_AT, segmentLen, true)
  v.setUint16(at + CSUM_START_AT, startAt, true)
  v.setUint16(at + CSUM_OFFSET_AT, fieldAt, true)
}

/** Writes the header of an ordinary packet with a finished checksum: ten zero bytes. */
export function clear(v: DataView, at: number): void {
  v.setInt32(at, 0)
  v.setInt32(at + 4, 0)
  v.setUint16(at + 8, 0)
}

const GSO_NAMES = ['none', 'tcpv4', 'gso 2', 'udp', 'tcpv6', 'udp-l4'] as const

/** The header in words. */
export function describe(v: DataView, at: number): string {
  const type = gsoType(v, at)
  const parts = [`gso ${GSO_NAMES[type] ?? type}${hasEcn(v, at) ? '+ecn' : ''}`]
  if (type !== GSO_NONE) parts.push(`size ${gsoSize(v, at)}`, `headers ${hdrLen(v, at)}`)
  if (needsCsum(v, at)) parts.push(`needs checksum at ${csumStart(v, at)}+${csumOffset(v, at)}`)
  if ((flags(v, at) & DATA_VALID) !== 0) parts.push('checksum verified')
  return parts.join(', ')
}
