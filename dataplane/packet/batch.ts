/**
 * A batch: the packets that one read of a device brought in, as parallel columns.
 *
 * Each row owns one slot of the arena for the life of the batch; `rewind()` hands all slots back to
 * the device for the next read. Whoever reads a batch borrows its packets until then.
 *
 * All columns lie in one Int32Array, column after column, so that one argument carries them over
 * the native boundary: value = columns[COLUMN * capacity + row]. The native side writes the same
 * columns by number; a test compares both lists.
 */
import type { Arena } from './arena.js'
import { HEADROOM } from './layout.js'

/** Byte offset of the packet in the arena; a read through a ring may exchange those of two rows. */
const AT = 0
/** Bytes of the packet; of a datagram that did not fit its slot, the bytes that were stored. */
const LEN = 1
/** Segment size of a datagram train merged by UDP GRO; 0 = a single datagram. */
const SEGMENT = 2
/** 1 = the datagram was longer than its slot (MSG_TRUNC). */
const TRUNCATED = 3
/** Index of the socket it came in on. */
const SOCKET = 4
/** Address family of the outer source: 4 or 6; 0 = none (a packet from a TUN). */
const FAMILY = 5
/** UDP port of the outer source, host order. */
const PORT = 6
/** Outer source address: SRC for IPv4 as address bits (int32, host order); SRC..SRC+3 for IPv6, most significant first. */
const SRC = 7

/** Column numbers, by name, for the native side's twin test. */
export const BATCH_COLUMNS = { AT, LEN, SEGMENT, TRUNCATED, SOCKET, FAMILY, PORT, SRC } as const
export const BATCH_COLUMN_COUNT = 11

export class Batch {
  readonly arena: Arena
  readonly capacity: number
  /** Bytes a packet may have in its slot (headroom not counted). */
  readonly room: number
  readonly columns: Int32Array
  /** Packets in the batch: rows 0 .. count − 1. */
  count = 0

  /**
   * @param arena     memory that holds the slots
   * @param base      byte offset of the first slot in the arena
   * @param capacity  number of slots
   * @param slotSize  bytes per slot, headroom included
   * @throws RangeError when the slots do not fit the arena
   */
  constructor(arena: Arena, base: number, capacity: number, slotSize: number) {
    if (base + capacity * slotSize > arena.bytes.length || slotSize <= HEADROOM) {
      throw new RangeError(
        `${String(capacity)} slots of ${String(slotSize)} bytes do not fit the arena`,
      )
    }
    this.arena = arena
    this.capacity = capacity
    this.room = slotSize - HEADROOM
    this.columns = new Int32Array(capacity * BATCH_COLUMN_COUNT)
    for (let row = 0; row < capacity; row++) {
      this.columns[AT * capacity + row] = base + row * slotSize + HEADROOM
    }
  }

  /**
   * Empties the batch: every slot is free again. A read may exchange the slots of two rows; where a packet begins
   * in its slot never changes.
   */
  rewind(): void {
    this.count = 0
  }

  at(row: number): number {
    return this.column(AT, row)
  }
  len(row: number): number {
    return this.column(LEN, row)
  }
  segment(row: number): number {
    return this.column(SEGMENT, row)
  }
  isTruncated(row: number): boolean {
    return this.column(TRUNCATED, row) !== 0
  }
  socket(row: number): number {
    return this.column(SOCKET, row)
  }
  family(row: number): number {
    return this.column(FAMILY, row)
  }
  port(row: number): number {
    return this.column(PORT, row)
  }
  /** Word 0..3 of the outer source address; IPv4 has word 0 only. */
  source(row: number, word: number): number {
    return this.column(SRC + word, row)
  }

  /** Describes a row that a device in TypeScript filled (memory pair, capture); the native side writes the columns itself. */
  fill(
    row: number,
    len: number,
    truncated: boolean,
    family: number,
    src: number,
    port: number,
  ): void {
    this.set(LEN, row, len)
    this.set(SEGMENT, row, 0)
    this.set(TRUNCATED, row, truncated ? 1 : 0)
    this.set(SOCKET, row, 0)
    this.set(FAMILY, row, family)
    this.set(SRC, row, src)
    this.set(PORT, row, port)
  }

  private column(column: number, row: number): number {
    return this.columns[column * this.capacity + row] ?? 0
  }
  private set(column: number, row: number, value: number): void {
    this.columns[column * this.capacity + row] = value
  }
}
