/**
 * The engine: one breath moves at most one batch in each direction.
 *
 *     read TUN → egress → send → receive → ingress → write TUN → ICMP errors → counters
 *
 * It is handed its devices, table and clock, so that the daemon, `heddle replay`, the demo and the
 * tests all run this same code. Each step is bounded, so neither direction can starve the other.
 */
import { BREATHS, EGRESS, INGRESS, JOINS_LOST, READ, RUNS_LOST, type Counters } from './counters.js'
import { createEgress, type Egress } from './egress.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import { ICMP_ARENA_BYTES, IcmpErrors, type IcmpPort } from './icmp.js'
import { createIngress, type Ingress } from './ingress.js'
import type { InsideDevice, OutsidePort } from './io/device.js'
import { createCoalescer, type Coalescer, PIECES_PER_ENTRY, VNET_SLOT } from './offload/coalesce.js'
import type { OffloadOptions } from './offload/offload.js'
import { Runs, splitRun } from './offload/runs.js'
import { HEADER_SLOT, Segmenter } from './offload/segment.js'
import type { Sums } from './offload/sums.js'
import { createArena, type Arena } from './packet/arena.js'
import { Batch } from './packet/batch.js'
import { Entries } from './packet/entries.js'
import { HEADROOM, MAX_PACKET } from './packet/layout.js'
import {
  DROP_TOO_BIG,
  DROP_TUN_BUSY,
  DROP_TUN_ERROR,
  DROP_TX_BUSY,
  DROP_TX_ERROR,
  DROP_TX_UNREACHABLE,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'

/** Packets that one breath moves per direction at most. */
export const BATCH_SIZE = 64

// Linux errno numbers (asm-generic/errno.h, errno-base.h) that decide a verdict.
const EPERM = 1
const EIO = 5
const EAGAIN = 11
const EACCES = 13
const EINVAL = 22
const EMSGSIZE = 90
const ENOPROTOOPT = 92
const EOPNOTSUPP = 95
const ENETDOWN = 100
const ENETUNREACH = 101
const ENOBUFS = 105
const ECONNREFUSED = 111
const EHOSTDOWN = 112
const EHOSTUNREACH = 113

export interface EngineOptions {
  /** What {@link createEngineArena} made for the same MTU and encapsulation; the devices use it too. */
  readonly arena: Arena
  readonly inside: InsideDevice
  readonly outside: OutsidePort
  /** Where ICMP errors to local senders leave. */
  readonly icmp: IcmpPort
  readonly fib: FibReader
  readonly hops: HopTable
  readonly encap: Encap
  readonly offload: OffloadOptions
  readonly sums: Sums
  readonly counters: Counters
  /** MTU of the TUN device, bytes. */
  readonly mtu: number
  /** Address bits of the own subnet's base address, from which ICMP errors come. */
  readonly localAddress: number
  /** Milliseconds that never go back; the rate limits live by it. */
  readonly now: () => number
}

export class Engine {
  private readonly inside: InsideDevice
  private readonly outside: OutsidePort
  private readonly fib: FibReader
  private readonly hops: HopTable
  private readonly counters: Counters
  private readonly now: () => number
  private readonly icmp: IcmpErrors
  private readonly egress: Egress
  private readonly ingress: Ingress
  private readonly segmenter: Segmenter
  private readonly runs: Runs
  private readonly coalescer: Coalescer
  private readonly fromInside: Batch
  private readonly fromOutside: Batch
  private readonly toOutside = new Entries(OUTSIDE_ENTRIES, PIECES_PER_RUN)
  private readonly toInside = new Entries(INSIDE_ENTRIES, PIECES_PER_ENTRY)
  private readonly again = new Entries(PIECES_PER_RUN, 2)

  constructor(options: EngineOptions) {
    const { arena, fib, hops, encap, counters, mtu, sums, offload } = options
    const place = createLayout(mtu, encap, offload)
    this.inside = options.inside
    this.outside = options.outside
    this.fib = fib
    this.hops = hops
    this.counters = counters
    this.now = options.now
    this.fromInside = new Batch(arena, place.inside, BATCH_SIZE, place.insideSlot)
    this.fromOutside = new Batch(arena, place.outside, BATCH_SIZE, place.outsideSlot)
    this.icmp = new IcmpErrors(arena, place.icmp, options.localAddress, options.icmp, counters)
    this.segmenter = new Segmenter(arena, place.headers, HEADER_SLOTS, sums)
    this.runs = new Runs(this.toOutside, offload.maxRun)
    this.coalescer = createCoalescer(
      arena,
      this.toInside,
      place.vnet,
      offload.hasVnet,
      offload.canJoinTcp,
      offload.canJoinUdp,
    )
    this.egress = createEgress({
      arena,
      fib,
      hops,
      encap,
      counters,
      sums,
      icmp: this.icmp,
      out: this.toOutside,
      runs: this.runs,
      segmenter: this.segmenter,
      hasVnet: offload.hasVnet,
    })
    this.ingress = createIngress({
      arena,
      fib,
      hops,
      encap,
      counters,
      sums,
      mtu,
      out: this.toInside,
      coalescer: this.coalescer,
    })
  }

  /**
   * Moves what waits, at most one batch per direction.
   * @returns packets read; 0 = nothing waited, time to block
   * @throws  when a device itself is gone, never about a packet
   */
  breath(): number {
    const nowMs = this.now()
    this.icmp.tick(nowMs)
    this.runs.tick(nowMs)
    this.fib.enter()
    const moved = this.breatheOut() + this.breatheIn()
    this.icmp.flush()
    this.fib.leave()
    if (moved > 0) this.counters.gauge(BREATHS, 1)
    return moved
  }

  /** inside → outside. */
  private breatheOut(): number {
    const batch = this.fromInside
    batch.rewind()
    const count = this.inside.read(batch)
    if (count === 0) return 0
    this.counters.gauge(READ + EGRESS, count)
    this.egress.begin()
    while (this.egress.run(batch)) this.flushOut()
    this.flushOut()
    return count
  }

  /** outside → inside. */
  private breatheIn(): number {
    const batch = this.fromOutside
    batch.rewind()
    const count = this.outside.receive(batch)
    if (count === 0) return 0
    this.counters.gauge(READ + INGRESS, count)
    this.ingress.begin(batch)
    while (this.ingress.run(batch)) this.flushIn()
    this.flushIn()
    return count
  }

  private flushOut(): void {
    const out = this.toOutside
    if (out.count > 0) {
      this.outside.send(out, this.hops.names)
      this.settle(EGRESS, out)
    }
    out.clear()
    this.runs.clear()
    this.segmenter.clear()
  }

  private flushIn(): void {
    const out = this.toInside
    if (out.count > 0) {
      this.inside.write(out)
      this.settle(INGRESS, out)
    }
    out.clear()
  }

  /**
   * A refused run goes again packet by packet. Runs are given up when the kernel cannot cut them, and
   * to this peer alone when their packets do not fit its path.
   */
  private resend(run: number, errno: number): boolean {
    if (errno === EMSGSIZE) {
      this.runs.avoid(this.hops.named(this.toOutside.name(run)))
    } else if (!isOffloadRefused(errno)) {
      return false
    } else if (this.runs.isOn()) {
      this.runs.disable()
      this.counters.gauge(RUNS_LOST, 1)
    }
    splitRun(this.toOutside, run, this.again)
    this.outside.send(this.again, this.hops.names)
    this.settle(EGRESS, this.again)
    return true
  }

  /** A refused super-packet goes again packet by packet, and no more are made. */
  private rewrite(entry: number, errno: number): boolean {
    if (!isOffloadRefused(errno)) return false
    if (this.coalescer.isOn()) {
      this.coalescer.disable()
      this.counters.gauge(JOINS_LOST, 1)
    }
    this.coalescer.split(entry, this.again)
    this.inside.write(this.again)
    this.settle(INGRESS, this.again)
    return true
  }

  /** Counts what became of entries; those of several packets that were refused get another try. */
  private settle(direction: number, entries: Entries): void {
    let packets = 0
    let bytes = 0
    for (let i = 0; i < entries.count; i++) {
      const errno = entries.result(i)
      if (errno === 0) {
        packets += entries.packets(i)
        bytes += entries.bytes(i)
      } else if (direction === EGRESS) {
        if (entries.segment(i) > 0 && this.resend(i, errno)) continue
        this.counters.add(EGRESS, sendVerdict(errno), entries.packets(i), entries.bytes(i))
      } else {
        if (entries.packets(i) > 1 && this.rewrite(i, errno)) continue
        this.counters.add(INGRESS, writeVerdict(errno), entries.packets(i), entries.bytes(i))
      }
    }
    this.counters.add(direction, FORWARD, packets, bytes)
  }
}

/** Pieces of a run: headers and payload of up to 128 packets. */
const PIECES_PER_RUN = 256
/** Entries between two sends; more packets than they hold go in the next one. */
const OUTSIDE_ENTRIES = 256
/** Entries between two writes, likewise. */
const INSIDE_ENTRIES = 512
/** Segments between two sends: those of 40 super-packets of 64 KiB. */
const HEADER_SLOTS = 2048

/** The kernel cannot do what an offload asks (EINVAL, EIO from a device without it, EOPNOTSUPP, ENOPROTOOPT). */
function isOffloadRefused(errno: number): boolean {
  return errno === EINVAL || errno === EIO || errno === EOPNOTSUPP || errno === ENOPROTOOPT
}

/** Where everything lies in the engine's arena. */
function createLayout(mtu: number, encap: Encap, offload: OffloadOptions) {
  const insideSlot = slotSizeFor(offload.hasVnet ? MAX_PACKET : mtu, encap)
  const outsideSlot = slotSizeFor(offload.hasTrains ? MAX_PACKET : mtu, encap)
  const outside = BATCH_SIZE * insideSlot
  const icmp = outside + BATCH_SIZE * outsideSlot
  const headers = icmp + ICMP_ARENA_BYTES
  const vnet = headers + HEADER_SLOTS * HEADER_SLOT
  const bytes = vnet + INSIDE_ENTRIES * VNET_SLOT
  return { inside: 0, insideSlot, outside, outsideSlot, icmp, headers, vnet, bytes }
}

/** Bytes per slot: headroom, headers and a packet, with room to spare so that a longer datagram shows. */
function slotSizeFor(mtu: number, encap: Encap): number {
  return (HEADROOM + encap.headerLen + mtu + 64) & ~63
}

/**
 * Memory for an engine's packets: a batch from each side, ICMP errors, headers of segments.
 * @param mtu  MTU of the TUN device, bytes
 */
export function createEngineArena(mtu: number, encap: Encap, offload: OffloadOptions): Arena {
  return createArena(new ArrayBuffer(createLayout(mtu, encap, offload).bytes))
}

/** The verdict about a packet that the socket refused. */
function sendVerdict(errno: number): Verdict {
  switch (errno) {
    case EAGAIN:
    case ENOBUFS:
      return DROP_TX_BUSY
    case EMSGSIZE:
      return DROP_TOO_BIG
    case EPERM:
    case EACCES:
    case ENETDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
      return DROP_TX_UNREACHABLE
    default:
      return DROP_TX_ERROR
  }
}

/** The verdict about a packet that the TUN device refused. */
function writeVerdict(errno: number): Verdict {
  return errno === EAGAIN || errno === ENOBUFS ? DROP_TUN_BUSY : DROP_TUN_ERROR
}
