/**
 * The last segment of a lease's key: `10.5.52.0-24`, or `10.5.52.0-24&fd00:10:5:1::-64` in a
 * dual-stack network.
 *
 * A key is accepted only in the one form in which it would be written again, so that parsing and
 * formatting are each other's inverse and a lease is never rewritten or deleted under a key other
 * than its own. That refuses what no daemon writes (host bits, leading zeros, long IPv6 forms) and,
 * like flannel, a /32, upper-case hexadecimal and text behind the key. A zero length is refused too,
 * since as a route it would swallow everything, but for `0.0.0.0-0&fd00:10:5:1::-64`: the key of a
 * lease in a network of IPv6 alone.
 */
import type { LeaseSubnet } from './lease.js'
import { formatAddr4, formatAddr6, parseAddr4, parseAddr6, prefix4, prefix6 } from './prefix.js'

const KEY = /^([\d.]+)-(\d{1,2})(?:&([\da-f:]+)-(\d{1,3}))?$/

/**
 * Subnet that a key stands for.
 * @param key  whole key or its last segment; what precedes the last `/` is not looked at
 * @returns    null when it is no canonical lease key
 */
export function parseSubnetKey(key: string): LeaseSubnet | null {
  const segment = key.slice(key.lastIndexOf('/') + 1)
  const match = KEY.exec(segment)
  if (match === null) return null
  const [, text4 = '', len4, text6, len6] = match
  const addr4 = parseAddr4(text4)
  const isLen4 = isLeaseLen(len4, 31) || (Number(len4) === 0 && text6 !== undefined)
  const v4 = addr4 === null || !isLen4 ? null : prefix4(addr4, Number(len4))
  if (v4 === null) return null
  const addr6 = text6 === undefined ? null : parseAddr6(text6)
  const v6 = addr6 === null || !isLeaseLen(len6, 127) ? null : prefix6(addr6, Number(len6))
  const subnet = { v4, v6 }
  return formatSubnetKey(subnet) === segment ? subnet : null
}

function isLeaseLen(text: string | undefined, max: number): boolean {
  return Number(text) >= 1 && Number(text) <= max
}

/** Key segment of a subnet, without any prefix or slash. */
export function formatSubnetKey(subnet: LeaseSubnet): string {
  const v4 = [formatAddr4(subnet.v4.addr), subnet.v4.len].join('-')
  return subnet.v6 === null ? v4 : `${v4}&${formatAddr6(subnet.v6.addr)}-${subnet.v6.len}`
}
