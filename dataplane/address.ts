/**
 * Address bits ↔ text, at the edges of the dataplane; never in the path of a packet.
 *
 * IPv4 addresses are int32 in host order (10.0.0.1 = 0x0a000001), IPv6 addresses 16 bytes as on the
 * wire.
 */
import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * Bits of a dotted quad.
 * @throws RangeError when the text is none (shortened, octal and IPv6 forms included)
 */
export function parseIPv4(text: string): number {
  if (!isIPv4(text)) throw new RangeError(`"${text}" is no IPv4 address`)
  return text.split('.').reduce((bits, octet) => (bits << 8) | Number(octet), 0)
}

/** Dotted quad of address bits (int32 or uint32). */
export function formatIPv4(bits: number): string {
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.')
}

/**
 * Bytes of an IPv6 address.
 * @throws RangeError when the text is none, or has a zone
 */
export function parseIPv6(text: string): Uint8Array {
  if (!isIPv6(text) || text.includes('%')) throw new RangeError(`"${text}" is no IPv6 address`)
  return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray())
}

/** RFC 5952 text of 16 bytes. */
export function formatIPv6(bytes: Uint8Array): string {
  return new ipaddr.IPv6([...bytes]).toRFC5952String()
}

/** Network mask of an IPv4 prefix length (0..32), int32. */
export function prefixMask4(len: number): number {
  return len === 0 ? 0 : -1 << (32 - len)
}
