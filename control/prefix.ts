/**
 * IP prefixes on the control side: numbers that can be counted with, text only at the edges.
 *
 * IPv4 addresses are uint32 in host order, IPv6 addresses 128-bit unsigned bigints. Parsers answer
 * null for anything that is not exactly an address or prefix: no leading zeros in an octet, no
 * zone, no short forms such as `10.1`. Text is always canonical (RFC 5952 for IPv6), because lease
 * keys are compared as bytes by every peer. A prefix built here has its host bits cleared.
 */
import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

export interface Prefix4 {
  /** Address as uint32, host order; host bits are zero. */
  readonly addr: number
  /** 0..32 */
  readonly len: number
}
export interface Prefix6 {
  /** Address as a 128-bit unsigned integer; host bits are zero. */
  readonly addr: bigint
  /** 0..128 */
  readonly len: number
}

/** Number of addresses in an IPv4 prefix of this length, 1..2^32. */
export function size4(len: number): number {
  return 2 ** (32 - len)
}

/** Number of addresses in an IPv6 prefix of this length, 1..2^128. */
export function size6(len: number): bigint {
  return 1n << BigInt(128 - len)
}

/** The prefix of length `len` that an IPv4 address lies in. */
export function prefix4(addr: number, len: number): Prefix4 {
  return { addr: addr - (addr % size4(len)), len }
}

/** The prefix of length `len` that an IPv6 address lies in. */
export function prefix6(addr: bigint, len: number): Prefix6 {
  return { addr: addr - (addr % size6(len)), len }
}

/** Dotted quad to uint32 in host order; null when it is none. */
export function parseAddr4(text: string): number | null {
  if (!isIPv4(text)) return null
  return text.split('.').reduce((addr, octet) => addr * 256 + Number(octet), 0)
}

/** uint32 in host order to dotted quad. */
export function formatAddr4(addr: number): string {
  return [addr >>> 24, (addr >>> 16) & 255, (addr >>> 8) & 255, addr & 255].join('.')
}

/** IPv6 text in any form of RFC 4291 §2.2, without a zone, to 128 bits; null when it is none. */
export function parseAddr6(text: string): bigint | null {
  if (!isIPv6(text) || text.includes('%')) return null
  return ipaddr.IPv6.parse(text).parts.reduce((addr, group) => (addr << 16n) | BigInt(group), 0n)
}

/**
 * 128 bits to text: lower case, the longest run of two or more zero groups as `::`, the first of
 * equals. IPv4-mapped addresses stay hexadecimal, as lease keys need.
 * Source: RFC 5952 §4
 */
export function formatAddr6(addr: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) => (addr >> BigInt(112 - 16 * i)) & 0xffffn)
  let best = { start: 0, count: 1 }
  let start = 0
  groups.forEach((group, i) => {
    if (group !== 0n) start = i + 1
    else if (i + 1 - start > best.count) best = { start, count: i + 1 - start }
  })
  const text = (part: readonly bigint[]) => part.map((group) => group.toString(16)).join(':')
  if (best.count === 1) return text(groups)
  return `${text(groups.slice(0, best.start))}::${text(groups.slice(best.start + best.count))}`
}

/** `a.b.c.d/len` to a prefix, host bits cleared; null when it is none. */
export function parsePrefix4(text: string): Prefix4 | null {
  const parts = splitPrefix(text, 32)
  const addr = parts && parseAddr4(parts.addr)
  return parts === null || addr === null ? null : prefix4(addr, parts.len)
}

/** `<IPv6>/len` to a prefix, host bits cleared; null when it is none. */
export function parsePrefix6(text: string): Prefix6 | null {
  const parts = splitPrefix(text, 128)
  const addr = parts && parseAddr6(parts.addr)
  return parts === null || addr === null ? null : prefix6(addr, parts.len)
}

function splitPrefix(text: string, maxLen: number): { addr: string; len: number } | null {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text)
  const len = Number(match?.[2])
  return match?.[1] === undefined || len > maxLen ? null : { addr: match[1], len }
}

/** `a.b.c.d/len` */
export function formatPrefix4(prefix: Prefix4): string {
  // Joined, not added: many of these are kept, and V8 keeps the parts of strings that were added.
  return [formatAddr4(prefix.addr), prefix.len].join('/')
}

/** RFC 5952 text, `/`, length. */
export function formatPrefix6(prefix: Prefix6): string {
  return `${formatAddr6(prefix.addr)}/${prefix.len}`
}

/** Whether an IPv4 address (uint32, host order) lies in the prefix. */
export function contains4(prefix: Prefix4, addr: number): boolean {
  return addr >= prefix.addr && addr < prefix.addr + size4(prefix.len)
}

/** Whether an IPv6 address (128 bits) lies in the prefix. */
export function contains6(prefix: Prefix6, addr: bigint): boolean {
  return addr >= prefix.addr && addr < prefix.addr + size6(prefix.len)
}

/** Whether two IPv4 prefixes share an address, that is: one contains the other. */
export function overlaps4(a: Prefix4, b: Prefix4): boolean {
  return contains4(a, b.addr) || contains4(b, a.addr)
}

/** Whether two IPv6 prefixes share an address, that is: one contains the other. */
export function overlaps6(a: Prefix6, b: Prefix6): boolean {
  return contains6(a, b.addr) || contains6(b, a.addr)
}
