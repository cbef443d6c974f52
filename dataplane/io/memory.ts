/**
 * An inside device and an outside port that live in memory: what the engine is tested on, and what
 * replays run on. Bytes put in on one side come out on the other, copied, in order.
 *
 * Both behave as their Linux models where the engine can see it: queues are bounded, a full one
 * answers EAGAIN; the inside device takes only IP packets; the outside port refuses datagrams that
 * UDP cannot carry and cuts trains into datagrams.
 */
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import type { InsideDevice, OutsidePort } from './device.js'
import { decodeName, EAGAIN, EDESTADDRREQ, EINVAL, EMSGSIZE, type Endpoint } from './endpoint.js'
import { cut, gatherEntry, packetMessage, putRow, type Message } from './message.js'

/** Packets per queue unless told otherwise: the length of a TUN device's queue in Linux (drivers/net/tun.c). */
export const DEFAULT_QUEUE_LEN = 500

/** The largest UDP payload over IPv4: 65535 − 20 − 8 bytes. */
const MAX_DATAGRAM = 65507

/** A datagram that the engine sent. */
export interface SentDatagram {
  readonly bytes: Uint8Array
  readonly to: Endpoint
}

/** Makes the next entries fail with an errno, as a kernel short of memory or a dead peer would. */
class Refusals {
  private errno = 0
  private left = 0

  set(errno: number, times: number): void {
    this.errno = errno
    this.left = times
  }

  /** @returns the errno to answer the next entry with, 0 = treat it normally */
  next(): number {
    if (this.left === 0) return 0
    this.left--
    return this.errno
  }
}

export class MemoryInside implements InsideDevice {
  private readonly arena: Arena
  private readonly capacity: number
  private readonly waiting: Message[] = []
  private written: Uint8Array[] = []
  private readonly refusals = new Refusals()

  /**
   * @param arena     the memory that entries point into
   * @param capacity  packets each queue holds
   */
  constructor(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN) {
    this.arena = arena
    this.capacity = capacity
  }

  /**
   * Queues a packet for the engine to read, as the kernel does when it routes one to the device.
   * Copies the bytes. @returns false when the queue is full and the packet is dropped
   */
  inject(packet: Uint8Array): boolean {
    if (this.waiting.length >= this.capacity) return false
    this.waiting.push(packetMessage(packet.slice()))
    return true
  }

  /** Packets that the engine wrote since the last call, oldest first. */
  drain(): Uint8Array[] {
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
    this.refusals.set(errno, times)
  }

  read(batch: Batch): number {
    return fillBatch(batch, this.waiting)
  }

  write(entries: Entries): void {
    for (let i = 0; i < entries.count; i++) entries.setResult(i, this.take(entries, i))
  }

  private take(entries: Entries, i: number): number {
    const refusal = this.refusals.next()
    if (refusal !== 0) return refusal
    const packet = gatherEntry(this.arena, entries, i)
    // A TUN without packet information tells the protocol by the first nibble (tun_get_user).
    const version = (packet[0] ?? 0) >> 4
    if (version !== 4 && version !== 6) return EINVAL
    if (this.written.length >= this.capacity) return EAGAIN
    this.written.push(packet)
    return 0
  }
}

export class MemoryOutside implements OutsidePort {
  private readonly arena: Arena
  private readonly capacity: number
  private readonly waiting: Message[] = []
  private sent: SentDatagram[] = []
  private readonly refusals = new Refusals()

  /**
   * @param arena     the memory that entries point into
   * @param capacity  datagrams each queue holds
   */
  constructor(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN) {
    this.arena = arena
    this.capacity = capacity
  }

  /**
   * Queues a datagram for the engine to receive. Copies the bytes.
   * @param from  its outer source
   * @returns     false when the queue is full and the datagram is dropped
   */
  inject(datagram: Uint8Array, from: Endpoint): boolean {
    if (this.waiting.length >= this.capacity) return false
    this.waiting.push({ bytes: datagram.slice(), from, isTruncated: false, socket: 0 })
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
    this.refusals.set(errno, times)
  }

  receive(batch: Batch): number {
    return fillBatch(batch, this.waiting)
  }

  send(entries: Entries, names: Uint8Array): void {
    for (let i = 0; i < entries.count; i++) entries.setResult(i, this.take(entries, i, names))
  }

  private take(entries: Entries, i: number, names: Uint8Array): number {
    const refusal = this.refusals.next()
    if (refusal !== 0) return refusal
    if (entries.name(i) < 0) return EDESTADDRREQ
    const to = decodeName(names, entries.name(i))
    // The kernel refuses a destination port of 0 (udp_sendmsg).
    if (to === null || to.port === 0) return EINVAL
    const bytes = gatherEntry(this.arena, entries, i)
    if (bytes.length > MAX_DATAGRAM) return EMSGSIZE
    const datagrams = cut(bytes, entries.segment(i))
    if (this.sent.length + datagrams.length > this.capacity) return EAGAIN
    for (const datagram of datagrams) this.sent.push({ bytes: datagram, to })
    return 0
  }
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
 */
export function createMemoryPair(arena: Arena, capacity: number = DEFAULT_QUEUE_LEN): MemoryPair {
  return {
    inside: new MemoryInside(arena, capacity),
    outside: new MemoryOutside(arena, capacity),
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
