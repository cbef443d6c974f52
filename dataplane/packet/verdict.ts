/**
 * Verdicts: what became of a packet. The one table that the path, the counters, `heddle status`,
 * the docs and the tests read.
 *
 * A verdict is a small integer. 0 means that the packet went on (sent on egress, delivered on
 * ingress); every other value is a drop with a layer and a cause in its name, but for one: a question
 * to us, answered. The path never
 * throws and never logs: it counts.
 */

/** Every verdict: its name as counters and documents show it, and what it means. */
export const VERDICTS = [
  ['forward', 'sent to the peer (egress) or delivered to the TUN device (ingress)'],
  ['drop_not_ip', 'the version nibble is neither 4 nor 6, or there is no byte at all'],
  ['drop_ipv4_truncated', 'fewer bytes than the IPv4 header or its total length announces'],
  ['drop_ipv4_malformed', 'IPv4 header length below 5 words or beyond the total length'],
  ['drop_ipv4_checksum', 'the IPv4 header checksum of a packet from outside is wrong'],
  ['drop_ipv6_unsupported', 'an IPv6 packet, and this network has no IPv6'],
  ['drop_oversize', 'a datagram from outside is longer than the overlay MTU'],
  ['drop_no_route', 'no lease covers the destination'],
  ['drop_loop', 'the destination lies in our own subnet, so the packet should not have left it'],
  ['drop_not_our_subnet', 'a packet from outside is for a subnet that is not ours'],
  ['drop_ttl', 'the TTL ran out here'],
  ['drop_too_big', 'the kernel says the packet does not fit the path (EMSGSIZE)'],
  ['drop_tx_unreachable', 'the kernel refused to send to the peer (no route, refused, forbidden)'],
  ['drop_tx_busy', 'the socket had no room (EAGAIN, ENOBUFS)'],
  ['drop_tx_error', 'the socket failed in another way'],
  ['drop_tun_busy', 'the TUN device had no room (EAGAIN, ENOBUFS)'],
  ['drop_tun_error', 'the TUN device refused the packet in another way'],
  ['drop_gso_malformed', 'a super-packet from the TUN device whose headers make no sense'],
  ['drop_source_unknown', 'a packet from outside comes from a host that holds no lease'],
  ['drop_source_forged', 'the source of a packet from outside is leased to another host'],
  ['drop_source_outside', 'no lease covers the source of a packet from outside (strict check)'],
  ['drop_vxlan_truncated', 'fewer bytes than the VXLAN and Ethernet headers have'],
  ['drop_vxlan_flags', 'the VXLAN header says that it has no network identifier (I flag)'],
  ['drop_vxlan_vni', 'the network identifier (VNI) of a VXLAN datagram is not ours'],
  ['drop_vxlan_group', 'a broadcast or multicast frame in VXLAN, which has no use here'],
  ['drop_vxlan_mac', 'the inner frame is for the MAC address of another VTEP'],
  ['drop_vxlan_vlan', 'the inner frame has a VLAN tag'],
  ['drop_vxlan_ethertype', 'the inner frame holds no IP packet, or not of the version it says'],
  ['drop_ipv6_truncated', 'fewer bytes than the IPv6 header or its payload length announces'],
  [
    'drop_peer_no_ipv6',
    'the peer has an IPv6 subnet, and its lease does not say that it takes IPv6',
  ],
  ['neighbour_answered', 'a peer asked through VXLAN for our MAC address (ARP, ND), and was told'],
  ['drop_neighbour_limited', 'the same beyond the rate limit, which is not answered'],
  ['drop_ipip_malformed', 'the outer header of a packet of protocol 4 makes no sense'],
  [
    'drop_ipip_congested',
    'the outer header tells of congestion (ECN), which the inner one cannot pass on',
  ],
] as const

/** Name of a verdict, as counters and documents show it. */
export type VerdictName = (typeof VERDICTS)[number][0]

/** A verdict as the path carries it: an index into {@link VERDICTS}. */
export type Verdict = number

export const FORWARD = 0
export const DROP_NOT_IP = 1
export const DROP_IPV4_TRUNCATED = 2
export const DROP_IPV4_MALFORMED = 3
export const DROP_IPV4_CHECKSUM = 4
export const DROP_IPV6_UNSUPPORTED = 5
export const DROP_OVERSIZE = 6
export const DROP_NO_ROUTE = 7
export const DROP_LOOP = 8
export const DROP_NOT_OUR_SUBNET = 9
export const DROP_TTL = 10
export const DROP_TOO_BIG = 11
export const DROP_TX_UNREACHABLE = 12
export const DROP_TX_BUSY = 13
export const DROP_TX_ERROR = 14
export const DROP_TUN_BUSY = 15
export const DROP_TUN_ERROR = 16
export const DROP_GSO_MALFORMED = 17
export const DROP_SOURCE_UNKNOWN = 18
export const DROP_SOURCE_FORGED = 19
export const DROP_SOURCE_OUTSIDE = 20
export const DROP_VXLAN_TRUNCATED = 21
export const DROP_VXLAN_FLAGS = 22
export const DROP_VXLAN_VNI = 23
export const DROP_VXLAN_GROUP = 24
export const DROP_VXLAN_MAC = 25
export const DROP_VXLAN_VLAN = 26
export const DROP_VXLAN_ETHERTYPE = 27
export const DROP_IPV6_TRUNCATED = 28
export const DROP_PEER_NO_IPV6 = 29
export const NEIGHBOUR_ANSWERED = 30
export const DROP_NEIGHBOUR_LIMITED = 31
export const DROP_IPIP_MALFORMED = 32
export const DROP_IPIP_CONGESTED = 33

/** How many verdicts there are. */
export const VERDICT_COUNT = VERDICTS.length

/**
 * Name of a verdict.
 * @param verdict  0 .. VERDICT_COUNT − 1
 * @returns        its name, or `verdict_unknown` for a number outside the table
 */
export function verdictName(verdict: Verdict): string {
  return VERDICTS[verdict]?.[0] ?? 'verdict_unknown'
}
