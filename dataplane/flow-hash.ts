/**
 * The flow of an inner packet as a number, by which `vxlan` picks the source port that it leaves from
 * (RFC 7348 §5): addresses, protocol, and the ports of TCP and UDP.
 *
 * A fragment counts by its addresses alone, since later ones have no ports; so does an IPv6 packet with
 * extension headers. A datagram that is sent in fragments may therefore leave from another port than
 * one of its flow that is not, as from the kernel's own device; egress.ts keeps their order.
 */
import * as ipv4 from './wire/ipv4.js'
import * as ipv6 from './wire/ipv6.js'

const TCP = 6
const UDP = 17

/** An odd constant whose product spreads low bits over the high ones: 2^32 divided by the golden ratio. */
const SPREAD = 0x9e3779b1

/**
 * Hash of an IPv4 packet's flow.
 * @param at  a packet that has passed `ipv4.check`
 * @returns   int32, its high bits spread best
 */
export function flowHash4(v: DataView, at: number): number {
  const protocol = ipv4.protocol(v, at)
  const addresses = ipv4.src(v, at) ^ Math.imul(ipv4.dst(v, at), SPREAD)
  const isWhole = (protocol === TCP || protocol === UDP) && !ipv4.isFragment(v, at)
  const ports = isWhole ? v.getInt32(at + ipv4.headerLen(v, at)) : 0
  return mix(addresses ^ protocol, ports)
}

/** Hash of an IPv6 packet's flow. @param at  a packet that has passed `ipv6.check` */
export function flowHash6(v: DataView, at: number): number {
  let addresses = 0
  for (let word = 0; word < 8; word++) {
    addresses = Math.imul(addresses ^ v.getInt32(at + ipv6.SRC_AT + 4 * word), SPREAD)
  }
  const next = ipv6.nextHeader(v, at)
  const ports = next === TCP || next === UDP ? v.getInt32(at + ipv6.HEADER_LEN) : 0
  return mix(addresses ^ next, ports)
}

function mix(addresses: number, ports: number): number {
  const one = Math.imul(addresses ^ (addresses >>> 15), SPREAD) ^ ports
  return Math.imul(one ^ (one >>> 16), SPREAD)
}
