/**
 * flannel's `udp` backend: the datagram is the inner IP packet, nothing before it, nothing after.
 * Both ends lower the inner TTL (flannel behaviour, backend/udp), so a packet from pod to pod loses
 * four: one in each kernel that forwards it and one in each daemon.
 */
import { FORWARD } from '../packet/verdict.js'
import type { Encap } from './encap.js'

/**
 * Outer IP (20 or 40 bytes) and UDP (8), which the socket adds: what the overlay MTU is smaller by, by
 * the IP version of the outer packets.
 */
export const UDP_OVERHEAD = { 4: 28, 6: 48 } as const

/** flannel's default port for `udp`, at both ends. */
export const UDP_PORT = 8285

export const flannelUdp: Encap = {
  name: 'udp',
  headerLen: 0,
  lowersTtl: true,
  takesUnfinished: false,
  push: () => undefined,
  pull: () => FORWARD,
}
