/**
 * Intake: the batches that one device's reads go to, of different sizes over the same slots.
 *
 * A row is one packet, or a train or super-packet that stands for many. A read takes fewer rows while
 * rows have been many packets each, so that it never brings in more work than a moment's: neither the
 * other direction nor a changed route waits for it. The memory that is touched stays small, too.
 */
import type { Arena } from './arena.js'
import { Batch } from './batch.js'

/** Packets that a read should bring in at most; more only as long as it is not known what comes. */
const TARGET = 256

// Rows of a read: while a row stands for up to 4 packets, up to 16, or more.
const MANY = 64
const SOME = 16
/** Rows of the smallest batch; those of the larger ones are multiples of it. */
export const FEW = 4

/** Rows of a read at most, and slots of a device. */
export const BATCH_SIZE = MANY

export class Intake {
  private readonly many: Batch
  private readonly some: Batch
  private readonly few: Batch
  private current: Batch

  /**
   * @param base      byte offset of the first of BATCH_SIZE slots in the arena
   * @param slotSize  bytes per slot
   */
  constructor(arena: Arena, base: number, slotSize: number) {
    this.many = new Batch(arena, base, MANY, slotSize)
    this.some = new Batch(arena, base, SOME, slotSize)
    this.few = new Batch(arena, base, FEW, slotSize)
    this.current = this.many
  }

  /** The batch for the next read, empty. What an earlier one held is gone. */
  next(): Batch {
    this.current.rewind()
    return this.current
  }

  /** Takes note of what a read brought in. @param packets  that its rows stand for */
  note(rows: number, packets: number): void {
    this.current =
      packets * MANY <= TARGET * rows
        ? this.many
        : packets * SOME <= TARGET * rows
          ? this.some
          : this.few
  }
}
