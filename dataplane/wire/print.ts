/**
 * Packets as text: one line each, worded as tcpdump words them, with what is wrong in brackets.
 *
 * For traces, `heddle replay` and tests; the path never calls it. It never throws, whatever the
 * bytes are: it is the fuzz target of this folder, because it reads through every getter. What is
 * carried inside (a VXLAN frame, flannel's raw packet, the packet that an ICMP error quotes) follows
 * on the same line, at most MAX_DEPTH packets deep.
 */
import { DROP_IPV4_MALFORMED, FORWARD } from '../packet/verdict.js'
import { pseudo4, pseudo6 } from './checksum.js'
import * as ethernet from './ethernet.js'
import * as icmpv4 from './icmpv4.js'
import * as icmpv6 from './icmpv6.js'
import * as ipv4 from './ipv4.js'
import * as extensions from './ipv6-extensions.js'
import * as ipv6 from './ipv6.js'
import { describePort, describeUpper, NOT_WHOLE, transportLen, type Upper } from './print-upper.js'
import * as udp from './udp.js'
import * as vxlan from './vxlan.js'

/** Packets inside packets that are followed. */
const MAX_DEPTH = 3
/** Bytes shown of something that is not understood. */
const BYTES_SHOWN = 16
/** UDP port of flannel's `udp` backend, whose payload is a bare IP packet. */
const FLANNEL_UDP_PORT = 8285

/**
 * One line about an IP packet.
 * @param at   its first byte
 * @param len  bytes there are; more than the view holds are not read
 */
export function describePacket(v: DataView, at: number, len: number): string {
  return describeIp(v, at, clip(v, at, len), 1)
}

/**
 * One line about an Ethernet frame and what it carries.
 * @param at   its first byte
 * @param len  bytes there are; more than the view holds are not read
 */
export function describeFrame(v: DataView, at: number, len: number): string {
  return describeEthernet(v, at, clip(v, at, len), 1)
}

/**
 * One line about a VXLAN packet, the payload of a UDP datagram, and what it carries.
 * @param at   its first byte
 * @param len  bytes there are; more than the view holds are not read
 */
export function describeVxlan(v: DataView, at: number, len: number): string {
  const there = clip(v, at, len)
  if (vxlan.check(v, at, there) !== vxlan.OK) {
    return `VXLAN malformed: ${describeBytes(v, at, there)}`
  }
  return describeVxlanAt(v, at, there, 1)
}

function clip(v: DataView, at: number, len: number): number {
  return Math.max(0, Math.min(len, v.byteLength - at))
}

function describeEthernet(v: DataView, at: number, len: number, depth: number): string {
  if (ethernet.check(v, at, len) !== ethernet.OK) {
    return `Ethernet malformed: fewer bytes than the header; ${describeBytes(v, at, len)}`
  }
  const payloadAt = at + ethernet.HEADER_LEN
  const payloadLen = len - ethernet.HEADER_LEN
  const type = ethernet.etherType(v, at)
  const header = ethernet.describe(v, at)
  if (type === ethernet.TYPE_IPV4 || type === ethernet.TYPE_IPV6) {
    return `${header}: ${describeIp(v, payloadAt, payloadLen, depth)}`
  }
  const name = type === ethernet.TYPE_ARP ? 'ARP' : type === ethernet.TYPE_VLAN ? '802.1Q' : 'other'
  return `${header}: ${name}, length ${payloadLen}`
}

function describeIp(v: DataView, at: number, len: number, depth: number): string {
  if (len < 1) return 'IP malformed: no bytes'
  const version = ipv4.version(v, at)
  if (version === 4) return describeIpv4(v, at, len, depth)
  if (version === 6) return describeIpv6(v, at, len, depth)
  return `not IP: version ${version}; ${describeBytes(v, at, len)}`
}

function describeIpv4(v: DataView, at: number, len: number, depth: number): string {
  const verdict = ipv4.check(v, at, len)
  if (verdict === DROP_IPV4_MALFORMED) {
    return `IP malformed: header length below 5 words or beyond the total length; ${describeBytes(v, at, len)}`
  }
  if (len < ipv4.HEADER_LEN || ipv4.headerLen(v, at) > len) {
    return `IP malformed: fewer bytes than the header; ${describeBytes(v, at, len)}`
  }
  const total = ipv4.totalLen(v, at)
  const header = ipv4.headerLen(v, at)
  const isWhole = verdict === FORWARD && !ipv4.isFragment(v, at)
  const protocol = ipv4.protocol(v, at)
  const upper: Upper = {
    v,
    at: at + header,
    len: Math.min(total, len) - header,
    protocol,
    pseudo: isWhole
      ? pseudo4(
          ipv4.src(v, at),
          ipv4.dst(v, at),
          protocol,
          transportLen(v, at + header, total - header, protocol),
        )
      : NOT_WHOLE,
    version: 4,
  }
  const notes: string[] = []
  if (verdict !== FORWARD) notes.push(`truncated: ${len} of ${total} bytes`)
  if (!ipv4.isChecksumRight(v, at))
    notes.push(`bad ip cksum 0x${ipv4.checksum(v, at).toString(16).padStart(4, '0')}`)
  const isLater = ipv4.isLaterFragment(v, at)
  const from =
    ipv4.describeAddress(ipv4.src(v, at)) + (isLater ? '' : describePort(upper, udp.srcPort))
  const to =
    ipv4.describeAddress(ipv4.dst(v, at)) + (isLater ? '' : describePort(upper, udp.dstPort))
  const text = isLater ? `ip-proto-${protocol}` : describeUpper(upper, notes)
  const inner = isLater ? '' : describeInner(upper, depth)
  return `IP ${from} > ${to}: ${text} (${ipv4.describe(v, at)})${brackets(notes)}${inner}`
}

function describeIpv6(v: DataView, at: number, len: number, depth: number): string {
  if (len < ipv6.HEADER_LEN) {
    return `IP6 malformed: fewer bytes than the header; ${describeBytes(v, at, len)}`
  }
  const total = ipv6.totalLen(v, at)
  const notes: string[] = []
  if (total > len) notes.push(`truncated: ${len} of ${total} bytes`)
  let from = ipv6.describeAddress(v, at + ipv6.SRC_AT)
  let to = ipv6.describeAddress(v, at + ipv6.DST_AT)
  const header = `(${ipv6.describe(v, at)})`
  const walked = extensions.walk(v, at, len)
  if (walked < 0) {
    const fault = extensions.describeFault(walked)
    return `IP6 ${from} > ${to}: malformed: ${fault} ${header}${brackets(notes)}`
  }
  const offset = extensions.upperOffset(walked)
  const protocol = extensions.upperProtocol(walked)
  const upperLen = Math.min(total, len) - offset
  if (extensions.isLaterFragment(walked)) {
    const fragment = extensions.describeFragment(v, at + offset - extensions.FRAGMENT_LEN, upperLen)
    return `IP6 ${from} > ${to}: ${fragment} ${header}${brackets(notes)}`
  }
  // Behind a routing header the pseudo-header holds another destination, so no sum is judged then.
  const isPlain = total <= len && !extensions.hasExtensions(walked)
  const upper: Upper = {
    v,
    at: at + offset,
    len: upperLen,
    protocol,
    pseudo: isPlain
      ? pseudo6(
          v,
          at + ipv6.SRC_AT,
          at + ipv6.DST_AT,
          protocol,
          transportLen(v, at + offset, total - offset, protocol),
        )
      : NOT_WHOLE,
    version: 6,
  }
  from += describePort(upper, udp.srcPort)
  to += describePort(upper, udp.dstPort)
  const text = describeUpper(upper, notes)
  const fragment = extensions.isFragment(walked) ? `frag (0|${upperLen}) ` : ''
  const inner = describeInner(upper, depth)
  return `IP6 ${from} > ${to}: ${fragment}${text} ${header}${brackets(notes)}${inner}`
}

/** What the transport layer carries, when that is a packet: `: …` or `, about …`, otherwise empty. */
function describeInner(upper: Upper, depth: number): string {
  const { v, at, len, protocol } = upper
  if (depth >= MAX_DEPTH) return ''
  if (protocol === ipv4.PROTO_IPIP) return `: ${describeIp(v, at, len, depth + 1)}`
  if (len <= udp.HEADER_LEN) return ''
  const innerAt = at + udp.HEADER_LEN
  const innerLen = len - udp.HEADER_LEN
  if (protocol === ipv4.PROTO_ICMP && upper.version === 4) {
    return icmpv4.isError(v, at) ? `, about ${describeIp(v, innerAt, innerLen, depth + 1)}` : ''
  }
  if (protocol === icmpv6.PROTO_ICMPV6 && upper.version === 6) {
    return icmpv6.isError(v, at) ? `, about ${describeIp(v, innerAt, innerLen, depth + 1)}` : ''
  }
  if (protocol !== ipv4.PROTO_UDP) return ''
  const to = udp.dstPort(v, at)
  if (to === FLANNEL_UDP_PORT) return `: ${describeIp(v, innerAt, innerLen, depth + 1)}`
  const isVxlan = to === vxlan.PORT_LINUX || to === vxlan.PORT_IANA
  if (!isVxlan || vxlan.check(v, innerAt, innerLen) !== vxlan.OK) return ''
  return `: ${describeVxlanAt(v, innerAt, innerLen, depth + 1)}`
}

function brackets(notes: readonly string[]): string {
  return notes.map((note) => ` [${note}]`).join('')
}

function describeBytes(v: DataView, at: number, len: number): string {
  const shown: string[] = []
  for (let i = 0; i < Math.min(len, BYTES_SHOWN); i++) {
    shown.push(
      v
        .getUint8(at + i)
        .toString(16)
        .padStart(2, '0'),
    )
  }
  return `${len} bytes: ${shown.join(' ')}${len > BYTES_SHOWN ? ' …' : ''}`
}

function describeVxlanAt(v: DataView, at: number, len: number, depth: number): string {
  const frame = describeEthernet(v, at + vxlan.HEADER_LEN, len - vxlan.HEADER_LEN, depth)
  return `${vxlan.describe(v, at)}: ${frame}`
}
