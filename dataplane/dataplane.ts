/**
 * The dataplane as the control plane holds it: devices opened, routes set and removed, counters
 * read, engine started and stopped. The packets themselves never come through here.
 */
import { Worker } from 'node:worker_threads'
import { mask4, parseAddress4 } from './address.js'
import { Counters, COUNTERS_BYTES, describeCounters, type CountersReport } from './counters.js'
import { STOP, type EngineSetup, type GivenUp } from './engine-setup.js'
import { createFib, type Fib } from './fib/lpm-writer.js'
import { openRaw } from './io/raw-port.js'
import { ALL_OFFLOADS, Offloads, type OffloadState, type OffloadWish } from './io/offloads.js'
import type { TunDescriptor } from './io/tun-device.js'
import { openUdp, type UdpDescriptor } from './io/udp-port.js'
import { describeOffloads, type OffloadReport } from './offload-report.js'
import { native } from './native/native.js'

/** An IPv4 prefix: address as uint32 in host order with zero host bits, length 0..32. */
export interface RoutePrefix {
  readonly addr: number
  readonly len: number
}

/** Where a peer's datagrams go: address as text, UDP port. */
export interface PeerEndpoint {
  readonly address: string
  readonly port: number
}

export interface DataplaneOptions {
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
  /** Offloads that may be used, default all that the kernel has. */
  readonly offload?: OffloadWish
  /** Called when the kernel refuses an offload that was used, and it is given up. */
  readonly onGivenUp?: (offload: OffloadState) => void
}

interface PeerHop {
  readonly hop: number
  routes: number
}

export interface DataplaneReport {
  readonly device: string
  readonly port: number
  readonly receiveBuffer: number
  readonly routes: number
  readonly counters: CountersReport
  readonly offloads: readonly OffloadReport[]
}

export class Dataplane {
  /** Name that the kernel gave the TUN device. */
  readonly device: string
  private readonly tun: TunDescriptor
  private readonly socket: UdpDescriptor
  private readonly rawFd: number
  private readonly offloads: Offloads
  private readonly onGivenUp: (offload: OffloadState) => void
  private readonly wakeFd: number
  /** Every descriptor of ours, in the order in which they were opened. */
  private readonly fds: number[] = []
  private readonly busyPollUs: number
  private readonly fib: Fib
  private readonly counters: Counters
  private readonly countersMemory = new SharedArrayBuffer(COUNTERS_BYTES)
  private readonly control = new SharedArrayBuffer(4)
  private readonly peerHops = new Map<string, PeerHop>()
  private readonly routes = new Map<string, string>()
  private readonly localHop: number
  private worker: Worker | null = null
  private exited: Promise<void> = Promise.resolve()
  private isClosed = false

  /**
   * Opens the TUN device and the sockets; nothing moves until `start()`.
   * @throws an error with `errno`, `code` and `syscall` when the kernel refuses one of them;
   *         what was opened before is closed again
   */
  constructor(options: DataplaneOptions) {
    this.onGivenUp = options.onGivenUp ?? (() => undefined)
    this.offloads = new Offloads(options.offload ?? ALL_OFFLOADS)
    try {
      this.socket = openUdp({
        family: 4,
        address: options.bindAddress,
        port: options.port,
        ...(options.receiveBuffer === undefined ? {} : { receiveBuffer: options.receiveBuffer }),
      })
      this.fds.push(this.socket.fd)
      this.offloads.enableTrains(this.socket)
      this.rawFd = openRaw()
      this.fds.push(this.rawFd)
      this.tun = this.offloads.openTun(options.device)
      this.fds.push(this.tun.fd)
      this.wakeFd = native.eventfd()
      this.fds.push(this.wakeFd)
    } catch (error) {
      this.closeAll()
      throw error
    }
    this.device = this.tun.name
    this.busyPollUs = options.busyPollUs ?? 0
    this.fib = createFib({ readers: 1 })
    this.localHop = this.fib.hops.addLocal()
    this.counters = new Counters(this.countersMemory)
  }

  /**
   * Starts the engine's thread. The device must be up.
   * @param localAddress  base address of the own subnet, from which ICMP errors come
   * @param mtu           MTU of the TUN device
   * @param onFailure     called once if the engine dies without having been stopped
   */
  start(localAddress: string, mtu: number, onFailure: (error: Error) => void): void {
    this.offloads.testDevice(this.tun)
    const setup: EngineSetup = {
      tun: this.tun,
      socket: this.socket,
      offload: this.offloads.options,
      rawFd: this.rawFd,
      wakeFd: this.wakeFd,
      fib: this.fib.shared,
      reader: 0,
      counters: this.countersMemory,
      control: this.control,
      mtu,
      localAddress: addressBits(localAddress),
      busyPollUs: this.busyPollUs,
    }
    const worker = new Worker(new URL('./engine-worker.js', import.meta.url), {
      workerData: setup,
      name: 'engine',
    })
    this.worker = worker
    worker.on('message', ({ offload, errno }: GivenUp) => {
      const lost = this.offloads.giveUp(offload, errno)
      if (lost !== null) this.onGivenUp(lost)
    })
    let failure: Error | null = null
    worker.once('error', (error) => {
      failure = error
    })
    this.exited = new Promise((resolve) => {
      worker.once('exit', (code) => {
        this.worker = null
        resolve()
        if (Atomics.load(new Int32Array(this.control), STOP) === 0) {
          onFailure(
            failure ?? new Error(`the engine thread ended by itself (code ${String(code)})`),
          )
        }
      })
    })
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
    const peerKey = `${peer.address} ${String(peer.port)}`
    const before = this.routes.get(key)
    if (before === peerKey) return
    const entry = this.peerHops.get(peerKey) ?? {
      hop: this.fib.hops.addPeer(addressBits(peer.address), peer.port),
      routes: 0,
    }
    this.fib.writer.insert4(prefix.addr & mask4(prefix.len), prefix.len, entry.hop)
    entry.routes++
    this.peerHops.set(peerKey, entry)
    this.routes.set(key, peerKey)
    if (before !== undefined) this.releasePeer(before)
  }

  /** Removes a route. @returns false when there was none */
  removeRoute(prefix: RoutePrefix): boolean {
    const key = routeKey(prefix)
    const peerKey = this.routes.get(key)
    if (peerKey === undefined) return false
    this.fib.writer.remove4(prefix.addr | 0, prefix.len)
    this.routes.delete(key)
    this.releasePeer(peerKey)
    return true
  }

  /** Counters, sizes and offloads, read without disturbing the engine. */
  report(): DataplaneReport {
    const counters = describeCounters([this.counters])
    return {
      device: this.device,
      port: this.socket.port,
      receiveBuffer: this.socket.receiveBuffer,
      routes: this.routes.size,
      counters,
      offloads: describeOffloads(this.offloads.describe(), counters),
    }
  }

  /** Stops the engine (within a breath) and closes the devices; the TUN device disappears. */
  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    Atomics.store(new Int32Array(this.control), STOP, 1)
    native.signal(this.wakeFd)
    await this.exited
    this.closeAll()
  }

  private closeAll(): void {
    for (const fd of this.fds.splice(0)) native.close(fd)
  }

  private releasePeer(peerKey: string): void {
    const entry = this.peerHops.get(peerKey)
    if (entry === undefined) return
    entry.routes--
    if (entry.routes > 0) return
    this.peerHops.delete(peerKey)
    this.fib.hops.retire(entry.hop)
  }
}

/** Bits of a dotted quad. @throws RangeError for any other text */
function addressBits(text: string): number {
  const bits = parseAddress4(text)
  if (bits === null) throw new RangeError(`"${text}" is no IPv4 address`)
  return bits
}

function routeKey(prefix: RoutePrefix): string {
  return `${String(prefix.addr >>> 0)}/${String(prefix.len)}`
}
