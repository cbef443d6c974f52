/**
 * Entries: what the engine hands to a device to send or write, gathered from pieces of the arena.
 *
 * An entry is one system-level message (one `mmsghdr`, or one `writev`): a list of pieces, where it
 * goes, and how many packets and inner bytes it stands for, so that its result can be counted. A
 * run of equal-size packets is one entry with a segment size. Pieces and entries are flat
 * Int32Arrays that the native side reads directly; a test compares the field lists.
 *
 * Each entry owns a fixed range of pieces, so several entries can grow at a time: the open runs to
 * several peers, the open super-packets of several flows.
 */

/** Index of the entry's first piece. */
const FIRST = 0
/** Number of pieces. */
const PIECES = 1
/** Bytes of each packet of an entry that stands for several, 0 = it is one: UDP_SEGMENT. */
const SEGMENT = 2
/** Byte offset of the destination in the name table (see fib/nexthop.ts), −1 = none (TUN). */
const NAME = 3
/** After the call: 0 = sent or written, else the errno (positive) that this entry met. */
const RESULT = 4
/** Which of the port's sockets sends it, 0 where there is one. */
const SOCKET = 5
/** Packets the entry stands for (TypeScript only). */
const PACKETS = 6
/** Inner bytes the entry stands for (TypeScript only). */
const BYTES = 7
/** Bytes of all pieces (TypeScript only). */
const LEN = 8

/** Field numbers, by name, for the native side's twin test. */
export const ENTRY_FIELDS = { FIRST, PIECES, SEGMENT, NAME, RESULT, SOCKET } as const
/** Int32 values per entry, as a power of two. */
const SHIFT = 4
/** Int32 values per entry. */
export const ENTRY_STRIDE = 1 << SHIFT

export class Entries {
  readonly capacity: number
  /** Pieces an entry may have. */
  readonly piecesPerEntry: number
  readonly entries: Int32Array
  /** Pairs (byte offset in the arena, length). */
  readonly pieces: Int32Array
  count = 0

  /**
   * @param capacity        entries at most
   * @param piecesPerEntry  pieces of one entry at most
   */
  constructor(capacity: number, piecesPerEntry = 1) {
    this.capacity = capacity
    this.piecesPerEntry = piecesPerEntry
    this.entries = new Int32Array(capacity * ENTRY_STRIDE)
    this.pieces = new Int32Array(capacity * piecesPerEntry * 2)
    for (let i = 0; i < capacity; i++) this.entries[i * ENTRY_STRIDE + FIRST] = i * piecesPerEntry
  }

  clear(): void {
    this.count = 0
  }

  isFull(): boolean {
    return this.count === this.capacity
  }

  /** Entries that can still be begun. */
  room(): number {
    return this.capacity - this.count
  }

  /**
   * Begins an entry without pieces. The caller has looked whether there is room.
   * @param name    destination's offset in the name table, −1 = none
   * @param socket  which of the port's sockets sends it
   * @returns       its index
   */
  begin(name: number, socket = 0): number {
    const i = this.count++
    const e = i << SHIFT
    const { entries } = this
    entries[e + PIECES] = 0
    entries[e + SEGMENT] = 0
    entries[e + NAME] = name
    entries[e + RESULT] = 0
    entries[e + SOCKET] = socket
    entries[e + PACKETS] = 0
    entries[e + BYTES] = 0
    entries[e + LEN] = 0
    return i
  }

  /** Appends a piece to an entry that has room for it. Borrows the bytes until the flush. */
  addPiece(i: number, at: number, len: number): void {
    const e = i << SHIFT
    const { entries, pieces } = this
    const count = entries[e + PIECES] ?? 0
    const p = ((entries[e + FIRST] ?? 0) + count) << 1
    pieces[p] = at
    pieces[p + 1] = len
    entries[e + PIECES] = count + 1
    entries[e + LEN] = (entries[e + LEN] ?? 0) + len
  }

  /** Lets a piece be elsewhere. */
  movePiece(p: number, at: number): void {
    this.pieces[p << 1] = at
  }

  /** Counts one more packet of so many inner bytes to an entry. */
  addPacket(i: number, bytes: number): void {
    const e = i << SHIFT
    const { entries } = this
    entries[e + PACKETS] = (entries[e + PACKETS] ?? 0) + 1
    entries[e + BYTES] = (entries[e + BYTES] ?? 0) + bytes
  }

  /**
   * Appends a packet in one piece, and counts it.
   * @param bytes  inner bytes of it
   */
  append(i: number, at: number, len: number, bytes: number): void {
    const e = i << SHIFT
    const { entries, pieces } = this
    const count = entries[e + PIECES] ?? 0
    const p = ((entries[e + FIRST] ?? 0) + count) << 1
    pieces[p] = at
    pieces[p + 1] = len
    entries[e + PIECES] = count + 1
    entries[e + LEN] = (entries[e + LEN] ?? 0) + len
    entries[e + PACKETS] = (entries[e + PACKETS] ?? 0) + 1
    entries[e + BYTES] = (entries[e + BYTES] ?? 0) + bytes
  }

  /** Makes an entry a run or a super-packet: it is cut into datagrams or payloads of so many bytes. */
  setSegment(i: number, size: number): void {
    this.entries[(i << SHIFT) + SEGMENT] = size
  }

  /**
   * Appends an entry of one piece that stands for one packet. Borrows the bytes until the flush.
   * @param at     first byte to send
   * @param len    bytes to send
   * @param name   destination's offset in the name table, −1 = none
   * @param bytes  inner bytes the entry stands for
   */
  add(at: number, len: number, name: number, bytes: number): void {
    this.append(this.begin(name), at, len, bytes)
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
  socket(i: number): number {
    return this.field(i, SOCKET)
  }
  packets(i: number): number {
    return this.field(i, PACKETS)
  }
  bytes(i: number): number {
    return this.field(i, BYTES)
  }
  /** Bytes of all pieces of an entry. */
  len(i: number): number {
    return this.field(i, LEN)
  }
  /** Records the errno (positive; 0 = done) of an entry; devices in TypeScript use it as the native side does. */
  setResult(i: number, errno: number): void {
    this.entries[(i << SHIFT) + RESULT] = errno
  }

  private field(i: number, field: number): number {
    return this.entries[(i << SHIFT) + field] ?? 0
  }
}
