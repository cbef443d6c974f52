/**
 * TCP header, RFC 9293 §3.1; ECE and CWR from RFC 3168; options from RFC 9293, 7323 and 2018.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-------------------------------+-------------------------------+
 *   0 |          source port          |       destination port        |
 *     +-------------------------------+-------------------------------+
 *   4 |                        sequence number                        |
 *     +---------------------------------------------------------------+
 *   8 |                    acknowledgment number                      |
 *     +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
 *  12 | data  | zero  |C|E|U|A|P|R|S|F|            window             |
 *     | offset|       |W|C|R|C|S|S|Y|I|                               |
 *     |       |       |R|E|G|K|H|T|N|N|                               |
 *     +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
 *  16 |           checksum            |        urgent pointer         |
 *     +-------------------------------+-------------------------------+
 *  20 |            options, data offset − 5 words (0..40 bytes)       |
 *
 * Sequence and acknowledgment numbers are int32: compare them by `(a - b) | 0`, print with `>>> 0`.
 */
import { finish, sum } from './checksum.js'

/** Bytes of a header without options. */
export const HEADER_LEN = 20
/** Bytes of the longest header. */
export const MAX_HEADER_LEN = 60

/** `check`: the whole header is there. */
export const OK = 0
/** `check`: fewer bytes than the header. */
export const TRUNCATED = 1
/** `check`: the data offset is below 5 words. */
export const MALFORMED = 2

export const FIN = 0x01
export const SYN = 0x02
export const RST = 0x04
export const PSH = 0x08
export const ACK = 0x10
export const URG = 0x20
export const ECE = 0x40
export const CWR = 0x80

/** Option kinds, for `findOption`. */
export const OPTION_END = 0
export const OPTION_NOP = 1
export const OPTION_MSS = 2
export const OPTION_WINDOW_SCALE = 3
export const OPTION_SACK_PERMITTED = 4
export const OPTION_SACK = 5
export const OPTION_TIMESTAMPS = 8

/** `findOption`: the header has no such option. */
export const NO_OPTION = -1
/** `findOption`: an option's length is below 2 or runs past the header. */
export const BAD_OPTIONS = -2

const SRC_PORT_AT = 0
const DST_PORT_AT = 2
const SEQ_AT = 4
const ACK_AT = 8
const DATA_OFFSET_AT = 12
const FLAGS_AT = 13
const WINDOW_AT = 14
/** Where the checksum is in the header. */
export const CHECKSUM_AT = 16
const URGENT_AT = 18

/**
 * The only test; options are judged by `findOption`.
 * @param len  bytes there are, from `at`: header and payload
 * @returns    OK, TRUNCATED or MALFORMED
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < HEADER_LEN) return TRUNCATED
  const header = headerLen(v, at)
  if (header < HEADER_LEN) return MALFORMED
  return header > len ? TRUNCATED : OK
}

export const srcPort = (v: DataView, at: number): number => v.getUint16(at + SRC_PORT_AT)
export const dstPort = (v: DataView, at: number): number => v.getUint16(at + DST_PORT_AT)
/** Sequence number, int32. */
export const seq = (v: DataView, at: number): number => v.getInt32(at + SEQ_AT)
/** Acknowledgment number, int32. */
export const ack = (v: DataView, at: number): number => v.getInt32(at + ACK_AT)
/** Header length in bytes, options included: 20..60 after `check`. */
export const headerLen = (v: DataView, at: number): number =>
  (v.getUint8(at + DATA_OFFSET_AT) >>> 4) << 2
/** The eight flags, FIN (bit 0) to CWR (bit 7). */
export const flags = (v: DataView, at: number): number => v.getUint8(at + FLAGS_AT)
/** The window field, not scaled. */
export const window = (v: DataView, at: number): number => v.getUint16(at + WINDOW_AT)
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM_AT)
export const urgent = (v: DataView, at: number): number => v.getUint16(at + URGENT_AT)

/**
 * Whether header and payload sum up.
 * @param len     bytes of header and payload
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export const isChecksumRight = (v: DataView, at: number, len: number, pseudo: number): boolean =>
  sum(v, at, len, pseudo) === 0xffff

/**
 * Where the first option of a kind lies.
 * @param kind  OPTION_MSS and so on; not OPTION_END or OPTION_NOP, which are only padding
 * @returns     bytes from the header to the option's kind byte, NO_OPTION or BAD_OPTIONS
 * Cost:        at most 40 steps, bounded by the header's length
 */
export function findOption(v: DataView, at: number, kind: number): number {
  const end = headerLen(v, at)
  let offset = HEADER_LEN
  while (offset < end) {
    const found = v.getUint8(at + offset)
    if (found === OPTION_END) return NO_OPTION
    if (found === OPTION_NOP) {
      offset++
      continue
    }
    const len = offset + 1 < end ? v.getUint8(at + offset + 1) : 0
    if (len < 2 || offset + len > end) return BAD_OPTIONS
    if (found === kind) return offset
    offset += len
  }
  return NO_OPTION
}

export const setSrcPort = (v: DataView, at: number, port: number): void => {
  v.setUint16(at + SRC_PORT_AT, port)
}
export const setDstPort = (v: DataView, at: number, port: number): void => {
  v.setUint16(at + DST_PORT_AT, port)
}
export const setSeq = (v: DataView, at: number, value: number): void => {
  v.setInt32(at + SEQ_AT, value)
}
export const setAck = (v: DataView, at: number, value: number): void => {
  v.setInt32(at + ACK_AT, value)
}
export const setFlags = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + FLAGS_AT, value)
}
export const setWindow = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + WINDOW_AT, value)
}
export const setChecksum = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + CHECKSUM_AT, value)
}
export const setUrgent = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + URGENT_AT, value)
}

/**
 * Computes the checksum and stores it.
 * @param len     bytes of header and payload
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export function finishChecksum(v: DataView, at: number, len: number, pseudo: number): void {
  setChecksum(v, at, 0)
  setChecksum(v, at, finish(sum(v, at, len, pseudo)))
}

/**
 * Writes a header without options: all 20 bytes, with checksum and urgent pointer 0.
 * @param seqBits    int32 or uint32
 * @param ackBits    int32 or uint32
 * @param flagsByte  e.g. SYN | ACK
 */
export function write(
  v: DataView,
  at: number,
  src: number,
  dst: number,
  seqBits: number,
  ackBits: number,
  flagsByte: number,
  windowWord: number,
): void {
  v.setUint16(at + SRC_PORT_AT, src)
  v.setUint16(at + DST_PORT_AT, dst)
  v.setInt32(at + SEQ_AT, seqBits)
  v.setInt32(at + ACK_AT, ackBits)
  v.setUint8(at + DATA_OFFSET_AT, (HEADER_LEN >>> 2) << 4)
  v.setUint8(at + FLAGS_AT, flagsByte)
  v.setUint16(at + WINDOW_AT, windowWord)
  v.setUint16(at + CHECKSUM_AT, 0)
  v.setUint16(at + URGENT_AT, 0)
}
