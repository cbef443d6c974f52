/**
 * An inside device and an outside port that live in memory: what the engine is tested on, and what
 * replays run on. Bytes put in on one side come out on the other, copied, in order.
 *
 * Both behave as their Linux models where the engine can see it: queues are bounded, a full one
 * answers EAGAIN; the inside device takes only IP packets, behind a virtio-net header that makes sense
 * if it is told to; the outside port refuses datagrams that UDP cannot carry and cuts runs into
 * datagrams.
 */
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import * as ipv4 from '../wire/ipv4.js'
import * as vnethdr from '../wire/vnethdr.js'
import type { InsideDevice, OutsidePort } from './device.js'
import { decodeName, EAGAIN, EDESTADDRREQ, EINVAL, EMSGSIZE, type Endpoint } from './endpoint.js'
import { cut, gatherEntry, packetMessage, putRow, type Message } from './message.js'
import { NarrowPaths, Refusals, takeEach } from './refusals.js'

/** Packets per queue unless told otherwise: the length of a TUN device's queue in Linux (drivers/net/tun.c). */
export const DEFAULT_QUEUE_LEN = 500

/** The largest UDP payload over IPv4: 65535 − 20 − 8 bytes. */
const MAX_DATAGRAM = 65507

/** Datagrams a run may have (UDP_MAX_SEGMENTS since Linux 6.10). */
const MAX_RUN = 128

/** A packet that the engine wrote to a device with virtio-net headers. */
export interface WrittenPacket {
  readonly vnet: Uint8Array
  readonly packet: Uint8Array
}

/** A datagram that the engine sent. */
export interface SentDatagram {
  readonly bytes: Uint8Array
  readonly to: Endpoint
}

export class MemoryInside implements InsideDevice {
  private readonly arena: Arena
  private readonly capacity: number
  private readonly hasVnet: boolean
  private readonly waiting: Message[] = []
  private written: WrittenPacket[] = []
  private readonly refusals = new Refusals()

  /**
   * @param arena     the memory that entries point into
   * @param capacity  packets each queue holds
   * @param hasVnet   whether a virtio-net header precedes each packet
   */
  constructor(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN, hasVnet = false) {
    this.arena = arena
    this.capacity = capacity
    this.hasVnet = hasVnet
  }

  /**
   * Queues a packet for the engine to read, as the kernel does when it routes one to the device.
   * Copies the bytes.
   * @param vnet  its virtio-net header, on a device that has them; left out = an ordinary packet
   * @returns     false when the queue is full and the packet is dropped
   */
  inject(packet: Uint8Array, vnet: Uint8Array = new Uint8Array(VNET_HDR_LEN)): boolean {
    if (this.waiting.length >= this.capacity) return false
    this.waiting.push(packetMessage(packet.slice(), this.hasVnet ? vnet.slice() : undefined))
    return true
  }

  /** Packets that the engine wrote since the last call, oldest first, without virtio-net headers. */
  drain(): Uint8Array[] {
    return this.drainWithHeaders().map(({ packet }) => packet)
  }

  /** The same with their virtio-net headers, which are empty on a device that has none. */
  drainWithHeaders(): WrittenPacket[] {
    const taken = this.written
    this.written = []
    return taken
  }

  /** Packets injected and not yet read. */
  get pending(): number {
    return this.waiting.length
  }

  /** Answers the next `times` written entries with a positive errno instead of taking them. */
  refuseNext(errno: number, times = 1): void {
    this.refusals.set(errno, times, false)
  }

  /** Answers the next `times` super-packets with a positive errno; other packets are taken. */
  refuseJoined(errno: number, times = 1): void {
    this.refusals.set(errno, times, true)
  }

  read(batch: Batch): number {
    return fillBatch(batch, this.waiting)
  }

  write(entries: Entries, first = 0): number {
    return takeEach(entries, first, (i) => this.take(entries, i))
  }

  private take(entries: Entries, i: number): number {
    const bytes = gatherEntry(this.arena, entries, i)
    const before = this.hasVnet ? VNET_HDR_LEN : 0
    const vnet = bytes.slice(0, before)
    const packet = bytes.slice(before)
    const view = new DataView(bytes.buffer)
    const isWhole = this.hasVnet && vnethdr.check(view, 0, bytes.length) === vnethdr.OK
    const isJoined = isWhole && vnethdr.gsoType(view, 0) !== vnethdr.GSO_NONE
    const refusal = this.refusals.next(isJoined)
    if (refusal !== 0) return refusal
    if (this.hasVnet && !isWhole) return EINVAL
    // A TUN without packet information tells the protocol by the first nibble (tun_get_user).
    const version = (packet[0] ?? 0) >> 4
    if (version !== 4 && version !== 6) return EINVAL
    if (this.written.length >= this.capacity) return EAGAIN
    this.written.push({ vnet, packet })
    return 0
  }
}

export class MemoryOutside implements OutsidePort {
  private readonly arena: Arena
  private readonly capacity: number
  private readonly waiting: Message[] = []
  private sent: SentDatagram[] = []
  private readonly refusals = new Refusals()
  private readonly narrowPaths = new NarrowPaths()
  private readonly hasPorts: boolean
  private mayFragment = false

  /**
   * @param arena     the memory that entries point into
   * @param capacity  datagrams each queue holds
   * @param hasPorts  whether destinations have UDP ports, as all have but those of a raw socket, which completes
   *                  the IPv4 header that its packets begin with
   */
  constructor(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN, hasPorts = true) {
    this.arena = arena
    this.capacity = capacity
    this.hasPorts = hasPorts
  }

  /**
   * Queues a datagram for the engine to receive. Copies the bytes.
   * @param from     its outer source
   * @param segment  bytes per datagram, if it is a train that UDP GRO merged; 0 = it is a single one
   * @returns        false when the queue is full and the datagram is dropped
   */
  inject(datagram: Uint8Array, from: Endpoint, segment = 0): boolean {
    if (this.waiting.length >= this.capacity) return false
    this.waiting.push({ bytes: datagram.slice(), from, isTruncated: false, socket: 0, segment })
    return true
  }

  /** Datagrams that the engine sent since the last call, oldest first. */
  drain(): SentDatagram[] {
    const taken = this.sent
    this.sent = []
    return taken
  }

  /** Datagrams injected and not yet received. */
  get pending(): number {
    return this.waiting.length
  }

  /** Answers the next `times` sent entries with a positive errno instead of taking them. */
  refuseNext(errno: number, times = 1): void {
    this.refusals.set(errno, times, false)
  }

  /** Answers the next `times` runs with a positive errno; single datagrams are taken. */
  refuseRuns(errno: number, times = 1): void {
    this.refusals.set(errno, times, true)
  }

  receive(batch: Batch): number {
    return fillBatch(batch, this.waiting)
  }

  send(entries: Entries, names: Uint8Array, first = 0): number {
    return takeEach(entries, first, (i) => this.take(entries, i, names))
  }

  /**
   * Makes the path to a peer too narrow for datagrams of more bytes than `room`: they are refused
   * unless they may be fragmented.
   * @param errno  what the answer to runs of them is: EMSGSIZE, or EINVAL as Linux before 6.14 says
   */
  narrowPath(to: Endpoint, room: number, errno = EMSGSIZE): void {
    this.narrowPaths.set(to, room, errno)
  }

  sendInFragments(entries: Entries, names: Uint8Array): void {
    this.mayFragment = true
    takeEach(entries, 0, (i) => this.take(entries, i, names))
    this.mayFragment = false
  }

  pathRoom(names: Uint8Array, name: number): number {
    const to = decodeName(names, name)
    return to === null ? 0 : Math.min(this.narrowPaths.room(to), MAX_DATAGRAM)
  }

  private take(entries: Entries, i: number, names: Uint8Array): number {
    const segment = entries.segment(i)
    const refusal = this.refusals.next(segment > 0)
    if (refusal !== 0) return refusal
    if (entries.name(i) < 0) return EDESTADDRREQ
    const to = decodeName(names, entries.name(i))
    // The kernel refuses a destination port of 0 (udp_sendmsg).
    if (to === null || (to.port === 0) === this.hasPorts) return EINVAL
    if (segment > this.narrowPaths.room(to)) return this.narrowPaths.errno(to)
    const bytes = gatherEntry(this.arena, entries, i)
    const room = this.mayFragment || segment > 0 ? MAX_DATAGRAM : this.narrowPaths.room(to)
    if (bytes.length > Math.min(room, MAX_DATAGRAM)) return EMSGSIZE
    const datagrams = cut(bytes, segment)
    if (datagrams.length > MAX_RUN) return EINVAL
    if (this.sent.length + datagrams.length > this.capacity) return EAGAIN
    if (!this.hasPorts) for (const packet of datagrams) completeHeader(packet)
    for (const datagram of datagrams) this.sent.push({ bytes: datagram, to })
    return 0
  }
}

/** What a raw socket does to an IPv4 header (raw(7), IP_HDRINCL), but for the source. */
function completeHeader(packet: Uint8Array): void {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length)
  ipv4.setTotalLen(view, 0, packet.length)
  ipv4.finishChecksum(view, 0)
}

/**
 * A raw IPv4 socket in memory: takes whole IP packets, header included, for a bare address. The
 * engine's ICMP errors leave by one.
 */
export class MemoryRaw {
  private readonly arena: Arena
  private readonly capacity: number
  private sent: SentDatagram[] = []

  /** Parameters as {@link MemoryOutside}. */
  constructor(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN) {
    this.arena = arena
    this.capacity = capacity
  }

  /** Packets that the engine sent since the last call, oldest first; their port is 0. */
  drain(): SentDatagram[] {
    const taken = this.sent
    this.sent = []
    return taken
  }

  send(entries: Entries, names: Uint8Array): void {
    for (let i = 0; i < entries.count; i++) {
      const to = decodeName(names, entries.name(i))
      const isFull = this.sent.length >= this.capacity
      if (to !== null && !isFull) this.sent.push({ bytes: gatherEntry(this.arena, entries, i), to })
      entries.setResult(i, to === null ? EINVAL : isFull ? EAGAIN : 0)
    }
  }
}

export interface MemoryPair {
  readonly inside: MemoryInside
  readonly outside: MemoryOutside
  /** Where ICMP errors go. */
  readonly raw: MemoryRaw
}

/**
 * An inside device and an outside port in memory, and the raw socket beside them.
 * @param arena     the engine's arena, into which its entries point
 * @param capacity  packets each queue holds, default 500
 * @param hasVnet   whether a virtio-net header precedes each packet inside, default not
 * @param hasPorts  whether destinations have UDP ports, default yes
 */
export function createMemoryPair(
  arena: Arena,
  capacity: number = DEFAULT_QUEUE_LEN,
  hasVnet = false,
  hasPorts = true,
): MemoryPair {
  return {
    inside: new MemoryInside(arena, capacity, hasVnet),
    outside: new MemoryOutside(arena, capacity, hasPorts),
    raw: new MemoryRaw(arena, capacity),
  }
}

function fillBatch(batch: Batch, waiting: Message[]): number {
  const taken = waiting.splice(0, batch.capacity)
  taken.forEach((message, row) => {
    putRow(batch, row, message)
  })
  batch.count = taken.length
  return taken.length
}
