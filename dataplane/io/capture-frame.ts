/**
 * Captured frames: from the link layer to the IP packet, and from an underlay packet to the
 * datagram it carries; and the way back, a datagram with the outer headers a kernel would add.
 *
 * Answers are views of the frame's bytes, or a reason in words why there is nothing to find.
 */
import { pseudo4, pseudo6 } from '../wire/checksum.js'
import * as ethernet from '../wire/ethernet.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as extensions from '../wire/ipv6-extensions.js'
import * as udp from '../wire/udp.js'
import { addressBytes6, endpoint4, endpoint6, type Endpoint } from './endpoint.js'
import {
  LINKTYPE_ETHERNET,
  LINKTYPE_IPV4,
  LINKTYPE_IPV6,
  LINKTYPE_LINUX_SLL,
  LINKTYPE_LINUX_SLL2,
  LINKTYPE_RAW,
} from './pcap-format.js'

/** A datagram found in a frame. */
export interface CapturedDatagram {
  readonly payload: Uint8Array
  readonly from: Endpoint
  readonly to: Endpoint
}

/** The answer to a question about a frame: what was found, or why there is nothing. */
export type Found<T> = { readonly found: T } | { readonly reason: string }

type Ports = readonly number[]

/** EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the one used before 802.1ad. */
const TAGS = [ethernet.TYPE_VLAN, 0x88a8, 0x9100]
const TAG_LEN = 4
const SLL_HEADER_LEN = 16
const SLL_PROTOCOL_AT = 14
const SLL2_HEADER_LEN = 20
const SLL2_PROTOCOL_AT = 0
/** DLT_RAW, which some systems write into files instead of 101. */
const RAW_LINK_TYPES = [LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6, 12, 14]

/** Whether frames of a link type begin with the IP header. */
export function isRawIp(linkType: number): boolean {
  return RAW_LINK_TYPES.includes(linkType)
}

/** Whether frames of a link type are understood here at all. */
export function isKnownLinkType(linkType: number): boolean {
  const framed = [LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2]
  return isRawIp(linkType) || framed.includes(linkType)
}

/**
 * The IP packet in a frame. A raw-IP frame is the packet, whatever its bytes are; elsewhere the
 * protocol field must say IP, and padding after the packet is left out.
 */
export function packetOf(linkType: number, frame: Uint8Array): Found<Uint8Array> {
  if (isRawIp(linkType)) return { found: frame }
  const view = viewOf(frame)
  let protocolAt = ethernet.HEADER_LEN - 2
  let at = ethernet.HEADER_LEN
  if (linkType === LINKTYPE_LINUX_SLL) {
    protocolAt = SLL_PROTOCOL_AT
    at = SLL_HEADER_LEN
  } else if (linkType === LINKTYPE_LINUX_SLL2) {
    protocolAt = SLL2_PROTOCOL_AT
    at = SLL2_HEADER_LEN
  } else if (linkType !== LINKTYPE_ETHERNET) {
    return { reason: `link type ${linkType} is not known` }
  }
  if (frame.length < at) return { reason: 'shorter than its link header' }
  let protocol = view.getUint16(protocolAt)
  while (TAGS.includes(protocol) && frame.length >= at + TAG_LEN) {
    protocol = view.getUint16(at + 2)
    at += TAG_LEN
  }
  if (protocol !== ethernet.TYPE_IPV4 && protocol !== ethernet.TYPE_IPV6) {
    const name = protocol === ethernet.TYPE_ARP ? 'ARP' : `protocol 0x${protocol.toString(16)}`
    return { reason: `${name}, not IP` }
  }
  return { found: frame.subarray(at, at + packetLen(view, at, frame.length - at)) }
}

/** Length of the packet at `at`, of which there are `len` bytes with padding; `len` when its own length is no help. */
function packetLen(view: DataView, at: number, len: number): number {
  const version = len > 0 ? ipv4.version(view, at) : 0
  if (version === 4 && len >= ipv4.HEADER_LEN) {
    const total = ipv4.totalLen(view, at)
    return total >= ipv4.HEADER_LEN && total < len ? total : len
  }
  if (version === 6 && len >= ipv6.HEADER_LEN) return Math.min(ipv6.totalLen(view, at), len)
  return len
}

/**
 * The address that an IP packet goes to: uint32 for IPv4, 128 bits for IPv6; null when its header
 * is not whole.
 */
export function destinationOf(packet: Uint8Array): number | bigint | null {
  const view = viewOf(packet)
  const version = packet.length === 0 ? 0 : ipv4.version(view, 0)
  if (version === 4 && packet.length >= ipv4.HEADER_LEN) return ipv4.dst(view, 0) >>> 0
  if (version !== 6 || packet.length < ipv6.HEADER_LEN) return null
  return (view.getBigUint64(ipv6.DST_AT) << 64n) | view.getBigUint64(ipv6.DST_AT + 8)
}

/**
 * The datagram that an underlay packet carries, as the socket that it is for would receive it.
 * @param ports  the socket's UDP port, or several that count as such; 0 = any
 */
export function datagramOf(
  packet: Uint8Array,
  ...ports: readonly number[]
): Found<CapturedDatagram> {
  const view = viewOf(packet)
  const version = packet.length > 0 ? ipv4.version(view, 0) : 0
  if (version === 4) return datagramOf4(packet, view, ports)
  if (version === 6) return datagramOf6(packet, view, ports)
  return { reason: 'neither IPv4 nor IPv6' }
}

function datagramOf4(packet: Uint8Array, view: DataView, ports: Ports): Found<CapturedDatagram> {
  // A capture may have cut off the payload: only the headers must be there.
  const header = packet.length < ipv4.HEADER_LEN ? 0 : ipv4.headerLen(view, 0)
  if (header < ipv4.HEADER_LEN || header > packet.length) {
    return { reason: 'a damaged outer IPv4 header' }
  }
  if (ipv4.protocol(view, 0) !== ipv4.PROTO_UDP) return { reason: 'not UDP' }
  if (ipv4.isFragment(view, 0)) return { reason: 'a fragment of an outer datagram' }
  const upper = udpPayload(packet, view, header, ports)
  if ('reason' in upper) return upper
  const from = endpoint4(ipv4.src(view, 0), upper.found.srcPort)
  const to = endpoint4(ipv4.dst(view, 0), upper.found.dstPort)
  return { found: { payload: upper.found.payload, from, to } }
}

function datagramOf6(packet: Uint8Array, view: DataView, ports: Ports): Found<CapturedDatagram> {
  if (packet.length < ipv6.HEADER_LEN) return { reason: 'a damaged outer IPv6 header' }
  const walked = extensions.walk(view, 0, packet.length)
  if (walked < 0) return { reason: 'damaged outer IPv6 extension headers' }
  if (extensions.isFragment(walked)) return { reason: 'a fragment of an outer datagram' }
  if (extensions.upperProtocol(walked) !== ipv4.PROTO_UDP) return { reason: 'not UDP' }
  const upper = udpPayload(packet, view, extensions.upperOffset(walked), ports)
  if ('reason' in upper) return upper
  const { srcPort, dstPort, payload } = upper.found
  const from = endpoint6(packet.subarray(ipv6.SRC_AT, ipv6.SRC_AT + 16), srcPort)
  const to = endpoint6(packet.subarray(ipv6.DST_AT, ipv6.DST_AT + 16), dstPort)
  return { found: { payload, from, to } }
}

/** A packet of `ipip` as the raw socket that it is for would receive it: whole, with its outer header. */
export function ipipOf(packet: Uint8Array): Found<CapturedDatagram> {
  const view = viewOf(packet)
  if (packet.length === 0 || ipv4.version(view, 0) !== 4) return { reason: 'not IPv4 outside' }
  const header = packet.length < ipv4.HEADER_LEN ? 0 : ipv4.headerLen(view, 0)
  if (header < ipv4.HEADER_LEN || header > packet.length) {
    return { reason: 'a damaged outer IPv4 header' }
  }
  if (ipv4.protocol(view, 0) !== ipv4.PROTO_IPIP) return { reason: 'not IPv4 in IPv4 (protocol 4)' }
  if (ipv4.isFragment(view, 0)) return { reason: 'a fragment of an outer packet' }
  const [from, to] = [endpoint4(ipv4.src(view, 0), 0), endpoint4(ipv4.dst(view, 0), 0)]
  return { found: { payload: packet, from, to } }
}

/** A packet that a host sends by `ipip`, with the source that the kernel writes (raw(7), IP_HDRINCL). */
export function ipipFrom(sent: Uint8Array, from: Endpoint): Uint8Array {
  const packet = sent.slice()
  const view = viewOf(packet)
  ipv4.setSrc(view, 0, from.address[0] ?? 0)
  ipv4.finishChecksum(view, 0)
  return packet
}

function udpPayload(
  packet: Uint8Array,
  view: DataView,
  at: number,
  ports: Ports,
): Found<{ payload: Uint8Array; srcPort: number; dstPort: number }> {
  if (packet.length < at + udp.HEADER_LEN || udp.length(view, at) < udp.HEADER_LEN) {
    return { reason: 'a damaged outer UDP header' }
  }
  const dstPort = udp.dstPort(view, at)
  if (!ports.includes(0) && !ports.includes(dstPort)) {
    return { reason: `UDP to port ${dstPort}, not ${ports.join(' or ')}` }
  }
  const payload = packet.subarray(at + udp.HEADER_LEN, at + udp.length(view, at))
  return { found: { payload, srcPort: udp.srcPort(view, at), dstPort } }
}

/**
 * An underlay packet around a datagram: outer IP and UDP headers as a Linux host would send them,
 * identification 0 and DF clear, checksums right.
 * @throws RangeError when both ends are not of one family
 */
export function wrapDatagram(payload: Uint8Array, from: Endpoint, to: Endpoint): Uint8Array {
  if (from.family !== to.family) throw new RangeError('both ends must be of one address family')
  const header = to.family === 4 ? ipv4.HEADER_LEN : ipv6.HEADER_LEN
  const len = udp.HEADER_LEN + payload.length
  const packet = new Uint8Array(header + len)
  const view = viewOf(packet)
  packet.set(payload, header + udp.HEADER_LEN)
  udp.write(view, header, from.port, to.port, len)
  if (to.family === 4) {
    const src = from.address[0] ?? 0
    const dst = to.address[0] ?? 0
    ipv4.write(view, 0, header + len, 0, 0, 0, 64, ipv4.PROTO_UDP, src, dst)
    udp.finishChecksum(view, header, pseudo4(src, dst, ipv4.PROTO_UDP, len))
    return packet
  }
  const src = viewOf(addressBytes6(from))
  const dst = viewOf(addressBytes6(to))
  ipv6.write(view, 0, len, 0, 0, ipv4.PROTO_UDP, 64, src, 0, dst, 0)
  const pseudo = pseudo6(view, ipv6.SRC_AT, ipv6.DST_AT, ipv4.PROTO_UDP, len)
  udp.finishChecksum(view, header, pseudo)
  return packet
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
