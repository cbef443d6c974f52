/**
 * The engine: one breath moves at most one batch in each direction.
 *
 *     read TUN → egress → send → receive → ingress → write TUN → ICMP errors → counters
 *
 * It is handed its devices, table and clock, so that the daemon, `heddle replay`, the demo and the
 * tests all run this same code. Each step is bounded, so neither direction can starve the other.
 */
import { BREATHS, EGRESS, INGRESS, READ, type Counters } from './counters.js'
import { Egress } from './egress.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import { ICMP_ARENA_BYTES, IcmpErrors, type IcmpPort } from './icmp.js'
import { Ingress } from './ingress.js'
import type { InsideDevice, OutsidePort } from './io/device.js'
import { createArena, type Arena } from './packet/arena.js'
import { Batch } from './packet/batch.js'
import { Entries } from './packet/entries.js'
import { HEADROOM } from './packet/layout.js'
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
const EAGAIN = 11
const EACCES = 13
const EMSGSIZE = 90
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
  private readonly fromInside: Batch
  private readonly fromOutside: Batch
  private readonly toOutside = new Entries(BATCH_SIZE)
  private readonly toInside = new Entries(BATCH_SIZE)

  constructor(options: EngineOptions) {
    const { arena, fib, hops, encap, counters, mtu } = options
    const slotSize = slotSizeFor(mtu, encap)
    const batchBytes = BATCH_SIZE * slotSize
    this.inside = options.inside
    this.outside = options.outside
    this.fib = fib
    this.hops = hops
    this.counters = counters
    this.now = options.now
    this.fromInside = new Batch(arena, 0, BATCH_SIZE, slotSize)
    this.fromOutside = new Batch(arena, batchBytes, BATCH_SIZE, slotSize)
    this.icmp = new IcmpErrors(arena, 2 * batchBytes, options.localAddress, options.icmp, counters)
    this.egress = new Egress(fib, hops, encap, this.icmp, counters)
    this.ingress = new Ingress(fib, hops, encap, mtu, counters)
  }

  /**
   * Moves what waits, at most one batch per direction.
   * @returns packets read; 0 = nothing waited, time to block
   * @throws  when a device itself is gone, never about a packet
   */
  breath(): number {
    this.icmp.tick(this.now())
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
    this.toOutside.clear()
    this.egress.run(batch, this.toOutside)
    if (this.toOutside.count > 0) {
      this.outside.send(this.toOutside, this.hops.names)
      this.settle(EGRESS, this.toOutside)
    }
    return count
  }

  /** outside → inside. */
  private breatheIn(): number {
    const batch = this.fromOutside
    batch.rewind()
    const count = this.outside.receive(batch)
    if (count === 0) return 0
    this.counters.gauge(READ + INGRESS, count)
    this.toInside.clear()
    this.ingress.run(batch, this.toInside)
    if (this.toInside.count > 0) {
      this.inside.write(this.toInside)
      this.settle(INGRESS, this.toInside)
    }
    return count
  }

  /** Counts what became of each staged entry. */
  private settle(direction: number, entries: Entries): void {
    for (let i = 0; i < entries.count; i++) {
      const errno = entries.result(i)
      const verdict =
        errno === 0 ? FORWARD : direction === EGRESS ? sendVerdict(errno) : writeVerdict(errno)
      this.counters.add(direction, verdict, entries.packets(i), entries.bytes(i))
    }
  }
}

/** Bytes per slot: headroom, headers and a packet, with room to spare so that a longer datagram shows. */
function slotSizeFor(mtu: number, encap: Encap): number {
  return (HEADROOM + encap.headerLen + mtu + 64) & ~63
}

/**
 * Memory for an engine's packets: a batch from each side and the ICMP errors.
 * @param mtu  MTU of the TUN device, bytes
 */
export function createEngineArena(mtu: number, encap: Encap): Arena {
  return createArena(new ArrayBuffer(2 * BATCH_SIZE * slotSizeFor(mtu, encap) + ICMP_ARENA_BYTES))
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
