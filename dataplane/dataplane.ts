/**
 * The dataplane as the control plane holds it: devices opened, routes set and removed, counters
 * read, engine started and stopped. The packets themselves never come through here.
 */
import { Worker } from 'node:worker_threads'
import { mask4, parseAddress4 } from './address.js'
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
import { STOP, type EngineNews, type EngineSetup } from './engine-setup.js'
import { createFib, type Fib } from './fib/lpm-writer.js'
import { HostSet } from './host-set.js'
import type { IngressCheckMode, Refusal, SourceException } from './ingress-check.js'
import { openRaw } from './io/raw-port.js'
import { ALL_OFFLOADS, Offloads, type OffloadState, type OffloadWish } from './io/offloads.js'
import type { TunDescriptor } from './io/tun-device.js'
import { formatMac, type Mac } from './mac.js'
import { openSockets, openTunQueues, whyNoSteering } from './io/queues.js'
import { MAX_QUEUES } from './io/steering.js'
import type { UdpDescriptor } from './io/udp-port.js'
import { describeOffloads, type OffloadReport } from './offload-report.js'
import { native } from './native/native.js'
import { OverflowMeter } from './overflow.js'

/** An IPv4 prefix: address as uint32 in host order with zero host bits, length 0..32. */
export interface RoutePrefix {
  readonly addr: number
  readonly len: number
}

/** Where a peer's datagrams go: address as text, UDP port. */
export interface PeerEndpoint {
  readonly address: string
  readonly port: number
  /** MAC address of its tunnel endpoint, for an encapsulation that has them. */
  readonly mac?: Mac
}

export interface DataplaneOptions {
  /** What stands before the inner packets, default that of `udp`. */
  readonly encap?: EncapChoice
  /** TUN name; `%d` lets the kernel pick the first free number, as flannel does with `flannel%d`. */
  readonly device: string
  /** Local address that the socket is bound to. */
  readonly bindAddress: string
  /** UDP port of the socket. */
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
  /** How much the sources of packets from outside are checked, default `leases`. */
  readonly ingressCheck?: IngressCheckMode
  /** Outer addresses that may speak for prefixes although their leases name others. */
  readonly exceptions?: readonly SourceException[]
  /** Called now and then when the check refuses packets. */
  readonly onRefused?: (refusal: Refusal) => void
}

interface PeerHop {
  /** Of `peerHops`. */
  readonly key: number | string
  readonly hop: number
  /** Address bits. */
  readonly address: number
  routes: number
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
  /** Why there are fewer engines than asked for, or null. */
  readonly whyFewerQueues: string | null
  private readonly tuns: readonly [TunDescriptor, ...TunDescriptor[]]
  private readonly sockets: readonly [UdpDescriptor, ...UdpDescriptor[]]
  private readonly rawFd: number
  private readonly offloads: Offloads
  private readonly onGivenUp: (offload: OffloadState) => void
  private readonly onRefused: (refusal: Refusal) => void
  private readonly ingressCheck: EngineSetup['ingressCheck']
  private readonly encap: EncapChoice
  private readonly wakeFds: readonly number[]
  /** Every descriptor of ours, in the order in which they were opened. */
  private readonly fds: number[] = []
  private readonly busyPollUs: number
  private readonly fib: Fib
  /** Hosts that peers' routes lead to, and those of exceptions. */
  private readonly hosts: HostSet
  private readonly counters: readonly Counters[]
  private readonly overflow: OverflowMeter
  private readonly control = new SharedArrayBuffer(4)
  private readonly peerHops = new Map<number | string, PeerHop>()
  private readonly routes = new Map<number, PeerHop>()
  private readonly localHop: number
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
    this.whyFewerQueues = wanted > 1 ? whyNoSteering() : null
    const queues = this.whyFewerQueues === null ? wanted : 1
    const opened = (fd: number): void => {
      this.fds.push(fd)
    }
    this.onGivenUp = options.onGivenUp ?? (() => undefined)
    this.onRefused = options.onRefused ?? (() => undefined)
    this.encap = options.encap ?? { kind: 'udp' }
    const exceptions = options.exceptions ?? []
    this.ingressCheck = { mode: options.ingressCheck ?? 'leases', exceptions }
    this.offloads = new Offloads(options.offload ?? ALL_OFFLOADS)
    try {
      this.sockets = openSockets(
        {
          family: 4,
          address: options.bindAddress,
          port: options.port,
          dontFragment: true,
          ...(options.receiveBuffer === undefined ? {} : { receiveBuffer: options.receiveBuffer }),
        },
        queues,
        opened,
      )
      for (const socket of this.sockets) this.offloads.enableTrains(socket)
      this.rawFd = openRaw()
      opened(this.rawFd)
      const tun = this.offloads.openTun(options.device, queues > 1)
      opened(tun.fd)
      this.tuns = openTunQueues(tun, queues, opened)
      this.wakeFds = this.tuns.map(() => native.eventfd())
      this.wakeFds.forEach(opened)
    } catch (error) {
      this.closeAll()
      throw error
    }
    this.device = this.tuns[0].name
    this.busyPollUs = options.busyPollUs ?? 0
    this.fib = createFib({ readers: queues })
    this.localHop = this.fib.hops.addLocal()
    this.hosts = new HostSet(queues)
    for (const { from } of exceptions) this.hosts.add(from)
    this.counters = this.tuns.map(() => new Counters(new SharedArrayBuffer(COUNTERS_BYTES)))
    this.overflow = new OverflowMeter(this.device, this.sockets, this.counters)
  }

  /**
   * Starts the engines' threads. The device must be up.
   * @param localAddress  base address of the own subnet, from which ICMP errors come
   * @param mtu           MTU of the TUN device
   * @param onFailure     called once if an engine dies without having been stopped
   */
  start(localAddress: string, mtu: number, onFailure: (error: Error) => void): void {
    this.offloads.testDevice(this.tuns[0])
    const localBits = addressBits(localAddress)
    let hasFailed = false
    const onExit = (error: Error): void => {
      if (hasFailed || Atomics.load(new Int32Array(this.control), STOP) !== 0) return
      hasFailed = true
      onFailure(error)
    }
    const engines = this.tuns.map((_, queue) => this.startEngine(queue, localBits, mtu, onExit))
    this.exited = Promise.all(engines)
  }

  /** Starts one engine. @returns a promise that is kept when its thread has ended */
  private startEngine(
    queue: number,
    localAddress: number,
    mtu: number,
    onExit: (error: Error) => void,
  ): Promise<void> {
    const setup: EngineSetup = {
      tun: at(this.tuns, queue),
      socket: at(this.sockets, queue),
      encap: this.encap,
      offload: this.offloads.options,
      rawFd: this.rawFd,
      wakeFd: at(this.wakeFds, queue),
      fib: this.fib.shared,
      hosts: this.hosts.shared,
      ingressCheck: this.ingressCheck,
      reader: queue,
      counters: at(this.counters, queue).memory,
      control: this.control,
      mtu,
      hasIpv6: false,
      localAddress,
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
    this.fib.writer.insert4(prefix.addr | 0, prefix.len, this.localHop)
  }

  removeLocal(prefix: RoutePrefix): void {
    this.fib.writer.remove4(prefix.addr | 0, prefix.len)
  }

  /** Routes a prefix to a peer, replacing what it was routed to. */
  setRoute(prefix: RoutePrefix, peer: PeerEndpoint): void {
    const key = routeKey(prefix)
    const before = this.routes.get(key)
    const after = this.hopOf(peer)
    if (before === after) return
    this.fib.writer.insert4(prefix.addr & mask4(prefix.len), prefix.len, after.hop)
    after.routes++
    this.routes.set(key, after)
    if (before !== undefined) this.release(before)
  }

  /** Removes a route. @returns false when there was none */
  removeRoute(prefix: RoutePrefix): boolean {
    const key = routeKey(prefix)
    const peer = this.routes.get(key)
    if (peer === undefined) return false
    this.fib.writer.remove4(prefix.addr | 0, prefix.len)
    this.routes.delete(key)
    this.release(peer)
    return true
  }

  /** Counters, sizes and offloads, read without disturbing the engine. */
  report(): DataplaneReport {
    if (!this.isClosed) this.overflow.sample()
    const counters = describeCounters(this.counters)
    return {
      device: this.device,
      port: this.sockets[0].port,
      receiveBuffer: this.sockets[0].receiveBuffer,
      routes: this.routes.size,
      counters,
      offloads: describeOffloads(this.offloads.describe(), counters),
      queues: this.counters.map((engine) => ({
        egress: engine.gaugeValue(READ + EGRESS),
        ingress: engine.gaugeValue(READ + INGRESS),
      })),
    }
  }

  /** Stops the engines (within a breath) and closes the devices; the TUN device disappears. */
  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.overflow.stop()
    Atomics.store(new Int32Array(this.control), STOP, 1)
    for (const fd of this.wakeFds) native.signal(fd)
    await this.exited
    this.closeAll()
  }

  private closeAll(): void {
    for (const fd of this.fds.splice(0)) native.close(fd)
  }

  private hopOf(peer: PeerEndpoint): PeerHop {
    const address = addressBits(peer.address)
    const number = (address >>> 0) * 0x10000 + peer.port
    const key = peer.mac === undefined ? number : `${String(number)} ${formatMac(peer.mac)}`
    const known = this.peerHops.get(key)
    if (known !== undefined) return known
    const hop = this.fib.hops.addPeer(address, peer.port, peer.mac)
    const added = { key, hop, address, routes: 0 }
    this.hosts.add(address)
    this.peerHops.set(key, added)
    return added
  }

  /** Takes a route off a peer; the hop of a peer without routes is retired. */
  private release(peer: PeerHop): void {
    peer.routes--
    if (peer.routes > 0) return
    this.peerHops.delete(peer.key)
    this.hosts.remove(peer.address)
    this.fib.hops.retire(peer.hop)
  }
}

/** An element that is known to be there. */
function at<T>(list: readonly T[], i: number): T {
  const element = list[i]
  if (element === undefined) throw new RangeError(`no element ${String(i)}`)
  return element
}

/** Bits of a dotted quad. @throws RangeError for any other text */
function addressBits(text: string): number {
  const bits = parseAddress4(text)
  if (bits === null) throw new RangeError(`"${text}" is no IPv4 address`)
  return bits
}

/** A prefix as one number, address × 64 + length: where there are many, less room than text. */
function routeKey(prefix: RoutePrefix): number {
  return (prefix.addr >>> 0) * 64 + prefix.len
}
