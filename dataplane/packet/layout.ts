/**
 * Where a packet lies in its slot.
 *
 * A slot is `HEADROOM` bytes, then room for a packet. A device reads so that the IP header starts
 * at `HEADROOM`; encapsulation moves the start of the packet back into the headroom, decapsulation
 * moves it forward. The payload itself never moves.
 *
 *     slot                HEADROOM                                        slotSize
 *     |  free ... |vnet10 |  IP header, payload ...                       |
 *     |     |VXLAN 22     |
 */

/** Bytes before every packet: room for Ethernet (14) + VXLAN (8), or for a virtio-net header (10). */
export const HEADROOM = 64

/** Length of `struct virtio_net_hdr` (linux/virtio_net.h), which precedes a packet on a TUN opened with IFF_VNET_HDR. */
export const VNET_HDR_LEN = 10

/** The largest IP packet, RFC 791 §3.1 (total length is 16 bits). */
export const MAX_PACKET = 65535
