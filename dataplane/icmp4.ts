/**
 * ICMP errors about IPv4 packets: which packets may earn one, and the bytes around the quote.
 *
 * The rules are RFC 1812 §4.3.2: never about an ICMP error, a later fragment, a multicast or
 * broadcast destination or a source that is no single host (§4.3.2.7); as much of the packet as
 * fits 576 bytes is quoted (§4.3.2.3); precedence 6 (§4.3.2.5).
 */
import { writeName } from './fib/nexthop.js'
import type { IcmpProtocol } from './icmp.js'
import { DROP_NO_ROUTE, DROP_TOO_BIG, DROP_TTL, DROP_TX_UNREACHABLE } from './packet/verdict.js'
import * as icmpv4 from './wire/icmpv4.js'
import * as ipv4 from './wire/ipv4.js'

/** Type of service of an error: precedence 6, internetwork control (RFC 1812 §4.3.2.5). */
const TOS = 0xc0
const TTL = 64

/** Neither 0/8, 127/8, multicast, class E nor broadcast. */
function isSingleHost(bits: number): boolean {
  const top = bits >>> 24
  return top !== 0 && top !== 127 && top < 224
}

function isUnicast(bits: number): boolean {
  return bits >>> 24 < 224
}

/** @param source  address bits that the errors come from */
export function createIcmp4(source: number): IcmpProtocol {
  return {
    earned: [
      [DROP_NO_ROUTE, icmpv4.UNREACHABLE, icmpv4.NET_UNREACHABLE],
      [DROP_TX_UNREACHABLE, icmpv4.UNREACHABLE, icmpv4.HOST_UNREACHABLE],
      [DROP_TOO_BIG, icmpv4.UNREACHABLE, icmpv4.FRAGMENTATION_NEEDED],
      [DROP_TTL, icmpv4.TIME_EXCEEDED, icmpv4.TTL_IN_TRANSIT],
    ],
    maxLen: 576,
    headersLen: ipv4.HEADER_LEN + icmpv4.HEADER_LEN,
    leastMtu: 0,
    srcAt: ipv4.SRC_AT,
    addressWords: 1,
    totalLen: ipv4.totalLen,

    mayAnswer(v, at) {
      if (ipv4.isLaterFragment(v, at)) return false
      if (!isSingleHost(ipv4.src(v, at)) || !isUnicast(ipv4.dst(v, at))) return false
      if (ipv4.protocol(v, at) !== ipv4.PROTO_ICMP) return true
      const headerLen = ipv4.headerLen(v, at)
      return ipv4.totalLen(v, at) > headerLen && !icmpv4.isError(v, at + headerLen)
    },

    write(v, to, len, type, code, mtu, about) {
      const icmpLen = len - ipv4.HEADER_LEN
      ipv4.write(v, to, len, TOS, 0, 0, TTL, ipv4.PROTO_ICMP, source, ipv4.src(v, about))
      icmpv4.writeError(v, to + ipv4.HEADER_LEN, type, code, mtu, icmpLen)
    },

    writeReceiver(names, name, v, about) {
      writeName(names, name, 4, ipv4.src(v, about), 0, 0, 0, 0)
    },
  }
}
