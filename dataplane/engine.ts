/**
 * The engine: one breath moves at most one batch in each direction.
 *
 *     read TUN → egress → send → receive → ingress → write TUN → ICMP errors → counters
 *
 * It is handed its devices, table and clock, so that the daemon, `heddle replay`, the demo and the
 * tests all run this same code. Each step is bounded, so neither direction can starve the other.
 */
import { BREATHS, EGRESS, INGRESS, READ, type Counters } from './counters.js'
import { Sender, Writer } from './delivery.js'
import { createEgress, type Egress } from './egress.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import { ICMP_ARENA_BYTES, IcmpErrors, type IcmpPort } from './icmp.js'
import { createIcmp4 } from './icmp4.js'
import { createIcmp6 } from './icmp6.js'
import { createIngress, type Ingress } from './ingress.js'
import {
  createIngressCheck,
  type IngressCheck,
  type IngressCheckOptions,
  type OnRefused,
} from './ingress-check.js'
import type { InsideDevice, OutsidePort } from './io/device.js'
import { createCoalescer, PIECES_PER_ENTRY, vnetBytes } from './offload/coalesce.js'
import { NeighbourAnswers, NEIGHBOURS_ARENA_BYTES, type Vtep } from './neighbours.js'
import type { OffloadOptions, OnGivenUp } from './offload/offload.js'
import { Runs } from './offload/runs.js'
import { createSegmenter, HEADER_SLOT, type Segmenter } from './offload/segment.js'
import type { Sums } from './offload/sums.js'
import { createArena, type Arena } from './packet/arena.js'
import { Entries } from './packet/entries.js'
import { BATCH_SIZE, Intake } from './packet/intake.js'
import { HEADROOM, MAX_PACKET } from './packet/layout.js'

export interface EngineOptions {
  /** What {@link createEngineArena} made for the same MTU and encapsulation; the devices use it too. */
  readonly arena: Arena
  readonly inside: InsideDevice
  readonly outside: OutsidePort
  /** Where ICMP errors to the senders of IPv4 packets leave. */
  readonly icmp: IcmpPort
  /** Where ICMPv6 errors leave, and the 16 bytes of the address that they come from; default nowhere. */
  readonly icmp6?: { readonly port: IcmpPort; readonly source: Uint8Array }
  readonly fib: FibReader
  readonly hops: HopTable
  readonly encap: Encap
  readonly offload: OffloadOptions
  readonly sums: Sums
  readonly counters: Counters
  /** MTU of the TUN device, bytes. */
  readonly mtu: number
  /**
   * MTU of the pods behind it, default that of the device: what super-packets of a kernel, which do not
   * tell the size of their segments, are cut to.
   */
  readonly podMtu?: number
  /** Whether the network has IPv6. */
  readonly hasIpv6: boolean
  /** Sockets that the outside port sends from: 1, the default, or a power of two up to MAX_SOCKETS. */
  readonly sockets?: number
  /** Who may send packets with which sources. */
  readonly ingressCheck: IngressCheckOptions
  /** Address bits of the own subnet's base address, from which ICMP errors come; null = none are sent. */
  readonly localAddress: number | null
  /** The own tunnel endpoint, for whose MAC address peers may ask; default none. */
  readonly vtep?: Vtep
  /** Milliseconds that never go back; the rate limits live by it. */
  readonly now: () => number
  /** Told once when an offload is given up because the kernel refuses it; default nobody. */
  readonly onGivenUp?: OnGivenUp
  /** Told now and then of a packet that the ingress check refused; default nobody. */
  readonly onRefused?: OnRefused
}

export class Engine {
  /** Bytes at the start of the arena that hold nothing between two breaths: the slots of packets. */
  readonly slotBytes: number
  private readonly inside: InsideDevice
  private readonly outside: OutsidePort
  private readonly fib: FibReader
  private readonly hosts: FibReader
  private readonly check: IngressCheck
  private readonly counters: Counters
  private readonly now: () => number
  private readonly icmp: IcmpErrors
  private readonly neighbours: NeighbourAnswers | null
  private readonly egress: Egress
  private readonly ingress: Ingress
  private readonly segmenter: Segmenter
  private readonly runs: Runs
  private readonly sender: Sender
  private readonly writer: Writer
  private readonly fromInside: Intake
  private readonly fromOutside: Intake
  private isDrained = false

  constructor(options: EngineOptions) {
    const { arena, fib, hops, encap, counters, mtu, sums, offload } = options
    const place = createLayout(mtu, encap, offload)
    this.slotBytes = place.icmp
    this.inside = options.inside
    this.outside = options.outside
    this.fib = fib
    this.hosts = options.ingressCheck.hosts
    this.check = createIngressCheck({
      arena,
      fib,
      hops,
      counters,
      options: options.ingressCheck,
      onRefused: options.onRefused ?? ignore,
    })
    this.counters = counters
    this.now = options.now
    this.fromInside = new Intake(arena, place.inside, place.insideSlot)
    this.fromOutside = new Intake(arena, place.outside, place.outsideSlot)
    const { localAddress, icmp, icmp6 } = options
    this.icmp = new IcmpErrors(
      arena,
      place.icmp,
      mtu,
      localAddress === null ? null : { protocol: createIcmp4(localAddress), port: icmp },
      icmp6 === undefined ? null : { protocol: createIcmp6(icmp6.source), port: icmp6.port },
      counters,
    )
    this.neighbours =
      options.vtep === undefined
        ? null
        : new NeighbourAnswers({
            arena,
            base: place.neighbours,
            vtep: options.vtep,
            ipv4: localAddress,
            ipv6: icmp6?.source ?? null,
            check: this.check,
            port: options.outside,
            counters,
          })
    this.segmenter = createSegmenter(arena, place.headers, HEADER_SLOTS, sums)
    const toOutside = new Entries(OUTSIDE_ENTRIES, PIECES_PER_RUN)
    const toInside = new Entries(INSIDE_ENTRIES, PIECES_PER_ENTRY)
    this.runs = new Runs(toOutside, offload.maxRun)
    const coalescer = createCoalescer(
      arena,
      toInside,
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
      out: toOutside,
      runs: this.runs,
      segmenter: this.segmenter,
      hasVnet: offload.hasVnet,
      hasIpv6: options.hasIpv6,
      sockets: options.sockets ?? 1,
    })
    this.ingress = createIngress({
      arena,
      fib,
      hops,
      encap,
      icmp: this.icmp,
      counters,
      sums,
      mtu,
      podMtu: options.podMtu ?? mtu,
      out: toInside,
      coalescer,
      check: this.check,
      neighbours: this.neighbours,
      hasIpv6: options.hasIpv6,
      hasVnet: offload.hasVnet,
      segmenter: this.segmenter,
    })
    const onGivenUp = options.onGivenUp ?? ignore
    const { inside, outside } = options
    this.sender = new Sender({
      arena,
      port: outside,
      hops,
      headerLen: encap.headerLen,
      out: toOutside,
      runs: this.runs,
      icmp: this.icmp,
      counters,
      onGivenUp,
    })
    this.writer = new Writer(inside, toInside, coalescer, counters, onGivenUp)
  }

  /**
   * Moves what waits, at most one batch per direction.
   * @param hasInside   whether the inside device may have something
   * @param hasOutside  whether the outside port may have something
   * @returns packets read; 0 = nothing waited, time to block
   * @throws  when a device itself is gone, never about a packet
   */
  breath(hasInside = true, hasOutside = true): number {
    const nowMs = this.now()
    this.icmp.tick(nowMs)
    this.runs.tick(nowMs)
    this.check.tick(nowMs)
    this.neighbours?.tick(nowMs)
    this.fib.enter()
    this.hosts.enter()
    this.isDrained = true
    const moved = (hasInside ? this.breatheOut() : 0) + (hasOutside ? this.breatheIn() : 0)
    this.icmp.flush()
    this.neighbours?.flush()
    this.hosts.leave()
    this.fib.leave()
    if (moved > 0) this.counters.gauge(BREATHS, 1)
    return moved
  }

  /** Whether the last breath took all that waited where it looked, so that looking again is in vain. */
  get hasTakenAll(): boolean {
    return this.isDrained
  }

  /** inside → outside. */
  private breatheOut(): number {
    const batch = this.fromInside.next()
    const count = this.inside.read(batch)
    if (count === 0) return 0
    if (count === batch.capacity) this.isDrained = false
    const before = this.counters.gaugeValue(READ + EGRESS)
    this.counters.gauge(READ + EGRESS, count)
    this.egress.begin()
    while (this.egress.run(batch)) this.flushOut()
    this.flushOut()
    this.fromInside.note(count, this.counters.gaugeValue(READ + EGRESS) - before)
    return count
  }

  /** outside → inside. */
  private breatheIn(): number {
    const batch = this.fromOutside.next()
    const count = this.outside.receive(batch)
    if (count === 0) return 0
    if (count === batch.capacity) this.isDrained = false
    const before = this.counters.gaugeValue(READ + INGRESS)
    this.counters.gauge(READ + INGRESS, count)
    this.ingress.begin(batch)
    while (this.ingress.run(batch)) this.flushIn()
    this.flushIn()
    this.fromOutside.note(count, this.counters.gaugeValue(READ + INGRESS) - before)
    return count
  }

  private flushIn(): void {
    this.writer.flush()
    this.segmenter.clear()
  }

  private flushOut(): void {
    this.sender.flush()
    this.segmenter.clear()
  }
}

/** What an engine does about news that nobody wants to hear. */
function ignore(): void {
  // It is counted.
}

/** Pieces of a run: headers and payload of up to 128 packets. */
const PIECES_PER_RUN = 256
/** Entries between two sends; more packets than they hold go in the next one. */
const OUTSIDE_ENTRIES = 256
/** Entries between two writes, likewise. */
const INSIDE_ENTRIES = 512
/** Segments between two sends: those of 40 super-packets of 64 KiB. */
const HEADER_SLOTS = 2048

/** Where everything lies in the engine's arena. */
function createLayout(mtu: number, encap: Encap, offload: OffloadOptions) {
  const insideSlot = slotSizeFor(offload.hasVnet ? MAX_PACKET : mtu, encap)
  const takesLong = offload.hasTrains || encap.takesUnfinished
  const outsideSlot = slotSizeFor(takesLong ? MAX_PACKET : mtu, encap)
  // An inner packet that arrives begins at a multiple of 4, as one from the TUN does.
  const outside = BATCH_SIZE * insideSlot + (-encap.headerLen & 3)
  const icmp = (outside + BATCH_SIZE * outsideSlot + 3) & ~3
  const neighbours = icmp + ICMP_ARENA_BYTES
  const headers = neighbours + NEIGHBOURS_ARENA_BYTES
  const vnet = headers + HEADER_SLOTS * HEADER_SLOT
  const bytes = vnet + vnetBytes(INSIDE_ENTRIES)
  return { inside: 0, insideSlot, outside, outsideSlot, icmp, neighbours, headers, vnet, bytes }
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
