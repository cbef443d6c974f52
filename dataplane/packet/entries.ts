/**
 * Entries: what the engine hands to a device to send or write, gathered from pieces of the arena.
 *
 * An entry is one system-level message (one `mmsghdr`, or one `writev`): a list of pieces, where it
 * goes, and how many packets and inner bytes it stands for, so that its result can be counted. A
 * run of equal-size packets is one entry with a segment size. Pieces and entries are flat
 * Int32Arrays that the native side reads directly; a test compares the field lists.
 */

/** Index of the entry's first piece. */
const FIRST = 0
/** Number of pieces. */
const PIECES = 1
/** UDP_SEGMENT size, 0 = one datagram. */
const SEGMENT = 2
/** Byte offset of the destination in the name table (see fib/nexthop.ts), −1 = none (TUN). */
const NAME = 3
/** After the call: 0 = sent or written, else the errno (positive) that this entry met. */
const RESULT = 4
/** Packets the entry stands for (TypeScript only). */
const PACKETS = 5
/** Inner bytes the entry stands for (TypeScript only). */
const BYTES = 6

/** Field numbers, by name, for the native side's twin test. */
export const ENTRY_FIELDS = { FIRST, PIECES, SEGMENT, NAME, RESULT } as const
/** Int32 values per entry. */
export const ENTRY_STRIDE = 8

export class Entries {
  readonly capacity: number
  readonly entries: Int32Array
  /** Pairs (byte offset in the arena, length). */
  readonly pieces: Int32Array
  count = 0
  pieceCount = 0
  private readonly maxPieces: number

  /**
   * @param capacity   entries at most
   * @param maxPieces  pieces at most, over all entries
   */
  constructor(capacity: number, maxPieces: number = capacity) {
    this.capacity = capacity
    this.maxPieces = maxPieces
    this.entries = new Int32Array(capacity * ENTRY_STRIDE)
    this.pieces = new Int32Array(maxPieces * 2)
  }

  clear(): void {
    this.count = 0
    this.pieceCount = 0
  }

  isFull(): boolean {
    return this.count === this.capacity || this.pieceCount === this.maxPieces
  }

  /**
   * Appends an entry of one piece that stands for one packet. Borrows the bytes until the flush.
   * @param at     first byte to send
   * @param len    bytes to send
   * @param name   destination's offset in the name table, −1 = none
   * @param bytes  inner bytes the entry stands for
   */
  add(at: number, len: number, name: number, bytes: number): void {
    const e = this.count * ENTRY_STRIDE
    this.pieces[this.pieceCount * 2] = at
    this.pieces[this.pieceCount * 2 + 1] = len
    this.entries[e + FIRST] = this.pieceCount
    this.entries[e + PIECES] = 1
    this.entries[e + SEGMENT] = 0
    this.entries[e + NAME] = name
    this.entries[e + RESULT] = 0
    this.entries[e + PACKETS] = 1
    this.entries[e + BYTES] = bytes
    this.pieceCount++
    this.count++
  }

  firstPiece(i: number): number {
    return this.field(i, FIRST)
  }
  pieceTotal(i: number): number {
    return this.field(i, PIECES)
  }
  pieceAt(p: number): number {
    return this.pieces[p * 2] ?? 0
  }
  pieceLen(p: number): number {
    return this.pieces[p * 2 + 1] ?? 0
  }
  segment(i: number): number {
    return this.field(i, SEGMENT)
  }
  name(i: number): number {
    return this.field(i, NAME)
  }
  result(i: number): number {
    return this.field(i, RESULT)
  }
  packets(i: number): number {
    return this.field(i, PACKETS)
  }
  bytes(i: number): number {
    return this.field(i, BYTES)
  }
  /** Records the errno (positive; 0 = done) of an entry; devices in TypeScript use it as the native side does. */
  setResult(i: number, errno: number): void {
    this.entries[i * ENTRY_STRIDE + RESULT] = errno
  }

  private field(i: number, field: number): number {
    return this.entries[i * ENTRY_STRIDE + field] ?? 0
  }
}
