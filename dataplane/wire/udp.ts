/**
 * UDP header, RFC 768; over IPv6 RFC 8200 §8.1.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-------------------------------+-------------------------------+
 *   0 |          source port          |       destination port        |
 *     +-------------------------------+-------------------------------+
 *   4 |            length             |           checksum            |
 *     +-------------------------------+-------------------------------+
 *
 * A checksum field of 0 means that the sender made none: fine over IPv4, forbidden over IPv6 (but
 * for tunnels, RFC 6935). A sum that comes out as 0 is sent as 0xffff.
 */
import { finish, sum } from './checksum.js'

/** Bytes of the header. */
export const HEADER_LEN = 8

/** `check`: the header and the bytes its length announces are there. */
export const OK = 0
/** `check`: fewer bytes than the header, or than its length field says. */
export const TRUNCATED = 1
/** `check`: the length field is below 8. (0 would mean a jumbogram, RFC 2675: not supported.) */
export const MALFORMED = 2

const SRC_PORT_AT = 0
const DST_PORT_AT = 2
const LENGTH_AT = 4
/** Where the checksum is in the header. */
export const CHECKSUM_AT = 6

/**
 * The only test. Bytes after the length are allowed (RFC 768 leaves them to whoever put them there).
 * @param len  bytes there are, from `at`
 * @returns    OK, TRUNCATED or MALFORMED
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < HEADER_LEN) return TRUNCATED
  const announced = v.getUint16(at + LENGTH_AT)
  if (announced < HEADER_LEN) return MALFORMED
  return announced > len ? TRUNCATED : OK
}

export const srcPort = (v: DataView, at: number): number => v.getUint16(at + SRC_PORT_AT)
export const dstPort = (v: DataView, at: number): number => v.getUint16(at + DST_PORT_AT)
/** Bytes of header and payload. */
export const length = (v: DataView, at: number): number => v.getUint16(at + LENGTH_AT)
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM_AT)
/** Whether the sender made a checksum at all. */
export const hasChecksum = (v: DataView, at: number): boolean => checksum(v, at) !== 0

/**
 * Whether header and payload sum up. A datagram without a checksum is not right: ask `hasChecksum`.
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export const isChecksumRight = (v: DataView, at: number, pseudo: number): boolean =>
  hasChecksum(v, at) && sum(v, at, length(v, at), pseudo) === 0xffff

export const setSrcPort = (v: DataView, at: number, port: number): void => {
  v.setUint16(at + SRC_PORT_AT, port)
}
export const setDstPort = (v: DataView, at: number, port: number): void => {
  v.setUint16(at + DST_PORT_AT, port)
}
export const setLength = (v: DataView, at: number, len: number): void => {
  v.setUint16(at + LENGTH_AT, len)
}
export const setChecksum = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + CHECKSUM_AT, value)
}

/**
 * The value for the checksum field that stands for a sum: its complement, and 0xffff for 0.
 * @param total  sum of pseudo-header, header (with a zero field) and payload
 */
export const fieldFor = (total: number): number => finish(total) || 0xffff

/**
 * Computes the checksum over `length` bytes and stores it.
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export function finishChecksum(v: DataView, at: number, pseudo: number): void {
  setChecksum(v, at, 0)
  setChecksum(v, at, fieldFor(sum(v, at, length(v, at), pseudo)))
}

/**
 * Writes a header: all 8 bytes, with a checksum field of 0 ("none") until `finishChecksum`.
 * @param len  bytes of header and payload
 */
export function write(v: DataView, at: number, src: number, dst: number, len: number): void {
  v.setUint16(at + SRC_PORT_AT, src)
  v.setUint16(at + DST_PORT_AT, dst)
  v.setUint16(at + LENGTH_AT, len)
  v.setUint16(at + CHECKSUM_AT, 0)
}

/** The header as tcpdump prints it after the addresses and ports. */
export function describe(v: DataView, at: number): string {
  return `UDP, length ${length(v, at) - HEADER_LEN}`
}

/** A fault of `check` in words. */
export function describeFault(fault: number): string {
  return fault === TRUNCATED
    ? 'UDP: fewer bytes than the header or its length field announces'
    : 'UDP: length field below 8'
}
