/**
 * Captures as devices: the engine reads what a capture holds and what it writes goes to a sink,
 * for instance another capture. Packets come as fast as they are read, without regard to their
 * times.
 *
 * The inside device takes each frame's IP packet; the outside port takes each frame's datagram to
 * its UDP port, with the outer source it was captured with. Frames that hold neither are skipped
 * and counted.
 */
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import { datagramOf, packetOf, type Found } from './capture-frame.js'
import type { InsideDevice, OutsidePort } from './device.js'
import { decodeName, EINVAL } from './endpoint.js'
import type { SentDatagram } from './memory.js'
import { cut, gatherEntry, packetMessage, putRow, type Message } from './message.js'
import type { PcapRecord } from './pcap-format.js'

/** What a capture device needs of a capture: its link type and its frames. */
export interface Frames {
  readonly linkType: number
  readonly records: Iterable<Pick<PcapRecord, 'bytes'>>
}

/** Hands out messages of a capture, batch by batch. */
class Source {
  skipped = 0
  private readonly messages: Iterator<Found<Message>>

  constructor(frames: Frames, find: (frame: Uint8Array) => Found<Message>) {
    this.messages = (function* () {
      for (const { bytes } of frames.records) yield find(bytes)
    })()
  }

  fill(batch: Batch): number {
    batch.count = 0
    while (batch.count < batch.capacity) {
      const next = this.messages.next()
      if (next.done === true) break
      if ('reason' in next.value) {
        this.skipped++
      } else {
        putRow(batch, batch.count, next.value.found)
        batch.count++
      }
    }
    return batch.count
  }
}

export class CaptureInside implements InsideDevice {
  private readonly arena: Arena
  private readonly source: Source
  private readonly sink: (packet: Uint8Array) => void

  /**
   * @param arena   the memory that entries point into
   * @param frames  what the engine reads
   * @param sink    takes ownership of each packet that the engine writes
   */
  constructor(arena: Arena, frames: Frames, sink: (packet: Uint8Array) => void) {
    this.arena = arena
    this.sink = sink
    this.source = new Source(frames, (frame) => {
      const packet = packetOf(frames.linkType, frame)
      return 'reason' in packet ? packet : { found: packetMessage(packet.found) }
    })
  }

  /** Frames without an IP packet, so far. */
  get skipped(): number {
    return this.source.skipped
  }

  read(batch: Batch): number {
    return this.source.fill(batch)
  }

  write(entries: Entries, first = 0): number {
    for (let i = first; i < entries.count; i++) {
      this.sink(gatherEntry(this.arena, entries, i))
      entries.setResult(i, 0)
    }
    return entries.count
  }
}

export class CaptureOutside implements OutsidePort {
  private readonly arena: Arena
  private readonly source: Source
  private readonly sink: (datagram: SentDatagram) => void

  /**
   * @param arena   the memory that entries point into
   * @param frames  what the engine receives
   * @param port    UDP port to which datagrams must go
   * @param sink    takes ownership of each datagram that the engine sends
   */
  constructor(arena: Arena, frames: Frames, port: number, sink: (datagram: SentDatagram) => void) {
    this.arena = arena
    this.sink = sink
    this.source = new Source(frames, (frame) => {
      const packet = packetOf(frames.linkType, frame)
      if ('reason' in packet) return packet
      const datagram = datagramOf(packet.found, port)
      if ('reason' in datagram) return datagram
      const { payload, from } = datagram.found
      return { found: { bytes: payload, from, isTruncated: false, socket: 0 } }
    })
  }

  /** Frames without a datagram to the port, so far. */
  get skipped(): number {
    return this.source.skipped
  }

  receive(batch: Batch): number {
    return this.source.fill(batch)
  }

  send(entries: Entries, names: Uint8Array, first = 0): number {
    for (let i = first; i < entries.count; i++) {
      const to = decodeName(names, entries.name(i))
      if (to !== null) {
        const bytes = gatherEntry(this.arena, entries, i)
        for (const datagram of cut(bytes, entries.segment(i))) this.sink({ bytes: datagram, to })
      }
      entries.setResult(i, to === null ? EINVAL : 0)
    }
    return entries.count
  }

  /** Nothing is too long here. */
  sendInFragments(entries: Entries, names: Uint8Array): void {
    this.send(entries, names)
  }

  /** There is no path. */
  pathRoom(): number {
    return 0
  }
}
