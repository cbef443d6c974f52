/**
 * The transport layer of a packet as text, for print.ts: ports, the header in tcpdump's words, and
 * what its checksum deserves to have said about it.
 *
 * Like print.ts it takes any bytes and never throws.
 */
import * as icmpv4 from './icmpv4.js'
import * as icmpv6 from './icmpv6.js'
import * as ipv4 from './ipv4.js'
import * as tcpText from './tcp-text.js'
import * as tcp from './tcp.js'
import * as udp from './udp.js'

/** In place of a pseudo-header's sum: the packet is cut or a fragment, so no sum can be right. */
export const NOT_WHOLE = -1

/** The transport layer of one packet. */
export interface Upper {
  readonly v: DataView
  readonly at: number
  /** Bytes that are there. */
  readonly len: number
  readonly protocol: number
  /** Sum of the pseudo-header; NOT_WHOLE when no sum can be judged. */
  readonly pseudo: number
  /** 4 or 6: the version that carries it. */
  readonly version: number
}

/**
 * The length that goes into the pseudo-header: UDP's own, otherwise what the IP header leaves.
 * @param at   first byte of the transport header
 * @param len  bytes of transport header and payload by the IP header
 */
export function transportLen(v: DataView, at: number, len: number, protocol: number): number {
  return protocol === ipv4.PROTO_UDP && udp.check(v, at, len) === udp.OK ? udp.length(v, at) : len
}

/** `.port` as tcpdump joins it to the address, for the two protocols that begin with ports. */
export function describePort(upper: Upper, which: (v: DataView, at: number) => number): string {
  const hasPorts = upper.protocol === ipv4.PROTO_TCP || upper.protocol === ipv4.PROTO_UDP
  return hasPorts && upper.len >= 4 ? `.${which(upper.v, upper.at)}` : ''
}

/** The transport header in words; what is wrong with its checksum is added to `notes`. */
export function describeUpper(upper: Upper, notes: string[]): string {
  const { v, at, len, protocol } = upper
  if (protocol === ipv4.PROTO_UDP) return describeUdp(upper, notes)
  if (protocol === ipv4.PROTO_TCP) {
    const fault = tcp.check(v, at, len)
    if (fault !== tcp.OK) return tcpText.describeFault(fault)
    describeSum(upper, notes, 'tcp', tcp.checksum(v, at), (sum) =>
      tcp.isChecksumRight(v, at, len, sum),
    )
    return tcpText.describe(v, at, len)
  }
  if (protocol === ipv4.PROTO_ICMP && upper.version === 4) {
    if (icmpv4.check(v, at, len) !== icmpv4.OK) return 'ICMP: fewer bytes than the header'
    describeSum(upper, notes, 'icmp', -1, () => icmpv4.isChecksumRight(v, at, len))
    return icmpv4.describe(v, at, len)
  }
  if (protocol === icmpv6.PROTO_ICMPV6 && upper.version === 6) {
    if (icmpv6.check(v, at, len) !== icmpv6.OK) return 'ICMP6: fewer bytes than the header'
    describeSum(upper, notes, 'icmp6', -1, (sum) => icmpv6.isChecksumRight(v, at, len, sum))
    return icmpv6.describe(v, at, len)
  }
  return `ip-proto-${protocol}, length ${len}`
}

function describeUdp(upper: Upper, notes: string[]): string {
  const { v, at, len } = upper
  const fault = udp.check(v, at, len)
  // A first fragment or a quoted packet has fewer bytes than its length says: that is no fault.
  const isCut = fault === udp.TRUNCATED && upper.pseudo === NOT_WHOLE && len >= udp.HEADER_LEN
  if (fault !== udp.OK && !isCut) return udp.describeFault(fault)
  if (udp.hasChecksum(v, at)) {
    describeSum(upper, notes, 'udp', udp.checksum(v, at), (sum) => udp.isChecksumRight(v, at, sum))
  } else if (upper.version === 6) {
    notes.push('no udp cksum')
  }
  return udp.describe(v, at)
}

/**
 * Notes a transport checksum that is wrong, or one that the kernel left for an offload to finish.
 * @param field  the checksum field, −1 where it is never left unfinished
 */
function describeSum(
  upper: Upper,
  notes: string[],
  name: string,
  field: number,
  isRight: (pseudo: number) => boolean,
): void {
  if (upper.pseudo === NOT_WHOLE || isRight(upper.pseudo)) return
  notes.push(field === upper.pseudo ? `unfinished ${name} cksum` : `bad ${name} cksum`)
}
