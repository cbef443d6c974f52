/**
 * Fault wrappers: an inside device or an outside port on which packets get lost, doubled, reordered
 * or damaged on purpose, by seed. They wrap any device, memory or Linux; the engine cannot tell.
 *
 * Reading and writing are two lanes with random numbers of their own. A lost entry reports success,
 * as a network would. A packet held back to be overtaken leaves when others have come by, or when a
 * read finds nothing. Trains are taken apart: faults strike single datagrams.
 * This is a tool for tests: it copies and allocates per packet.
 */
import { NAME_SIZE } from '../fib/nexthop.js'
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import type { InsideDevice, OutsidePort } from './device.js'
import { FaultLane, type FaultCounts, type FaultOptions } from './fault-lane.js'
import { cut, gatherEntry, putRow, takeRow, type Message } from './message.js'

/** A wrapped device with what was done to its traffic. */
export interface Faulty {
  /** Faults on packets that the engine reads. */
  readonly readFaults: FaultCounts
  /** Faults on packets that the engine writes. */
  readonly writeFaults: FaultCounts
}

interface Outgoing {
  readonly bytes: Uint8Array
  /** The destination's name, copied; null = none. */
  readonly name: Uint8Array | null
}

/**
 * Wraps an inside device without virtio-net headers.
 * @param device   the device that does the work
 * @param arena    the arena that the engine's entries point into
 * @param options  which faults, how likely, by which seed; both directions alike
 * @throws         RangeError when a probability is not 0..1
 */
export function createFaultyInside(
  device: InsideDevice,
  arena: Arena,
  options: FaultOptions,
): InsideDevice & Faulty {
  const reader = new FaultyReader(options)
  const writer = new FaultyWriter(arena, options, (entries) => {
    device.write(entries)
  })
  return {
    readFaults: reader.lane.counts,
    writeFaults: writer.lane.counts,
    read: (batch) => {
      const count = reader.read(batch, () => device.read(batch))
      if (count === 0) writer.release()
      return count
    },
    write: (entries, first = 0) => writer.write(entries, first, null),
  }
}

/** Wraps an outside port; parameters as {@link createFaultyInside}. */
export function createFaultyOutside(
  port: OutsidePort,
  arena: Arena,
  options: FaultOptions,
): OutsidePort & Faulty {
  const reader = new FaultyReader(options)
  const writer = new FaultyWriter(arena, options, (entries, names) => {
    port.send(entries, names)
  })
  return {
    readFaults: reader.lane.counts,
    writeFaults: writer.lane.counts,
    receive: (batch) => {
      const count = reader.read(batch, () => port.receive(batch))
      if (count === 0) writer.release()
      return count
    },
    send: (entries, names, first = 0) => writer.write(entries, first, names),
    sendInFragments: (entries, names) => {
      port.sendInFragments(entries, names)
    },
    pathRoom: (names, name) => port.pathRoom(names, name),
  }
}

/** Takes what a device read out of the batch and puts back what the lane lets through. */
class FaultyReader {
  readonly lane: FaultLane<Message>
  private readonly ready: Message[] = []

  constructor(options: FaultOptions) {
    this.lane = new FaultLane(options)
  }

  read(batch: Batch, readDevice: () => number): number {
    // Doubled packets may be left over from the last read; then the device is left alone.
    // An answer of 0 must mean that nothing waits, so a batch that was lost whole is not the end.
    while (this.ready.length === 0) {
      const count = readDevice()
      for (let row = 0; row < count; row++) {
        for (const message of takeRow(batch, row)) this.ready.push(...this.lane.pass(message))
      }
      batch.rewind()
      if (count > 0) continue
      this.ready.push(...this.lane.release())
      break
    }
    const taken = this.ready.splice(0, batch.capacity)
    taken.forEach((message, row) => {
      putRow(batch, row, message)
    })
    batch.count = taken.length
    return taken.length
  }
}

/** Sends what the lane lets through, one entry a call, through a borrowed stretch of the arena. */
class FaultyWriter {
  readonly lane: FaultLane<Outgoing>
  private readonly arena: Arena
  private readonly one = new Entries(1)
  private readonly writeDevice: (entries: Entries, names: Uint8Array) => void

  constructor(
    arena: Arena,
    options: FaultOptions,
    writeDevice: (entries: Entries, names: Uint8Array) => void,
  ) {
    // The directions of one device must not suffer the same faults in step.
    this.lane = new FaultLane({ ...options, seed: ~options.seed })
    this.arena = arena
    this.writeDevice = writeDevice
  }

  write(entries: Entries, first: number, names: Uint8Array | null): number {
    for (let i = first; i < entries.count; i++) {
      const at = entries.name(i)
      const name = names !== null && at >= 0 ? names.slice(at, at + NAME_SIZE) : null
      let errno = 0
      for (const bytes of cut(gatherEntry(this.arena, entries, i), entries.segment(i))) {
        for (const outgoing of this.lane.pass({ bytes, name })) {
          errno = this.writeOne(outgoing) || errno
        }
      }
      entries.setResult(i, errno)
    }
    return entries.count
  }

  /** Writes everything held back. */
  release(): void {
    for (const outgoing of this.lane.release()) this.writeOne(outgoing)
  }

  /**
   * Writes one message: its bytes stand at the beginning of the arena for the time of the call, and
   * what was there returns afterwards, so that nothing the engine still borrows changes.
   */
  private writeOne({ bytes, name }: Outgoing): number {
    const { arena, one } = this
    const saved = arena.bytes.slice(0, bytes.length)
    arena.bytes.set(bytes, 0)
    one.clear()
    one.add(0, bytes.length, name === null ? -1 : 0, bytes.length)
    this.writeDevice(one, name ?? new Uint8Array(NAME_SIZE))
    arena.bytes.set(saved, 0)
    return one.result(0)
  }
}
