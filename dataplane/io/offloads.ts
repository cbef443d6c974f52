/**
 * The offloads of one dataplane: which are wanted, which pass their self-tests, and what became of
 * them. Everything here degrades: an offload that the kernel does not have, or that fails its test, is
 * off and says why.
 *
 *     tun-offload   virtio-net headers and TUNSETOFFLOAD: TCP super-packets from the TUN
 *     tun-uso       UDP super-packets from and to the TUN (Linux 6.2); needs tun-offload
 *     tun-gro       packets that arrived are joined into super-packets; needs tun-offload
 *     tun-ring      one system call reads many packets of the TUN (io_uring, Linux 5.11 for a TUN)
 *     udp-segment   one send carries many packets (UDP_SEGMENT, Linux 4.18)
 *     udp-gro       trains of datagrams arrive merged (UDP_GRO, Linux 5.0)
 */
import { isNativeError, native, type Native } from '../native/native.js'
import { NO_OFFLOAD, OFFLOADS, type OffloadName, type OffloadOptions } from '../offload/offload.js'
import { describeErrno, describeFault } from './errno.js'
import { testSockets, type Outcome, type SocketKernel } from './socket-self-test.js'
import type { TunDescriptor } from './tun-device.js'
import { testSuperPacket } from './tun-self-test.js'
import type { SocketDescriptor } from './socket.js'

/** Which offloads may be used. */
export type OffloadWish = Readonly<Record<OffloadName, boolean>> & {
  /** Packets that one send may carry at most, however many the kernel takes. */
  readonly maxRun: number
}

/** As many packets as any kernel lets a send carry (UDP_MAX_SEGMENTS since Linux 6.10). */
export const MAX_RUN = 128

/** All that the kernel has. */
export const ALL_OFFLOADS: OffloadWish = {
  'tun-offload': true,
  'tun-uso': true,
  'tun-gro': true,
  'tun-ring': true,
  'udp-segment': true,
  'udp-gro': true,
  maxRun: MAX_RUN,
}

/**
 * `on`; `untested`: on, but its self-test could not be made; `off`: not wanted; `unavailable`: not in
 * this kernel, or failed its self-test; `given-up`: refused by the kernel while it was used.
 */
export type OffloadCondition = 'on' | 'untested' | 'off' | 'unavailable' | 'given-up'

export interface OffloadState {
  readonly name: OffloadName
  readonly state: OffloadCondition
  /** What is used of it, or why it is not; empty when it is not wanted. */
  readonly detail: string
  /** ISO 8601 time at which it was given up; null = it was not. */
  readonly since: string | null
}

/** The system calls behind all of it; other ones stand in for kernels that we do not have. */
export type OffloadKernel = SocketKernel &
  Pick<Native, 'openTun' | 'setTunOffload' | 'write' | 'openRing' | 'closeRing'>

export class Offloads {
  private readonly wish: OffloadWish
  private readonly kernel: OffloadKernel
  private readonly states = new Map<OffloadName, OffloadState>()
  private found: OffloadOptions = NO_OFFLOAD

  /**
   * Makes the self-tests of the sockets and of rings, which take a few milliseconds.
   * @param isRaw  whether the sockets are raw ones, which know no runs and no trains
   */
  constructor(wish: OffloadWish, kernel: OffloadKernel = native, isRaw = false) {
    this.wish = wish
    this.kernel = kernel
    for (const name of OFFLOADS) this.set(name, 'off', '')
    if (isRaw) this.lackSockets()
    else this.testSockets()
    this.testRing()
  }

  private lackSockets(): void {
    for (const name of ['udp-segment', 'udp-gro'] as const) {
      if (this.wish[name]) this.set(name, 'unavailable', 'a raw socket takes one packet a message')
    }
  }

  /** What engines may use; complete when the device is open, every socket enabled and both tested. */
  get options(): OffloadOptions {
    return this.found
  }

  /** Every offload as it is now. */
  describe(): OffloadState[] {
    return [...this.states.values()]
  }

  private testSockets(): void {
    const wantsRuns = this.wish['udp-segment']
    const wantsTrains = this.wish['udp-gro']
    if (!wantsRuns && !wantsTrains) return
    const { runs, maxRun, trains } = testSockets(this.kernel)
    const longest = Math.min(maxRun, this.wish.maxRun)
    const hasRuns = wantsRuns && this.judge('udp-segment', runs, `up to ${longest} packets a send`)
    const hasTrains = wantsTrains && this.judge('udp-gro', trains, 'trains of datagrams')
    this.found = { ...this.found, maxRun: hasRuns ? longest : NO_OFFLOAD.maxRun, hasTrains }
  }

  /** Whether this process may have rings; what a ring can do with a TUN shows when an engine uses it. */
  private testRing(): void {
    if (!this.wish['tun-ring']) return
    try {
      this.kernel.closeRing(this.kernel.openRing())
      this.set('tun-ring', 'on', 'many packets a read')
      this.found = { ...this.found, hasRing: true }
    } catch (error) {
      this.set('tun-ring', 'unavailable', describeFault(error))
    }
  }

  /** Makes a socket receive trains, if they are used. Call it for every socket. */
  enableTrains(socket: SocketDescriptor): void {
    if (!this.found.hasTrains) return
    const { IPPROTO_UDP, UDP_GRO } = native.constants
    try {
      this.kernel.setOption(socket.fd, IPPROTO_UDP, UDP_GRO, 1)
    } catch (error) {
      this.set('udp-gro', 'unavailable', describeFault(error))
      this.found = { ...this.found, hasTrains: false }
    }
  }

  /**
   * Opens the first queue of a TUN with the offloads that it has; they hold for all of its queues.
   * @throws NativeError as `openTun` of tun-device.ts
   */
  openTun(name: string, multiQueue = false): TunDescriptor {
    if (this.wish['tun-offload']) {
      try {
        const tun = this.openQueue(name, true, multiQueue)
        this.setTunOffload(tun)
        return tun
      } catch (error) {
        // A kernel without IFF_VNET_HDR; what else is wrong with the name shows again below.
        if (!isNativeError(error, 'EINVAL')) throw error
        this.set('tun-offload', 'unavailable', describeFault(error))
      }
    }
    this.lackVnet()
    return this.openQueue(name, false, multiQueue)
  }

  /** Goes on with a TUN whose queues were opened by {@link openTun}, with the same wish. */
  takeTun(tun: TunDescriptor): void {
    if (tun.vnetHdr) {
      this.setTunOffload(tun)
      return
    }
    if (this.wish['tun-offload']) {
      this.set('tun-offload', 'unavailable', 'as when the device was opened')
    }
    this.lackVnet()
  }

  private lackVnet(): void {
    const state = this.wish['tun-offload'] ? 'unavailable' : 'off'
    for (const other of ['tun-uso', 'tun-gro'] as const) {
      if (this.wish[other]) this.set(other, state, 'needs tun-offload')
    }
  }

  private openQueue(name: string, vnetHdr: boolean, multiQueue: boolean): TunDescriptor {
    return { ...this.kernel.openTun(name, vnetHdr, multiQueue), vnetHdr }
  }

  /** Asks for the newest set of offloads first, then for what older kernels know. */
  private setTunOffload(tun: TunDescriptor): void {
    const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 } = native.constants
    const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
    const wantsUso = this.wish['tun-uso']
    const hasUso = wantsUso && this.tryMask(tun, tcp | TUN_F_USO4 | TUN_F_USO6, 'tun-uso')
    const hasTso = hasUso || this.tryMask(tun, tcp, 'tun-offload')
    if (hasTso) this.set('tun-offload', 'on', 'TCP super-packets')
    if (hasUso) this.set('tun-uso', 'on', 'UDP super-packets')
    const joins = this.wish['tun-gro'] && hasTso
    this.found = { ...this.found, hasVnet: true, canJoinTcp: joins, canJoinUdp: joins && hasUso }
    if (joins) this.set('tun-gro', 'untested', describeJoins(hasUso))
    else if (this.wish['tun-gro']) this.set('tun-gro', 'unavailable', 'needs tun-offload')
  }

  /** Tries a set of offloads. A kernel that does not know it says so for the offload named. */
  private tryMask(tun: TunDescriptor, mask: number, name: OffloadName): boolean {
    try {
      this.kernel.setTunOffload(tun.fd, mask)
      return true
    } catch (error) {
      this.set(name, 'unavailable', describeFault(error))
      return false
    }
  }

  /** Tests what is written to the TUN, which must be up; before its engines start. */
  testDevice(tun: TunDescriptor): void {
    const { canJoinTcp, canJoinUdp } = this.found
    if (!canJoinTcp) return
    const tcp = testSuperPacket(tun.fd, true, this.kernel)
    if (!this.judge('tun-gro', tcp, describeJoins(canJoinUdp))) {
      this.found = { ...this.found, canJoinTcp: false, canJoinUdp: false }
    } else if (canJoinUdp) {
      const udp = testSuperPacket(tun.fd, false, this.kernel)
      if (udp.kind !== 'failed') return
      this.set('tun-gro', 'on', `${describeJoins(false)}, not UDP: ${udp.reason}`)
      this.found = { ...this.found, canJoinUdp: false }
    }
  }

  /**
   * An engine has given an offload up, since the kernel refused it.
   * @returns its state, null when another engine was first
   */
  giveUp(name: OffloadName, errno: number): OffloadState | null {
    if (this.states.get(name)?.state === 'given-up') return null
    return this.set(name, 'given-up', describeErrno(errno), new Date().toISOString())
  }

  /** Takes down how a self-test ended. @returns whether the offload is used */
  private judge(name: OffloadName, outcome: Outcome, detail: string): boolean {
    switch (outcome.kind) {
      case 'passed':
        this.set(name, 'on', detail)
        return true
      case 'unknown':
        this.set(name, 'untested', `${detail}; ${outcome.reason}`)
        return true
      case 'failed':
        this.set(name, 'unavailable', outcome.reason)
        return false
    }
  }

  private set(
    name: OffloadName,
    state: OffloadCondition,
    detail: string,
    since: string | null = null,
  ): OffloadState {
    const now = { name, state, detail, since }
    this.states.set(name, now)
    return now
  }
}

function describeJoins(hasUdp: boolean): string {
  return hasUdp ? 'joins TCP and UDP' : 'joins TCP'
}
