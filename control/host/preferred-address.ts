/**
 * Which of an interface's addresses stands for it, as flannel chooses.
 */
import { parseAddr4, parseAddr6 } from '../prefix.js'
import type { AddressInfo } from './interface.js'

export type Family = 'ipv4' | 'ipv6'

/**
 * Global before link-local, then permanent before dynamic, then primary and lasting ones; the first of
 * equals. An IPv6 link-local address never qualifies: it means nothing to a peer behind a router.
 * @returns null when the interface has none
 */
export function preferredAddress(link: AddressInfo, family: Family): string | null {
  let best: { local: string; rank: number } | null = null
  for (const address of link.addr_info) {
    const { local = '', dynamic, deprecated, secondary, temporary } = address
    if (deprecated === true) continue
    const scope = family === 'ipv4' ? scope4(parseAddr4(local)) : scope6(parseAddr6(local))
    if (scope === null) continue
    const isMinor = secondary === true || temporary === true
    const rank = (scope === 'link' ? 4 : 0) + (dynamic === true ? 2 : 0) + (isMinor ? 1 : 0)
    if (best === null || rank < best.rank) best = { local, rank }
  }
  return best?.local ?? null
}

/** Null unless unicast, and neither unspecified nor loopback. */
function scope4(addr: number | null): 'global' | 'link' | null {
  if (addr === null || addr === 0 || addr === 0xffffffff) return null
  if (addr >>> 24 === 127 || addr >>> 28 === 14) return null
  // 169.254.0.0/16. Source: RFC 3927 §2.1
  return addr >>> 16 === 0xa9fe ? 'link' : 'global'
}

/** Null for ::, ::1, fe80::/10 and ff00::/8. Source: RFC 4291 §2.4 */
function scope6(addr: bigint | null): 'global' | null {
  if (addr === null || addr <= 1n || addr >> 118n === 0x3fan || addr >> 120n === 0xffn) return null
  return 'global'
}
