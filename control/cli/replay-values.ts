/**
 * The values that `heddle replay` is given as text: prefixes, addresses, hosts and numbers of either
 * family. Each mistake is a HeddleError HEDDLE_USAGE that begins with the flag or field it is in.
 */
import { address, isStation, type Mac, parseMac } from '../../dataplane/index.js'
import { HeddleError } from '../errors.js'
import {
  contains4,
  contains6,
  formatPrefix4,
  formatPrefix6,
  parsePrefix4,
  parsePrefix6,
  type Prefix4,
  type Prefix6,
} from '../prefix.js'

export type Family = 4 | 6

/** A prefix of either family: `addr` is a number for IPv4, a bigint for IPv6. */
export type Prefix = Prefix4 | Prefix6

/** One prefix of each family; null = none. */
export interface PrefixPair {
  readonly ipv4: Prefix4 | null
  readonly ipv6: Prefix6 | null
}

/** An outer address and UDP port. */
export interface Host {
  /** uint32 in host order for IPv4, 128 bits for IPv6. */
  readonly address: number | bigint
  readonly port: number
}

/** Family of an address: a number is IPv4, a bigint IPv6. */
export function familyOf(addr: number | bigint): Family {
  return typeof addr === 'number' ? 4 : 6
}

export function isPrefix4(prefix: Prefix): prefix is Prefix4 {
  return typeof prefix.addr === 'number'
}

export function formatPrefix(prefix: Prefix): string {
  return isPrefix4(prefix) ? formatPrefix4(prefix) : formatPrefix6(prefix)
}

/** Whether a prefix lies within another one of its family. */
export function isWithin(outer: PrefixPair, inner: Prefix): boolean {
  if (isPrefix4(inner)) {
    return outer.ipv4 !== null && inner.len >= outer.ipv4.len && contains4(outer.ipv4, inner.addr)
  }
  return outer.ipv6 !== null && inner.len >= outer.ipv6.len && contains6(outer.ipv6, inner.addr)
}

/** Whether an address lies in the prefix of its family. */
export function contains(pair: PrefixPair, addr: number | bigint): boolean {
  return isWithin(pair, typeof addr === 'number' ? { addr, len: 32 } : { addr, len: 128 })
}

/** A prefix without host bits: a subnet with some is more likely a mistake than meant. */
export function prefixFrom(label: string, text: string): Prefix {
  const prefix = parsePrefix4(text) ?? parsePrefix6(text)
  if (prefix === null) {
    throw usage(`${label}: "${text}" is not a prefix such as 10.5.1.0/24 or fd00:5:1::/64`)
  }
  const addr = addressFrom(label, text.slice(0, text.indexOf('/')))
  if (addr !== prefix.addr) {
    throw usage(`${label}: ${text} has host bits set; write ${formatPrefix(prefix)}`)
  }
  return prefix
}

/**
 * Prefixes of which there is at most one of each family.
 * @param label  the flag that they were given by
 */
export function pairFrom(label: string, texts: readonly string[]): PrefixPair {
  let pair: PrefixPair = { ipv4: null, ipv6: null }
  for (const text of texts) {
    const prefix = prefixFrom(label, text)
    const isIpv4 = isPrefix4(prefix)
    if ((isIpv4 ? pair.ipv4 : pair.ipv6) !== null) {
      throw usage(`${label}: ${text} is a second one of IPv${isIpv4 ? 4 : 6}; one of each family`)
    }
    pair = isIpv4 ? { ...pair, ipv4: prefix } : { ...pair, ipv6: prefix }
  }
  return pair
}

export function addressFrom(label: string, text: string): number | bigint {
  const bits = address.parseAddress(text)
  if (bits === null) throw usage(`${label}: "${text}" is not an IP address`)
  return typeof bits === 'number' ? bits >>> 0 : bits
}

/**
 * ADDRESS or ADDRESS:PORT, with an IPv6 address before a port in brackets.
 * @param port  when none is given
 */
export function hostFrom(label: string, text: string, port: number): Host {
  if (address.parseAddress(text) !== null) return { address: addressFrom(label, text), port }
  const [, inBrackets, dotted, portText] =
    /^(?:\[([^\]]+)\]|([^:]+))(?::([^:]*))?$/.exec(text) ?? []
  const bits = address.parseAddress(inBrackets ?? dotted ?? '')
  if (bits === null || familyOf(bits) !== (inBrackets === undefined ? 4 : 6)) {
    throw usage(`${label}: "${text}" is not an IP address, ADDRESS:PORT or [ADDRESS]:PORT`)
  }
  return {
    address: typeof bits === 'number' ? bits >>> 0 : bits,
    port: portText === undefined ? port : numberWithin(label, portText, 1, 65535),
  }
}

export function macFrom(label: string, text: string): Mac {
  const mac = parseMac(text)
  if (mac !== null && isStation(mac)) return mac
  throw usage(`${label}: "${text}" is not the MAC address of a station`)
}

export function numberWithin(
  label: string,
  value: string | number,
  min: number,
  max: number,
): number {
  const isNumber = typeof value === 'number' || /^\d+$/.test(value)
  const number = isNumber ? Number(value) : Number.NaN
  if (Number.isInteger(number) && number >= min && number <= max) return number
  throw usage(`${label}: ${value} is not a whole number within ${min}..${max}`)
}

export function usage(message: string, cause?: unknown): HeddleError {
  return new HeddleError('HEDDLE_USAGE', message, { cause })
}
