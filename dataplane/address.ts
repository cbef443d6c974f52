/**
 * Addresses as the dataplane holds them, and as text.
 *
 * IPv4 addresses are *address bits*: int32, host order, made with `| 0`. IPv6 addresses are 16 bytes,
 * most significant first. Text is for the edges: options, logs, tests; never for the path.
 */
import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/** An IPv4 prefix; bits of `addr` beyond `len` are 0. */
export interface Prefix4Bits {
  /** Address bits, int32, host order. */
  readonly addr: number
  /** 0..32 */
  readonly len: number
}

/** An IPv6 prefix; bits of `addr` beyond `len` are 0. */
export interface Prefix6Bytes {
  /** 16 bytes. */
  readonly addr: Uint8Array
  /** 0..128 */
  readonly len: number
}

/**
 * Reads a dotted quad. Short, octal and hexadecimal forms are refused.
 * @returns address bits, int32, host order; null when the text is no IPv4 address
 */
export function parseAddress4(text: string): number | null {
  if (!isIPv4(text)) return null
  return text.split('.').reduce((bits, byte) => (bits << 8) | Number(byte), 0)
}

/**
 * Reads an IPv6 address in any form of RFC 4291 §2.2; a zone (`%eth0`) is refused.
 * @returns 16 bytes; null when the text is no IPv6 address
 */
export function parseAddress6(text: string): Uint8Array | null {
  if (!isIPv6(text) || text.includes('%')) return null
  return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray())
}

/**
 * Reads an address of either family.
 * @returns address bits: a number for IPv4, a bigint of 128 bits for IPv6; null when it is neither
 */
export function parseAddress(text: string): number | bigint | null {
  const bytes = parseAddress6(text)
  if (bytes === null) return parseAddress4(text)
  return bytes.reduce((bits, byte) => (bits << 8n) | BigInt(byte), 0n)
}

/** The 16 bytes of an IPv6 address given as 128 bits. */
export function addressBytes6(bits: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => Number((bits >> BigInt(120 - 8 * i)) & 0xffn))
}

/** An address as int32 words, most significant first: one for IPv4 bits, four for 128 bits. */
export function addressWords(bits: number | bigint): number[] {
  if (typeof bits === 'number') return [bits | 0]
  return [96n, 64n, 32n, 0n].map((shift) => Number(BigInt.asIntN(32, bits >> shift)))
}

/**
 * Reads `address/length`.
 * @returns null when either part is wrong or a bit beyond the length is set
 */
export function parsePrefix4(text: string): Prefix4Bits | null {
  const [address = '', length = ''] = splitPrefix(text)
  const addr = parseAddress4(address)
  const len = parseLength(length, 32)
  if (addr === null || len === null || (addr & ~mask4(len)) !== 0) return null
  return { addr, len }
}

/**
 * Reads `address/length`.
 * @returns null when either part is wrong or a bit beyond the length is set
 */
export function parsePrefix6(text: string): Prefix6Bytes | null {
  const [address = '', length = ''] = splitPrefix(text)
  const addr = parseAddress6(address)
  const len = parseLength(length, 128)
  if (addr === null || len === null || !isNetwork6(addr, len)) return null
  return { addr, len }
}

/**
 * Network mask.
 * @param len  0..32
 * @returns    int32 with the upper `len` bits set
 */
export function mask4(len: number): number {
  // A shift by 32 is a shift by 0 in JavaScript.
  return len === 0 ? 0 : -1 << (32 - len)
}

/** Sets every bit beyond the first `len` (0..128) of 16 bytes to 0, in place. */
export function maskAddress6(addr: Uint8Array, len: number): void {
  for (let byte = 0; byte < 16; byte++) {
    const bits = Math.min(8, Math.max(0, len - 8 * byte))
    addr[byte] = (addr[byte] ?? 0) & (0xff00 >>> bits)
  }
}

/** Dotted quad of address bits, int32 or uint32. */
export function formatAddress4(addr: number): string {
  return [addr >>> 24, (addr >>> 16) & 0xff, (addr >>> 8) & 0xff, addr & 0xff].join('.')
}

/**
 * Text of an IPv6 address, as RFC 5952 wants it.
 * @param bytes  memory with the address
 * @param at     where its 16 bytes begin
 */
export function formatAddress6(bytes: Uint8Array, at = 0): string {
  return new ipaddr.IPv6([...bytes.subarray(at, at + 16)]).toRFC5952String()
}

/** `address/length` of an IPv4 prefix. */
export function formatPrefix4(prefix: Prefix4Bits): string {
  return `${formatAddress4(prefix.addr)}/${String(prefix.len)}`
}

/** `address/length` of an IPv6 prefix. */
export function formatPrefix6(prefix: Prefix6Bytes): string {
  return `${formatAddress6(prefix.addr)}/${String(prefix.len)}`
}

function splitPrefix(text: string): readonly string[] {
  const slash = text.indexOf('/')
  return slash < 0 ? [] : [text.slice(0, slash), text.slice(slash + 1)]
}

function parseLength(text: string, most: number): number | null {
  if (!/^(0|[1-9][0-9]{0,2})$/.test(text)) return null
  return Number(text) <= most ? Number(text) : null
}

function isNetwork6(addr: Uint8Array, len: number): boolean {
  const masked = addr.slice()
  maskAddress6(masked, len)
  return masked.every((byte, at) => byte === addr[at])
}
