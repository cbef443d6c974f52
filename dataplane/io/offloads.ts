/**
 * Finding out what the kernel can do at a time, by asking for it: the newest set of TUN offloads
 * first, then what older kernels know, then none.
 */
import { native } from '../native/native.js'
import { NO_OFFLOAD, type OffloadOptions } from '../offload/offload.js'
import { openTun, type TunDescriptor } from './tun-device.js'
import type { UdpDescriptor } from './udp-port.js'

/** Packets a send may carry: what every kernel with UDP_SEGMENT takes (UDP_MAX_SEGMENTS before Linux 6.10). */
const MAX_RUN = 64

/** Which offloads may be used; all by default. */
export interface OffloadWish {
  /** virtio-net headers on the TUN: super-packets in both directions. */
  readonly tun: boolean
  /** UDP_SEGMENT. */
  readonly runs: boolean
  /** UDP_GRO. */
  readonly trains: boolean
}

/** Opens the first queue of a TUN with what offloads it has; they hold for all queues. */
export function openOffloadedTun(
  name: string,
  wish: OffloadWish,
  multiQueue = false,
): { tun: TunDescriptor; canJoinTcp: boolean; canJoinUdp: boolean } {
  if (!wish.tun) return { tun: openTun({ name, multiQueue }), canJoinTcp: false, canJoinUdp: false }
  const tun = openTun({ name, vnetHdr: true, multiQueue })
  const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 } = native.constants
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
  for (const mask of [tcp | TUN_F_USO4 | TUN_F_USO6, tcp]) {
    try {
      native.setTunOffload(tun.fd, mask)
      return { tun, canJoinTcp: true, canJoinUdp: mask !== tcp }
    } catch {
      // An older kernel: ask for less.
    }
  }
  return { tun, canJoinTcp: false, canJoinUdp: false }
}

/** What a socket can do. @returns packets a run may have, and whether trains arrive merged */
export function probeSocket(
  socket: UdpDescriptor,
  wish: OffloadWish,
): Pick<OffloadOptions, 'maxRun' | 'hasTrains'> {
  const { IPPROTO_UDP, UDP_SEGMENT, UDP_GRO } = native.constants
  const can = (probe: () => unknown): boolean => {
    try {
      probe()
      return true
    } catch {
      return false
    }
  }
  return {
    maxRun:
      wish.runs && can(() => native.getOption(socket.fd, IPPROTO_UDP, UDP_SEGMENT))
        ? MAX_RUN
        : NO_OFFLOAD.maxRun,
    hasTrains:
      wish.trains &&
      can(() => {
        native.setOption(socket.fd, IPPROTO_UDP, UDP_GRO, 1)
      }),
  }
}
