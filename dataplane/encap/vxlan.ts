/**
 * flannel's `vxlan` backend: VXLAN (RFC 7348 §5) and an inner Ethernet header stand before the IP
 * packet, as the kernel's VXLAN device puts them there.
 *
 *     outer UDP | VXLAN, 8 bytes | Ethernet, 14 bytes | inner IP packet
 *
 * The inner frame goes from tunnel endpoint to tunnel endpoint: its addresses are the VTEPs' MACs,
 * the peer's from its lease. The inner TTL is the kernels' business alone, at both ends.
 */
import type { HopTable } from '../fib/nexthop.js'
import type { Mac } from '../mac.js'
import {
  DROP_VXLAN_ETHERTYPE,
  DROP_VXLAN_FLAGS,
  DROP_VXLAN_GROUP,
  DROP_VXLAN_MAC,
  DROP_VXLAN_TRUNCATED,
  DROP_VXLAN_VLAN,
  DROP_VXLAN_VNI,
  FORWARD,
  type Verdict,
} from '../packet/verdict.js'
import * as ethernet from '../wire/ethernet.js'
import * as vxlan from '../wire/vxlan.js'
import type { Encap } from './encap.js'
import { UDP_OVERHEAD } from './flannel-udp.js'

/** Bytes before the inner packet. */
export const VXLAN_HEADER_LEN = vxlan.HEADER_LEN + ethernet.HEADER_LEN
/** Outer IP and UDP, VXLAN (8), Ethernet (14): what the overlay MTU is smaller by, by the outer IP version. */
export const VXLAN_OVERHEAD = {
  4: UDP_OVERHEAD[4] + VXLAN_HEADER_LEN,
  6: UDP_OVERHEAD[6] + VXLAN_HEADER_LEN,
} as const
/** The kernel's default port, which flannel keeps. */
export const VXLAN_PORT = vxlan.PORT_LINUX
/** The port that IANA assigned, at which captures of other networks have VXLAN. */
export const VXLAN_PORT_IANA = vxlan.PORT_IANA
/**
 * Source ports of an engine, chosen by us: routers spread flows over as many equal paths, and a batch of
 * many flows falls into as many runs at most.
 */
export const VXLAN_SOURCES = 8
/** flannel's default network identifier. */
export const VXLAN_VNI = 1

/** EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the one used before 802.1ad. */
const { TYPE_VLAN, TYPE_IPV4, TYPE_IPV6 } = ethernet
const TYPE_PROVIDER = 0x88a8
const TYPE_PROVIDER_OLD = 0x9100

export interface VxlanOptions {
  /** VXLAN network identifier, 0 to 2^24 − 1. */
  readonly vni: number
  /** MAC address of the own tunnel endpoint. */
  readonly mac: Mac
  /** Knows the peers' MAC addresses. */
  readonly hops: HopTable
}

export function createVxlan({ vni, mac, hops }: VxlanOptions): Encap {
  const { high, low } = mac

  function push(view: DataView, at: number, hop: number): void {
    const frame = at - ethernet.HEADER_LEN
    const type = view.getUint8(at) >>> 4 === 6 ? TYPE_IPV6 : TYPE_IPV4
    vxlan.write(view, at - VXLAN_HEADER_LEN, vni)
    ethernet.write(view, frame, hops.macHigh(hop), hops.macLow(hop), high, low, type)
  }

  function pull(view: DataView, at: number, len: number): Verdict {
    if (len < VXLAN_HEADER_LEN) return DROP_VXLAN_TRUNCATED
    if (vxlan.check(view, at, len) !== vxlan.OK) return DROP_VXLAN_FLAGS
    if (vxlan.vni(view, at) !== vni) return DROP_VXLAN_VNI
    const frame = at + vxlan.HEADER_LEN
    if (ethernet.isGroup(view, frame)) return DROP_VXLAN_GROUP
    if (ethernet.dstHigh(view, frame) !== high || ethernet.dstLow(view, frame) !== low) {
      return DROP_VXLAN_MAC
    }
    const type = ethernet.etherType(view, frame)
    if (type === TYPE_IPV4 || type === TYPE_IPV6) return versionAgrees(view, at, len, type)
    const isTagged = type === TYPE_VLAN || type === TYPE_PROVIDER || type === TYPE_PROVIDER_OLD
    return isTagged ? DROP_VXLAN_VLAN : DROP_VXLAN_ETHERTYPE
  }

  /** A packet of the other version would be taken for what its own first byte says. */
  function versionAgrees(view: DataView, at: number, len: number, type: number): Verdict {
    // An empty packet is found out where the packet is looked at.
    if (len === VXLAN_HEADER_LEN) return FORWARD
    const version = view.getUint8(at + VXLAN_HEADER_LEN) >>> 4
    return version === (type === TYPE_IPV6 ? 6 : 4) ? FORWARD : DROP_VXLAN_ETHERTYPE
  }

  return {
    name: 'vxlan',
    headerLen: VXLAN_HEADER_LEN,
    lowersTtl: false,
    takesUnfinished: true,
    push,
    pull,
  }
}
