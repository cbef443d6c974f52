/**
 * Memory of which two versions live at once: the published one, which nobody may change, and the one
 * that an update is building. Whatever takes memory throws a RangeError when the reserve is exhausted;
 * the update must then be dropped.
 *
 * A block that is fresh belongs to the update alone. Any other block is replaced, not written; the
 * replaced ones are handed on when the update is published, and forgotten when it is dropped.
 */
import type { GraceList } from './grace-writer.js'
import { BlockPool } from './pool-writer.js'

/** How long a change waits for readers before it calls the reserve exhausted. */
const PATIENCE_MS = 100

export class VersionedMemory {
  readonly words: Int32Array
  /** The change under way touches an existing route, and may use the spare part of the reserve. */
  useSpare = false
  private readonly pool: BlockPool
  private readonly grace: GraceList
  private replaced: number[] = []

  /**
   * @param words  memory
   * @param grace  what may give memory back when it runs out
   */
  constructor(words: Int32Array, pool: BlockPool, grace: GraceList) {
    this.words = words
    this.pool = pool
    this.grace = grace
  }

  /** Gives a block up. */
  release(block: number): void {
    if (this.pool.isFresh(block)) this.pool.free(block)
    else this.replaced.push(block)
  }

  /** A block with the same content that may be written: itself when it is fresh, else a copy. */
  own(block: number): number {
    if (this.pool.isFresh(block)) return block
    const words = BlockPool.wordsOf(this.pool.order(block))
    return this.renew(block, words, words)
  }

  /**
   * A block that may be written, in the place of another (0 = none).
   * @param words  its size
   * @param keep   how many words of the old content to keep; the others are anything
   */
  renew(block: number, words: number, keep: number): number {
    const order = BlockPool.orderFor(words)
    if (block !== 0 && this.pool.isFresh(block) && this.pool.order(block) === order) return block
    const renewed = this.alloc(order)
    this.words.copyWithin(renewed, block, block + keep)
    if (block !== 0) this.release(block)
    return renewed
  }

  /** The update is published: `retire` takes every block that it replaced. */
  publish(retire: (block: number) => void): void {
    this.pool.settle()
    for (const block of this.replaced) retire(block)
    this.replaced = []
  }

  /** The update is dropped: its blocks are free, and those it replaced are not replaced. */
  drop(): void {
    this.pool.dropFresh()
    this.replaced = []
  }

  private alloc(order: number): number {
    let block = this.pool.alloc(order, this.useSpare)
    if (block === 0 && this.grace.waiting > 0) {
      this.grace.collectWithin(PATIENCE_MS)
      block = this.pool.alloc(order, this.useSpare)
    }
    if (block === 0) {
      const bytes = String(this.words.byteLength)
      throw new RangeError(`the table does not fit ${bytes} bytes; raise reserveBytes of createFib`)
    }
    return block
  }
}
