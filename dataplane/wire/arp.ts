/**
 * ARP for IPv4 over Ethernet, RFC 826.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-------------------------------+-------------------------------+
 *   0 |       hardware type (1)       |    protocol type (0x0800)     |
 *     +---------------+---------------+-------------------------------+
 *   4 | MAC bytes (6) | IP bytes (4)  |           operation           |
 *     +---------------+---------------+-------------------------------+
 *   8 |                  sender's MAC address, 6 bytes                |
 *     |                               +-------------------------------+
 *  12 |                               | sender's IPv4, upper half     |
 *     +-------------------------------+-------------------------------+
 *  16 |   sender's IPv4, lower half   |                               |
 *     +-------------------------------+                               |
 *  20 |                  target's MAC address, 6 bytes                |
 *     +---------------------------------------------------------------+
 *  24 |                     target's IPv4 address                     |
 *     +---------------------------------------------------------------+
 *
 * MAC addresses are two numbers, as in ethernet.ts.
 */
import { describeMac, TYPE_IPV4 } from './ethernet.js'
import { describeAddress } from './ipv4.js'

/** Bytes of a message. */
export const HEADER_LEN = 28

export const REQUEST = 1
export const REPLY = 2

/** `check`: a message about IPv4 over Ethernet. */
export const OK = 0
/** `check`: fewer than 28 bytes. */
export const TRUNCATED = 1
/** `check`: about other kinds of addresses. */
export const OTHER_KIND = 2

const HARDWARE_AT = 0
const PROTOCOL_AT = 2
const LENGTHS_AT = 4
const OPERATION_AT = 6
const SENDER_MAC_AT = 8
const SENDER_AT = 14
const TARGET_MAC_AT = 18
const TARGET_AT = 24

const ETHERNET = 1
/** 6 bytes of MAC, 4 of IPv4. */
const LENGTHS = 0x0604

/**
 * The only test.
 * @param len  bytes there are, from `at`
 * @returns    OK, TRUNCATED or OTHER_KIND
 */
export function check(v: DataView, at: number, len: number): number {
  if (len < HEADER_LEN) return TRUNCATED
  const isOurKind =
    v.getUint16(at + HARDWARE_AT) === ETHERNET &&
    v.getUint16(at + PROTOCOL_AT) === TYPE_IPV4 &&
    v.getUint16(at + LENGTHS_AT) === LENGTHS
  return isOurKind ? OK : OTHER_KIND
}

/** What it is: REQUEST, REPLY, or rarer. */
export const operation = (v: DataView, at: number): number => v.getUint16(at + OPERATION_AT)
/** Upper 16 bits of the sender's MAC. */
export const senderHigh = (v: DataView, at: number): number => v.getUint16(at + SENDER_MAC_AT)
/** Lower 32 bits of the sender's MAC, int32. */
export const senderLow = (v: DataView, at: number): number => v.getInt32(at + SENDER_MAC_AT + 2)
/** The sender's address bits: int32, host order. */
export const sender = (v: DataView, at: number): number => v.getInt32(at + SENDER_AT)
/** Upper 16 bits of the target's MAC; of no meaning in a request. */
export const targetHigh = (v: DataView, at: number): number => v.getUint16(at + TARGET_MAC_AT)
/** Lower 32 bits of the target's MAC, int32. */
export const targetLow = (v: DataView, at: number): number => v.getInt32(at + TARGET_MAC_AT + 2)
/** The target's address bits: int32, host order. */
export const target = (v: DataView, at: number): number => v.getInt32(at + TARGET_AT)

/** Writes a message: all 28 bytes. Low halves and addresses are int32 or uint32. */
export function write(
  v: DataView,
  at: number,
  operationWord: number,
  senderHighBits: number,
  senderLowBits: number,
  senderBits: number,
  targetHighBits: number,
  targetLowBits: number,
  targetBits: number,
): void {
  v.setUint16(at + HARDWARE_AT, ETHERNET)
  v.setUint16(at + PROTOCOL_AT, TYPE_IPV4)
  v.setUint16(at + LENGTHS_AT, LENGTHS)
  v.setUint16(at + OPERATION_AT, operationWord)
  v.setUint16(at + SENDER_MAC_AT, senderHighBits)
  v.setInt32(at + SENDER_MAC_AT + 2, senderLowBits)
  v.setInt32(at + SENDER_AT, senderBits)
  v.setUint16(at + TARGET_MAC_AT, targetHighBits)
  v.setInt32(at + TARGET_MAC_AT + 2, targetLowBits)
  v.setInt32(at + TARGET_AT, targetBits)
}

/** The message as `tcpdump` prints requests and replies. */
export function describe(v: DataView, at: number): string {
  const of = describeAddress(sender(v, at))
  switch (operation(v, at)) {
    case REQUEST:
      return `ARP, Request who-has ${describeAddress(target(v, at))} tell ${of}`
    case REPLY:
      return `ARP, Reply ${of} is-at ${describeMac(senderHigh(v, at), senderLow(v, at))}`
    default:
      return `ARP, operation ${operation(v, at)}`
  }
}
