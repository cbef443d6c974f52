/**
 * The dataplane as the control plane holds it: devices opened, routes set and removed, counters
 * read, engine started and stopped. The packets themselves never come through here.
 */
import { Worker } from 'node:worker_threads'
import { addressBytes6, parseAddress } from './address.js'
import {
  Counters,
  COUNTERS_BYTES,
  describeCounters,
  EGRESS,
  INGRESS,
  READ,
  type CountersReport,
} from './counters.js'
import type { EncapChoice } from './encap/choice.js'
import { VXLAN_SOURCES } from './encap/vxlan.js'
import { STOP, type EngineNews, type EngineSetup } from './engine-setup.js'
import type { IngressCheckMode, Refusal, SourceException } from './ingress-check.js'
import { openIpip } from './io/ipip-port.js'
import { openRaw } from './io/raw-port.js'
import { ALL_OFFLOADS, Offloads, type OffloadState, type OffloadWish } from './io/offloads.js'
import type { TunDescriptor } from './io/tun-device.js'
import {
  descriptorsOf,
  openSockets,
  openTunQueues,
  whyNoSteering,
  type OpenDevices,
} from './io/queues.js'
import { MAX_QUEUES } from './io/steering.js'
import type { SocketDescriptor } from './io/socket.js'
import { describeOffloads, type OffloadReport } from './offload-report.js'
import { native, type Family } from './native/native.js'
import { OverflowMeter } from './overflow.js'
import { familyOf, RouteTable, type PeerEndpoint, type RoutePrefix } from './route-table.js'

/** Base addresses of the own subnets, as text, from which ICMP errors come; null = no such subnet. */
export interface LocalAddresses {
  readonly ipv4: string | null
  readonly ipv6: string | null
}

export interface DataplaneOptions {
  /** What stands before the inner packets, default that of `udp`. */
  readonly encap?: EncapChoice
  /** TUN name; `%d` lets the kernel pick the first free number, as flannel does with `flannel%d`. */
  readonly device: string
  /** Local address that the socket is bound to; its family is that of the outer packets. */
  readonly bindAddress: string
  /** What {@link Dataplane.leave} of the same options has left open, to go on with; default = they are opened. */
  readonly devices?: OpenDevices
  /** Whether the TUN device stays when it is closed, default false. */
  readonly keepDevice?: boolean
  /** Whether the network has IPv6, default false. */
  readonly ipv6?: boolean
  /** UDP port of the socket; not used by an encapsulation without ports. */
  readonly port: number
  /** Bytes asked of the kernel for the socket's receive buffer, default 4 MiB; what was granted is in the report. */
  readonly receiveBuffer?: number
  /** Microseconds that the engine looks for packets before it blocks; 0 = blocks at once. */
  readonly busyPollUs?: number
  /** Engines, each with a thread, a TUN queue and a socket, 1 to 16; default 1. */
  readonly queues?: number
  /** Offloads that may be used, default all that the kernel has. */
  readonly offload?: OffloadWish
  /** Called when the kernel refuses an offload that was used, and it is given up. */
  readonly onGivenUp?: (offload: OffloadState) => void
  /** Counters to go on with, those of a dataplane that is closed; default new ones, at zero. */
  readonly counters?: readonly Counters[]
  /** How much the sources of packets from outside are checked, default `leases`. */
  readonly ingressCheck?: IngressCheckMode
  /** Outer addresses that may speak for prefixes although their leases name others. */
  readonly exceptions?: readonly SourceException[]
  /** Called now and then when the check refuses packets. */
  readonly onRefused?: (refusal: Refusal) => void
}

export interface DataplaneReport {
  readonly device: string
  readonly port: number
  readonly receiveBuffer: number
  readonly routes: number
  readonly counters: CountersReport
  /** What each engine has read from its devices, packets. */
  readonly queues: readonly { readonly egress: number; readonly ingress: number }[]
  readonly offloads: readonly OffloadReport[]
}

export class Dataplane {
  /** Name that the kernel gave the TUN device. */
  readonly device: string
  /** Why there are fewer engines than asked for, or fewer source ports than usual; null = there are not. */
  readonly whyNoSteering: string | null
  private readonly tuns: readonly [TunDescriptor, ...TunDescriptor[]]
  private readonly sockets: readonly [SocketDescriptor, ...SocketDescriptor[]]
  private readonly rawFd: number
  private readonly rawFd6: number | null
  private readonly offloads: Offloads
  private readonly onGivenUp: (offload: OffloadState) => void
  private readonly onRefused: (refusal: Refusal) => void
  private readonly ingressCheck: EngineSetup['ingressCheck']
  private readonly encap: EncapChoice
  private readonly wakeFds: readonly number[]
  /** Every descriptor of ours, in the order in which they were opened. */
  private readonly fds: number[] = []
  private readonly busyPollUs: number
  private readonly table: RouteTable
  /** Those of each engine. */
  readonly counters: readonly Counters[]
  private readonly overflow: OverflowMeter
  private readonly control = new SharedArrayBuffer(4)
  private exited: Promise<unknown> = Promise.resolve()
  private isClosed = false

  /**
   * Opens the TUN device and the sockets; nothing moves until `start()`.
   * @throws an error with `errno`, `code` and `syscall` when the kernel refuses one of them;
   *         what was opened before is closed again
   */
  constructor(options: DataplaneOptions) {
    const wanted = options.queues ?? 1
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_QUEUES) {
      throw new RangeError(`queues must be 1 to ${String(MAX_QUEUES)}, not ${String(wanted)}`)
    }
    this.encap = options.encap ?? { kind: 'udp' }
    this.whyNoSteering = whyNoSpread(this.encap, wanted)
    const spread = this.whyNoSteering === null ? wanted : 1
    const queues = options.devices?.tuns.length ?? spread
    const opened = (fd: number): void => {
      this.fds.push(fd)
    }
    this.onGivenUp = options.onGivenUp ?? (() => undefined)
    this.onRefused = options.onRefused ?? (() => undefined)
    const exceptions = options.exceptions ?? []
    this.ingressCheck = { mode: options.ingressCheck ?? 'leases', exceptions }
    this.offloads = new Offloads(
      options.offload ?? ALL_OFFLOADS,
      native,
      this.encap.kind === 'ipip',
    )
    const family = familyOf(addressBits(options.bindAddress))
    const { devices } = options
    if (devices !== undefined) descriptorsOf(devices).forEach(opened)
    try {
      this.sockets = devices?.sockets ?? this.openSockets(options, family, queues, opened)
      for (const socket of this.sockets) this.offloads.enableTrains(socket)
      this.rawFd = openRaw()
      opened(this.rawFd)
      this.rawFd6 = options.ipv6 === true ? openRaw(6) : null
      if (this.rawFd6 !== null) opened(this.rawFd6)
      this.tuns = devices?.tuns ?? this.openTun(options, queues, opened)
      if (devices !== undefined) this.offloads.takeTun(devices.tuns[0])
      this.wakeFds = this.tuns.map(() => native.eventfd())
      this.wakeFds.forEach(opened)
    } catch (error) {
      this.closeAll()
      throw error
    }
    this.device = this.tuns[0].name
    this.busyPollUs = options.busyPollUs ?? 0
    this.table = new RouteTable(queues, family, exceptions)
    this.counters =
      options.counters ?? this.tuns.map(() => new Counters(new SharedArrayBuffer(COUNTERS_BYTES)))
    this.overflow = new OverflowMeter(this.device, this.sockets, this.counters, devices?.drops)
  }

  private openSockets(
    { bindAddress: address, port, receiveBuffer: asked }: DataplaneOptions,
    family: Family,
    queues: number,
    opened: (fd: number) => void,
  ): [SocketDescriptor, ...SocketDescriptor[]] {
    const receiveBuffer = asked === undefined ? {} : { receiveBuffer: asked }
    if (this.encap.kind === 'ipip') {
      const socket = openIpip({ address, ...receiveBuffer })
      opened(socket.fd)
      return [socket]
    }
    const isSpread = this.encap.kind === 'vxlan' && this.whyNoSteering === null
    const udp = { family, address, port, dontFragment: true, ...receiveBuffer }
    return openSockets(udp, queues, isSpread ? VXLAN_SOURCES : 0, opened)
  }

  private openTun(
    { device, keepDevice = false }: DataplaneOptions,
    queues: number,
    opened: (fd: number) => void,
  ): [TunDescriptor, ...TunDescriptor[]] {
    const tun = this.offloads.openTun(device, queues > 1)
    opened(tun.fd)
    native.setTunPersist(tun.fd, keepDevice)
    return openTunQueues(tun, queues, opened)
  }

  /**
   * Starts the engines' threads. The device must be up.
   * @param mtu        MTU of the TUN device
   * @param podMtu     MTU of the pods, where it is smaller
   * @param onFailure  called once if an engine dies without having been stopped
   */
  start(local: LocalAddresses, mtu: number, onFailure: (error: Error) => void, podMtu = mtu): void {
    this.offloads.testDevice(this.tuns[0])
    let hasFailed = false
    const onExit = (error: Error): void => {
      if (hasFailed || Atomics.load(new Int32Array(this.control), STOP) !== 0) return
      hasFailed = true
      onFailure(error)
    }
    const engines = this.tuns.map((_, queue) =>
      this.startEngine(queue, local, { mtu, podMtu }, onExit),
    )
    this.exited = Promise.all(engines)
  }

  /** Starts one engine. @returns a promise that is kept when its thread has ended */
  private startEngine(
    queue: number,
    local: LocalAddresses,
    mtus: Pick<EngineSetup, 'mtu' | 'podMtu'>,
    onExit: (error: Error) => void,
  ): Promise<void> {
    const setup: EngineSetup = {
      tun: at(this.tuns, queue),
      socket: at(this.sockets, queue),
      encap: this.encap,
      offload: this.offloads.options,
      rawFd: this.rawFd,
      rawFd6: this.rawFd6,
      wakeFd: at(this.wakeFds, queue),
      ...this.table.shared,
      ingressCheck: this.ingressCheck,
      reader: queue,
      counters: at(this.counters, queue).memory,
      control: this.control,
      ...mtus,
      hasIpv6: this.rawFd6 !== null,
      ...localAddresses(local),
      busyPollUs: this.busyPollUs,
    }
    const worker = new Worker(new URL('./engine-worker.js', import.meta.url), {
      workerData: setup,
      name: `engine ${String(queue)}`,
    })
    worker.on('message', (news: EngineNews) => {
      this.hear(news)
    })
    let failure: Error | null = null
    worker.once('error', (error) => {
      failure = error
    })
    return new Promise((resolve) => {
      worker.once('exit', (code) => {
        resolve()
        onExit(failure ?? new Error(`the engine thread ended by itself (code ${String(code)})`))
      })
    })
  }

  private hear(news: EngineNews): void {
    if (news.kind === 'refused') {
      this.onRefused(news.refusal)
      return
    }
    const lost = this.offloads.giveUp(news.offload, news.errno)
    if (lost !== null) this.onGivenUp(lost)
  }

  /** Marks a prefix as our own: packets from outside for it are delivered. */
  addLocal(prefix: RoutePrefix): void {
    this.table.addLocal(prefix)
  }

  removeLocal(prefix: RoutePrefix): void {
    this.table.removeLocal(prefix)
  }

  /** Routes a prefix to a peer, see {@link RouteTable.set}. */
  setRoute(prefix: RoutePrefix, peer: PeerEndpoint | 'no-ipv6'): void {
    this.table.set(prefix, peer)
  }

  /** Removes a route. @returns false when there was none */
  removeRoute(prefix: RoutePrefix): boolean {
    return this.table.delete(prefix)
  }

  /** Counters, sizes and offloads, read without disturbing the engine. */
  report(): DataplaneReport {
    if (!this.isClosed) this.overflow.sample()
    const counters = describeCounters(this.counters)
    return {
      device: this.device,
      port: this.sockets[0].port,
      receiveBuffer: this.sockets[0].receiveBuffer,
      routes: this.table.size,
      counters,
      offloads: describeOffloads(this.offloads.describe(), counters),
      queues: this.counters.map((engine) => ({
        egress: engine.gaugeValue(READ + EGRESS),
        ingress: engine.gaugeValue(READ + INGRESS),
      })),
    }
  }

  /** Stops the engines (within a breath) and closes the devices; the TUN device disappears, unless it is kept. */
  async close(): Promise<void> {
    if (this.isClosed) return
    await this.stop()
    this.closeAll()
  }

  /**
   * Stops the engines and leaves the devices open: what comes meanwhile waits in their queues.
   * @returns what is open, for whoever goes on with it or closes it; null = all was closed before
   */
  async leave(): Promise<OpenDevices | null> {
    if (this.isClosed) return null
    const { tuns, sockets } = this
    await this.stop()
    const left = new Set(descriptorsOf({ tuns, sockets }))
    for (const fd of this.fds.splice(0)) if (!left.has(fd)) native.close(fd)
    return { tuns, sockets, drops: this.overflow.drops }
  }

  private async stop(): Promise<void> {
    this.isClosed = true
    this.overflow.sample()
    this.overflow.stop()
    Atomics.store(new Int32Array(this.control), STOP, 1)
    for (const fd of this.wakeFds) native.signal(fd)
    await this.exited
  }

  private closeAll(): void {
    for (const fd of this.fds.splice(0)) native.close(fd)
  }
}

/** Why flows are not spread over several engines or source ports although they should be; null = they are. */
function whyNoSpread({ kind }: EncapChoice, queues: number): string | null {
  if (queues === 1 && kind !== 'vxlan') return null
  return kind === 'ipip' ? 'every raw socket gets every packet' : whyNoSteering()
}

/** An element that is known to be there. */
function at<T>(list: readonly T[], i: number): T {
  const element = list[i]
  if (element === undefined) throw new RangeError(`no element ${String(i)}`)
  return element
}

/** Bits of an address: a number for IPv4, a bigint for IPv6. @throws RangeError for any other text */
function addressBits(text: string): number | bigint {
  const bits = parseAddress(text)
  if (bits === null) throw new RangeError(`"${text}" is no IP address`)
  return bits
}

/** What an engine is told of the own addresses. */
function localAddresses({ ipv4, ipv6 }: LocalAddresses) {
  const bits4 = ipv4 === null ? null : addressBits(ipv4)
  const bits6 = ipv6 === null ? null : addressBits(ipv6)
  if (typeof bits4 === 'bigint' || typeof bits6 === 'number') {
    throw new RangeError(`${String(ipv4)} and ${String(ipv6)} are of the wrong families`)
  }
  return { localAddress: bits4, localAddress6: bits6 === null ? null : addressBytes6(bits6) }
}
