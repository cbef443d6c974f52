/**
 * ICMP for IPv6: RFC 4443 §2.1 and §3; neighbour discovery messages by RFC 4861.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +---------------+---------------+-------------------------------+
 *   0 |     type      |     code      |           checksum            |
 *     +---------------+---------------+-------------------------------+
 *   4 | echo: identifier              | echo: sequence number         |
 *     | packet too big: MTU, 32 bits; parameter problem: pointer, 32  |
 *     +---------------------------------------------------------------+
 *   8 | echo: data; error: the packet it is about; neighbour          |
 *     | solicitation and advertisement: the target, 16 bytes          |
 *
 * The checksum covers the IPv6 pseudo-header (next header 58) and the whole message. Types below
 * 128 are errors, known or not.
 */
import { finish, sum } from './checksum.js'
import { ADDRESS_LEN, describeAddress } from './ipv6.js'

/** Bytes before an echo's data or an error's quoted packet. */
export const HEADER_LEN = 8
/** The protocol number of ICMPv6. */
export const PROTO_ICMPV6 = 58

export const UNREACHABLE = 1
export const PACKET_TOO_BIG = 2
export const TIME_EXCEEDED = 3
export const PARAMETER_PROBLEM = 4
export const ECHO_REQUEST = 128
export const ECHO_REPLY = 129
export const ROUTER_SOLICITATION = 133
export const ROUTER_ADVERTISEMENT = 134
export const NEIGHBOR_SOLICITATION = 135
export const NEIGHBOR_ADVERTISEMENT = 136
export const REDIRECT = 137

/** Codes of UNREACHABLE. */
export const NO_ROUTE = 0
export const ADMIN_PROHIBITED = 1
export const ADDRESS_UNREACHABLE = 3
export const PORT_UNREACHABLE = 4
/** Code of TIME_EXCEEDED: the hop limit ran out on the way. */
export const HOP_LIMIT_IN_TRANSIT = 0

/** Position of the target address in neighbour solicitations and advertisements. */
export const TARGET_AT = 8

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
/** MTU of "packet too big": uint32, from an unknown router, so anything. */
export const mtu = (v: DataView, at: number): number => v.getUint32(at + REST_AT)
/** Byte of the quoted packet that a parameter problem is about: uint32. */
export const pointer = (v: DataView, at: number): number => v.getUint32(at + REST_AT)

/**
 * Whether a message is an error about another packet, which must not earn an error itself (RFC 4443
 * §2.4 (e)). It reads the type alone, so one byte is enough.
 */
export const isError = (v: DataView, at: number): boolean => type(v, at) < 128

/**
 * Whether the message sums up.
 * @param len     bytes of the whole message
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export const isChecksumRight = (v: DataView, at: number, len: number, pseudo: number): boolean =>
  sum(v, at, len, pseudo) === 0xffff

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

/**
 * Computes the checksum and stores it.
 * @param len     bytes of the whole message
 * @param pseudo  sum of the pseudo-header, from checksum.ts
 */
export function finishChecksum(v: DataView, at: number, len: number, pseudo: number): void {
  setChecksum(v, at, 0)
  setChecksum(v, at, finish(sum(v, at, len, pseudo)))
}

/**
 * Writes a header: all 8 bytes, with a checksum field of 0 until `finishChecksum`.
 * @param restBits  bytes 4..7: identifier << 16 | sequence, or the MTU, or 0
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

const UNREACHABLE_CODES = [
  'no route',
  'admin prohibited',
  'beyond scope',
  'address',
  'port',
  'failed ingress/egress policy',
  'reject route',
] as const

/**
 * The message in a few words, without the quoted packet.
 * @param len  bytes of the message that are there, at least 8
 */
export function describe(v: DataView, at: number, len: number): string {
  return `ICMP6, ${describeType(v, at, len)}, length ${len}`
}

function describeType(v: DataView, at: number, len: number): string {
  const kind = type(v, at)
  const number = code(v, at)
  if (kind === ECHO_REQUEST) return `echo request, id ${id(v, at)}, seq ${seq(v, at)}`
  if (kind === ECHO_REPLY) return `echo reply, id ${id(v, at)}, seq ${seq(v, at)}`
  if (kind === UNREACHABLE) return `unreachable, ${UNREACHABLE_CODES[number] ?? `#${number}`}`
  if (kind === PACKET_TOO_BIG) return `packet too big, mtu ${mtu(v, at)}`
  if (kind === TIME_EXCEEDED) {
    return number === HOP_LIMIT_IN_TRANSIT
      ? 'time exceeded in-transit'
      : `time exceeded in reassembly (code ${number})`
  }
  if (kind === PARAMETER_PROBLEM) return `parameter problem - octet ${pointer(v, at)}`
  if (kind === ROUTER_SOLICITATION) return 'router solicitation'
  if (kind === ROUTER_ADVERTISEMENT) return 'router advertisement'
  const target = len < TARGET_AT + ADDRESS_LEN ? 'nobody' : describeAddress(v, at + TARGET_AT)
  if (kind === NEIGHBOR_SOLICITATION) return `neighbor solicitation, who has ${target}`
  if (kind === NEIGHBOR_ADVERTISEMENT) return `neighbor advertisement, tgt is ${target}`
  if (kind === REDIRECT) return 'redirect'
  return `type ${kind}, code ${number}`
}
