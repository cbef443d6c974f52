/**
 * ICMP for IPv4: RFC 792; RFC 1191 §4 for the next-hop MTU; RFC 1122 §3.2.2 and RFC 1812 §5.2.7 for
 * which types are errors.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +---------------+---------------+-------------------------------+
 *   0 |     type      |     code      |           checksum            |
 *     +---------------+---------------+-------------------------------+
 *   4 | echo: identifier              | echo: sequence number         |
 *     | unreachable 3/4: 0            | next-hop MTU                  |
 *     | parameter problem: pointer, 0 | 0                             |
 *     +-------------------------------+-------------------------------+
 *   8 | echo: data; error: the packet it is about, IP header first    |
 *
 * The checksum covers the whole message and no pseudo-header.
 */
import { finish, sum } from './checksum.js'

/** Bytes before an echo's data or an error's quoted packet. */
export const HEADER_LEN = 8

export const ECHO_REPLY = 0
export const UNREACHABLE = 3
export const SOURCE_QUENCH = 4
export const REDIRECT = 5
export const ECHO_REQUEST = 8
export const TIME_EXCEEDED = 11
export const PARAMETER_PROBLEM = 12

/** Codes of UNREACHABLE. */
export const NET_UNREACHABLE = 0
export const HOST_UNREACHABLE = 1
export const PROTOCOL_UNREACHABLE = 2
export const PORT_UNREACHABLE = 3
export const FRAGMENTATION_NEEDED = 4
export const ADMIN_PROHIBITED = 13
/** Code of TIME_EXCEEDED: the TTL ran out on the way. */
export const TTL_IN_TRANSIT = 0

/** `check`: the header is there. */
export const OK = 0
/** `check`: fewer than 8 bytes. */
export const TRUNCATED = 1

const TYPE_AT = 0
const CODE_AT = 1
const CHECKSUM_AT = 2
const REST_AT = 4
const SECOND_HALF_AT = 6

/**
 * The only test.
 * @param len  bytes there are, from `at`
 * @returns    OK or TRUNCATED
 */
export function check(_v: DataView, _at: number, len: number): number {
  return len < HEADER_LEN ? TRUNCATED : OK
}

export const type = (v: DataView, at: number): number => v.getUint8(at + TYPE_AT)
export const code = (v: DataView, at: number): number => v.getUint8(at + CODE_AT)
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM_AT)
/** Bytes 4..7 as int32, whatever the type makes of them. */
export const rest = (v: DataView, at: number): number => v.getInt32(at + REST_AT)
/** Identifier of an echo. */
export const id = (v: DataView, at: number): number => v.getUint16(at + REST_AT)
/** Sequence number of an echo. */
export const seq = (v: DataView, at: number): number => v.getUint16(at + SECOND_HALF_AT)
/** Next-hop MTU of unreachable 3/4; 0 from a router older than RFC 1191. */
export const mtu = (v: DataView, at: number): number => v.getUint16(at + SECOND_HALF_AT)
/** Byte of the quoted packet that a parameter problem is about. */
export const pointer = (v: DataView, at: number): number => v.getUint8(at + REST_AT)

/**
 * Whether a message is an error about another packet, which must not earn an error itself. It reads
 * the type alone, so one byte is enough.
 */
export function isError(v: DataView, at: number): boolean {
  const kind = type(v, at)
  return (
    kind === UNREACHABLE ||
    kind === TIME_EXCEEDED ||
    kind === PARAMETER_PROBLEM ||
    kind === REDIRECT ||
    kind === SOURCE_QUENCH
  )
}

/** @param len  bytes of the whole message */
export const isChecksumRight = (v: DataView, at: number, len: number): boolean =>
  sum(v, at, len) === 0xffff

export const setType = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + TYPE_AT, value)
}
export const setCode = (v: DataView, at: number, value: number): void => {
  v.setUint8(at + CODE_AT, value)
}
export const setChecksum = (v: DataView, at: number, value: number): void => {
  v.setUint16(at + CHECKSUM_AT, value)
}
/** Sets bytes 4..7. @param bits  int32 or uint32 */
export const setRest = (v: DataView, at: number, bits: number): void => {
  v.setInt32(at + REST_AT, bits)
}

/** Computes the checksum and stores it. @param len  bytes of the whole message */
export function finishChecksum(v: DataView, at: number, len: number): void {
  setChecksum(v, at, 0)
  setChecksum(v, at, finish(sum(v, at, len)))
}

/**
 * Writes a header: all 8 bytes, with a checksum field of 0 until `finishChecksum`.
 * @param restBits  bytes 4..7: identifier << 16 | sequence, or the next-hop MTU, or 0
 */
export function write(
  v: DataView,
  at: number,
  typeByte: number,
  codeByte: number,
  restBits: number,
): void {
  v.setUint8(at + TYPE_AT, typeByte)
  v.setUint8(at + CODE_AT, codeByte)
  v.setUint16(at + CHECKSUM_AT, 0)
  v.setInt32(at + REST_AT, restBits)
}

/**
 * Writes an error's header in front of the quoted packet, which is already in place, and its
 * checksum.
 * @param len  bytes of the whole message: 8 and the quoted ones
 */
export function writeError(
  v: DataView,
  at: number,
  typeByte: number,
  codeByte: number,
  restBits: number,
  len: number,
): void {
  write(v, at, typeByte, codeByte, restBits)
  setChecksum(v, at, finish(sum(v, at, len)))
}

const UNREACHABLE_CODES = [
  'net unreachable',
  'host unreachable',
  'protocol unreachable',
  'port unreachable',
  'unreachable - need to frag',
  'source route failed',
  'net unknown',
  'host unknown',
  'source host isolated',
  'net prohibited',
  'host prohibited',
  'net unreachable for this tos',
  'host unreachable for this tos',
  'admin prohibited',
] as const

/**
 * The message in a few words, without the quoted packet.
 * @param len  bytes of the whole message
 */
export function describe(v: DataView, at: number, len: number): string {
  return `ICMP ${describeType(v, at)}, length ${len}`
}

function describeType(v: DataView, at: number): string {
  const kind = type(v, at)
  const number = code(v, at)
  if (kind === ECHO_REQUEST) return `echo request, id ${id(v, at)}, seq ${seq(v, at)}`
  if (kind === ECHO_REPLY) return `echo reply, id ${id(v, at)}, seq ${seq(v, at)}`
  if (kind === UNREACHABLE) {
    const text = UNREACHABLE_CODES[number] ?? `unreachable #${number}`
    return number === FRAGMENTATION_NEEDED ? `${text} (mtu ${mtu(v, at)})` : text
  }
  if (kind === TIME_EXCEEDED) {
    return number === TTL_IN_TRANSIT
      ? 'time exceeded in-transit'
      : `time exceeded in reassembly (code ${number})`
  }
  if (kind === PARAMETER_PROBLEM) return `parameter problem - octet ${pointer(v, at)}`
  if (kind === REDIRECT) return `redirect, code ${number}`
  if (kind === SOURCE_QUENCH) return 'source quench'
  return `type ${kind}, code ${number}`
}
