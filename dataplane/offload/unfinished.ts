/**
 * Unfinished packets from outside: what a kernel peer on the same machine hands over as it came from
 * TCP, since no wire lies between. The transport checksum holds the sum of the pseudo-header alone,
 * and a packet may be a super-packet of up to 64 KiB, far above the MTU.
 *
 * A finished checksum equals that sum in one of 65 536 packets by chance; it is then computed anew,
 * which changes nothing if it was right. But a sender that wants to can have its packets taken without
 * their being verified, so this is for VXLAN, whose kernel devices do it, and for ipip, whose packets the
 * own kernel joins (GRO) before a raw socket gets them; and it is counted.
 */
import { pseudo4, pseudo6 } from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import * as vnethdr from '../wire/vnethdr.js'

/** The packet is finished, or its transport is one that is not known here. */
export const FINISHED = 0

const { PROTO_TCP, PROTO_UDP } = ipv4

/**
 * Looks whether the transport checksum is left to a network card.
 * @param at   a packet that has passed `ipv4.check` or `ipv6.check`
 * @param len  its bytes, by its header
 * @returns    PROTO_TCP, PROTO_UDP or FINISHED
 */
export function unfinishedProtocol(view: DataView, at: number, len: number): number {
  const isV6 = ipv4.version(view, at) === 6
  if (!isV6 && ipv4.isFragment(view, at)) return FINISHED
  const protocol = isV6 ? ipv6.nextHeader(view, at) : ipv4.protocol(view, at)
  const ipLen = ipLenOf(view, at)
  const l4Len = len - ipLen
  if (protocol === PROTO_TCP ? l4Len < tcp.HEADER_LEN : protocol !== PROTO_UDP) return FINISHED
  if (l4Len < udp.HEADER_LEN) return FINISHED
  const pseudo = isV6
    ? pseudo6(view, at + ipv6.SRC_AT, at + ipv6.DST_AT, protocol, l4Len)
    : pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, l4Len)
  return view.getUint16(at + ipLen + sumAtOf(protocol)) === pseudo ? protocol : FINISHED
}

/** Bytes before the transport header. */
export function ipLenOf(view: DataView, at: number): number {
  return ipv4.version(view, at) === 6 ? ipv6.HEADER_LEN : ipv4.headerLen(view, at)
}

/** Where the checksum field is, from the transport header's first byte. */
export function sumAtOf(protocol: number): number {
  return protocol === PROTO_TCP ? tcp.CHECKSUM_AT : udp.CHECKSUM_AT
}

/** Bytes of all headers of a TCP packet; 0 when its header length makes no sense. */
export function tcpHeadersLen(view: DataView, at: number, len: number): number {
  const ipLen = ipLenOf(view, at)
  const headerLen = tcp.headerLen(view, at + ipLen)
  return headerLen < tcp.HEADER_LEN || ipLen + headerLen >= len ? 0 : ipLen + headerLen
}

/**
 * Writes the virtio-net header that leaves an unfinished packet to the kernel behind the TUN.
 * @param vnet  where the header goes
 * @param mtu   longer packets are TCP super-packets, whose `tcpHeadersLen` is not 0
 * @param podMtu  what the segments of a super-packet are cut to
 */
export function writeVnet(
  view: DataView,
  vnet: number,
  at: number,
  len: number,
  protocol: number,
  mtu: number,
  podMtu: number,
): void {
  const ipLen = ipLenOf(view, at)
  const sumAt = sumAtOf(protocol)
  if (len <= mtu) {
    vnethdr.write(view, vnet, vnethdr.NEEDS_CSUM, vnethdr.GSO_NONE, 0, 0, ipLen, sumAt)
    return
  }
  const headersLen = tcpHeadersLen(view, at, len)
  const gso = ipv4.version(view, at) === 6 ? vnethdr.GSO_TCPV6 : vnethdr.GSO_TCPV4
  vnethdr.write(view, vnet, vnethdr.NEEDS_CSUM, gso, headersLen, podMtu - headersLen, ipLen, sumAt)
}
