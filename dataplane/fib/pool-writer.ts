/**
 * Memory in blocks: a buddy allocator over one Int32Array that is reserved whole and touched only
 * as far as needed.
 *
 * Blocks are powers of two from 64 bytes to 4 KiB. Free neighbours join again, so that a table
 * whose nodes grow one route at a time does not leave its smaller selves behind. A block is *fresh*
 * from its allocation to `settle()`: no reader knows it yet, so it may be rewritten or dropped at
 * once. Free blocks carry their list links in their own first words; nobody reads them.
 *
 * A part of the reserve is kept for changes of existing routes, which therefore succeed in a table
 * that is full.
 */
import { BLOCK_SHIFT } from './layout.js'

const MIN_WORDS = 1 << BLOCK_SHIFT
const MAX_ORDER = 6
const CHUNK_WORDS = MIN_WORDS << MAX_ORDER

/** Size of the largest block in bytes; a reserve is a multiple of it. */
export const CHUNK_BYTES = CHUNK_WORDS * 4

/**
 * Chunks that only changes of existing routes may use: a removal copies at most the 256 children of
 * a node and the 16 nodes of a path.
 */
const SPARE_CHUNKS = 256 + 16

/** Least reserve in bytes: the spare chunks, the unused first one, and as much again to work with. */
export const MIN_RESERVE = CHUNK_BYTES * 2 * SPARE_CHUNKS

const ALLOCATED = 0x10
const FRESH = 0x20
const ORDER_MASK = 0x0f

export class BlockPool {
  /** Words of all blocks in use. */
  usedWords = 0
  private readonly words: Int32Array
  /** Per least block: order + 1 and flags at the start of a block, 0 inside one. */
  private readonly states: Uint8Array
  private readonly heads = new Int32Array(MAX_ORDER + 1)
  private freeChunks: number
  /** Everything from here on is untouched. */
  private frontier = CHUNK_WORDS
  private fresh: number[] = []

  /** @param words  memory, a multiple of CHUNK_BYTES; index 0 is never handed out */
  constructor(words: Int32Array) {
    this.words = words
    this.states = new Uint8Array(words.length / MIN_WORDS)
    this.freeChunks = words.length / CHUNK_WORDS - 1
  }

  /** Order of the least block that holds so many words. */
  static orderFor(words: number): number {
    return Math.max(0, 28 - Math.clz32(words - 1))
  }

  /** Words in a block of an order. */
  static wordsOf(order: number): number {
    return MIN_WORDS << order
  }

  /** Words that have been touched at some time. */
  get touchedWords(): number {
    return this.frontier - CHUNK_WORDS
  }

  /**
   * Takes a block; its old content is still in it.
   * @param order     see `orderFor`
   * @param useSpare  whether the kept part of the reserve may be used
   * @returns         word index, 0 = exhausted
   */
  alloc(order: number, useSpare: boolean): number {
    let from = order
    while (from < MAX_ORDER && this.heads[from] === 0) from++
    if (from === MAX_ORDER && this.freeChunks <= (useSpare ? 0 : SPARE_CHUNKS)) return 0
    const block = this.take(from)
    while (from > order) {
      from--
      this.link(block + (MIN_WORDS << from), from)
    }
    this.states[block / MIN_WORDS] = (order + 1) | ALLOCATED | FRESH
    this.usedWords += MIN_WORDS << order
    this.fresh.push(block)
    return block
  }

  free(start: number): void {
    let block = start
    let order = this.order(block)
    this.usedWords -= MIN_WORDS << order
    this.states[block / MIN_WORDS] = 0
    while (order < MAX_ORDER) {
      const buddy = block ^ (MIN_WORDS << order)
      if (this.states[buddy / MIN_WORDS] !== order + 1) break
      this.unlink(buddy, order)
      block = Math.min(block, buddy)
      order++
    }
    if (order === MAX_ORDER) this.freeChunks++
    this.link(block, order)
  }

  order(block: number): number {
    return (this.state(block) & ORDER_MASK) - 1
  }

  isFresh(block: number): boolean {
    return (this.state(block) & FRESH) !== 0
  }

  /** Fresh blocks become ordinary ones: readers may know them from now on. */
  settle(): void {
    for (const block of this.fresh) {
      if (this.isFresh(block)) this.states[block / MIN_WORDS] = this.state(block) & ~FRESH
    }
    this.fresh = []
  }

  /** Frees every fresh block: nothing was published. */
  dropFresh(): void {
    // A block that was freed and taken again stands here twice; its first turn clears the flag.
    for (const block of this.fresh) if (this.isFresh(block)) this.free(block)
    this.fresh = []
  }

  /** Frees a block of `order` from its list, or from the untouched rest. */
  private take(order: number): number {
    if (order === MAX_ORDER) this.freeChunks--
    const head = this.heads[order] ?? 0
    if (head !== 0) {
      this.unlink(head, order)
      return head
    }
    const block = this.frontier
    this.frontier += CHUNK_WORDS
    return block
  }

  private state(block: number): number {
    return this.states[block / MIN_WORDS] ?? 0
  }

  private link(block: number, order: number): void {
    const head = this.heads[order] ?? 0
    this.states[block / MIN_WORDS] = order + 1
    this.words[block] = head
    this.words[block + 1] = 0
    if (head !== 0) this.words[head + 1] = block
    this.heads[order] = block
  }

  private unlink(block: number, order: number): void {
    const next = this.words[block] ?? 0
    const previous = this.words[block + 1] ?? 0
    if (next !== 0) this.words[next + 1] = previous
    if (previous !== 0) this.words[previous] = next
    else this.heads[order] = next
    this.states[block / MIN_WORDS] = 0
  }
}
