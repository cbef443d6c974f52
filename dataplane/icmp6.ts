/**
 * ICMPv6 errors about IPv6 packets: which packets may earn one, and the bytes around the quote.
 *
 * The rules are RFC 4443 §2.4: never about an ICMPv6 error or a redirect, a source that is no single
 * host, or a multicast destination unless it is "packet too big"; as much of the packet is quoted
 * as fits the least MTU of IPv6. A sender with a link-local address is not answered, since it cannot
 * be reached from another link.
 */
import { writeName } from './fib/nexthop.js'
import type { IcmpProtocol } from './icmp.js'
import {
  DROP_NO_ROUTE,
  DROP_PEER_NO_IPV6,
  DROP_TOO_BIG,
  DROP_TTL,
  DROP_TX_UNREACHABLE,
} from './packet/verdict.js'
import { pseudo6 } from './wire/checksum.js'
import * as icmpv6 from './wire/icmpv6.js'
import * as extensions from './wire/ipv6-extensions.js'
import * as ipv6 from './wire/ipv6.js'

const TRAFFIC_CLASS = 0
const HOP_LIMIT = 64

/** ff00::/8 */
function isMulticast(v: DataView, addressAt: number): boolean {
  return v.getUint8(addressAt) === 0xff
}

/** Neither unspecified, loopback, multicast nor link-local (RFC 4291 §2.4). */
function isSingleHost(v: DataView, addressAt: number): boolean {
  const first = v.getUint16(addressAt)
  if (first >>> 8 === 0xff || (first & 0xffc0) === 0xfe80) return false
  const isHighZero =
    v.getInt32(addressAt) === 0 &&
    v.getInt32(addressAt + 4) === 0 &&
    v.getInt32(addressAt + 8) === 0
  return !isHighZero || v.getUint32(addressAt + 12) > 1
}

/** @param source  16 bytes of the address that the errors come from */
export function createIcmp6(source: Uint8Array): IcmpProtocol {
  const from = new DataView(source.buffer, source.byteOffset, ipv6.ADDRESS_LEN)
  return {
    earned: [
      [DROP_NO_ROUTE, icmpv6.UNREACHABLE, icmpv6.NO_ROUTE],
      [DROP_PEER_NO_IPV6, icmpv6.UNREACHABLE, icmpv6.ADDRESS_UNREACHABLE],
      [DROP_TX_UNREACHABLE, icmpv6.UNREACHABLE, icmpv6.ADDRESS_UNREACHABLE],
      [DROP_TOO_BIG, icmpv6.PACKET_TOO_BIG, 0],
      [DROP_TTL, icmpv6.TIME_EXCEEDED, icmpv6.HOP_LIMIT_IN_TRANSIT],
    ],
    maxLen: ipv6.LEAST_MTU,
    headersLen: ipv6.HEADER_LEN + icmpv6.HEADER_LEN,
    leastMtu: ipv6.LEAST_MTU,
    srcAt: ipv6.SRC_AT,
    addressWords: 4,
    totalLen: ipv6.totalLen,

    mayAnswer(v, at, verdict) {
      if (!isSingleHost(v, at + ipv6.SRC_AT)) return false
      if (isMulticast(v, at + ipv6.DST_AT) && verdict !== DROP_TOO_BIG) return false
      const len = ipv6.totalLen(v, at)
      const walked = extensions.walk(v, at, len)
      // What cannot be walked may be an error, and that of a later fragment cannot be seen.
      if (walked < 0) return false
      if (extensions.upperProtocol(walked) !== icmpv6.PROTO_ICMPV6) return true
      const upper = extensions.upperOffset(walked)
      if (extensions.isLaterFragment(walked) || upper >= len) return false
      const message = at + upper
      return !icmpv6.isError(v, message) && icmpv6.type(v, message) !== icmpv6.REDIRECT
    },

    write(v, to, len, type, code, mtu, about) {
      const icmpLen = len - ipv6.HEADER_LEN
      const message = to + ipv6.HEADER_LEN
      const receiverAt = about + ipv6.SRC_AT
      ipv6.write(
        v,
        to,
        icmpLen,
        TRAFFIC_CLASS,
        0,
        icmpv6.PROTO_ICMPV6,
        HOP_LIMIT,
        from,
        0,
        v,
        receiverAt,
      )
      icmpv6.write(v, message, type, code, mtu)
      const srcAt = to + ipv6.SRC_AT
      const dstAt = to + ipv6.DST_AT
      const pseudo = pseudo6(v, srcAt, dstAt, icmpv6.PROTO_ICMPV6, icmpLen)
      icmpv6.finishChecksum(v, message, icmpLen, pseudo)
    },

    writeReceiver(names, name, v, about) {
      const src = (word: number): number => ipv6.srcWord(v, about, word)
      writeName(names, name, 6, src(0), src(1), src(2), src(3), 0)
    },
  }
}
