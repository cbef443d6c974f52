/**
 * flannel's `ipip` backend: an IPv4 header of protocol 4 stands before the IPv4 packet (RFC 2003), as
 * the kernel's device of flannel's settings (`mode ipip`, TTL inherited, `nopmtudisc`) writes it:
 *
 *     DSCP  0           ECN   the inner one, CE as ECT(0) (RFC 6040 §4.1, compatibility of RFC 3168)
 *     DF    the inner   TTL   the inner one, which the kernels alone lower
 *
 * A raw socket completes the header (raw(7), IP_HDRINCL): total length, identification, checksum and
 * the source, which is the address that the socket is bound to.
 */
import type { HopTable } from '../fib/nexthop.js'
import {
  DROP_IPIP_CONGESTED,
  DROP_IPIP_MALFORMED,
  FORWARD,
  type Verdict,
} from '../packet/verdict.js'
import * as ipv4 from '../wire/ipv4.js'
import type { Encap } from './encap.js'

/** Bytes before the inner packet, and what the overlay MTU is smaller by. */
export const IPIP_OVERHEAD = ipv4.HEADER_LEN

/** The ECN field (RFC 3168 §5): the low two bits of the class byte. */
const ECN_MASK = 3
const ECT_0 = 2
const CE = 3

/** @param hops  knows the peers' addresses */
export function createIpip(hops: HopTable): Encap {
  return {
    name: 'ipip',
    headerLen: IPIP_OVERHEAD,
    lowersTtl: false,
    // The kernel joins TCP inside protocol 4 (GRO) before a raw socket sees it.
    takesUnfinished: true,
    push: (view, at, hop) => {
      const ecn = ipv4.tos(view, at) & ECN_MASK
      ipv4.writeOpen(
        view,
        at - IPIP_OVERHEAD,
        ecn === CE ? ECT_0 : ecn,
        ipv4.flagsAndOffset(view, at) & ipv4.DONT_FRAGMENT,
        ipv4.ttl(view, at),
        ipv4.PROTO_IPIP,
        hops.addressWord(hop, 0),
      )
    },
    pull,
  }
}

function pull(view: DataView, at: number, len: number): Verdict {
  if (ipv4.check(view, at, len) !== FORWARD) return DROP_IPIP_MALFORMED
  if (ipv4.protocol(view, at) !== ipv4.PROTO_IPIP) return DROP_IPIP_MALFORMED
  const isCongested = (ipv4.tos(view, at) & ECN_MASK) === CE
  const header = ipv4.headerLen(view, at)
  if (header > IPIP_OVERHEAD) closeUp(view, at, header, len)
  const inner = at + IPIP_OVERHEAD
  const hasInner = ipv4.check(view, inner, len - IPIP_OVERHEAD) === FORWARD
  // What is no packet is found out where packets are looked at.
  return isCongested && hasInner ? congest(view, inner) : FORWARD
}

/** An outer header with options, which nobody is known to send: the packet moves up to where it is looked for. */
function closeUp(view: DataView, at: number, header: number, len: number): void {
  const end = at + len
  const up = header - IPIP_OVERHEAD
  for (let i = at + header; i < end; i++) view.setUint8(i - up, view.getUint8(i))
}

/**
 * The tunnel met congestion: the inner packet says so from here on. One whose ends do not know ECN cannot,
 * and is dropped as a router would have dropped it (RFC 6040 §4.2; INET_ECN_decapsulate in Linux).
 */
function congest(view: DataView, at: number): Verdict {
  const ecn = ipv4.tos(view, at) & ECN_MASK
  if (ecn === 0) return DROP_IPIP_CONGESTED
  if (ecn !== CE) ipv4.markCongested(view, at)
  return FORWARD
}
