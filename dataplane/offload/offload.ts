/**
 * Offloads: work on many packets at a time that the kernel, or a network card behind it, does for us.
 * What this kernel can do is found out at the start (io/offloads.ts); the engine is told.
 */

/** Offloads of an engine's devices: what the kernel was found to take. */
export interface OffloadOptions {
  /** A virtio-net header stands before each packet of the TUN device, which then hands over super-packets. */
  readonly hasVnet: boolean
  /** Packets of equal size that one send may carry (UDP_SEGMENT); 1 = none. */
  readonly maxRun: number
  /** The TUN device takes TCP / UDP super-packets. */
  readonly canJoinTcp: boolean
  readonly canJoinUdp: boolean
  /** The socket hands over trains of datagrams (UDP_GRO). */
  readonly hasTrains: boolean
  /** Many packets are read from the TUN device in one system call (io_uring). */
  readonly hasRing: boolean
}

/** Plain devices: one packet, one message. */
export const NO_OFFLOAD: OffloadOptions = {
  hasVnet: false,
  maxRun: 1,
  canJoinTcp: false,
  canJoinUdp: false,
  hasTrains: false,
  hasRing: false,
}

/** Every offload, by the name of its flag. */
export const OFFLOADS = [
  'tun-offload',
  'tun-uso',
  'tun-gro',
  'tun-ring',
  'udp-segment',
  'udp-gro',
] as const
export type OffloadName = (typeof OFFLOADS)[number]

/** Hears, once, that the kernel refused what an offload asked of it, and that it is given up. */
export type OnGivenUp = (offload: OffloadName, errno: number) => void
