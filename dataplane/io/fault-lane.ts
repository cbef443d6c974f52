/**
 * A lane: one direction of traffic on which seeded faults happen. It knows no device: items with
 * bytes go in, the same items come out, some missing, twice, later or damaged.
 *
 * Each item has its own random numbers, drawn in a fixed order, so what happens to it depends on
 * the seed and its position only: making one fault likelier does not move the others.
 */
import { createRandom, type Random } from './random.js'

/** Probabilities (0..1, default 0) with which each fault strikes an item. */
export interface FaultOptions {
  /** Any integer; the same seed and traffic give the same faults. */
  readonly seed: number
  /** The item disappears; no other fault then matters. */
  readonly loss?: number
  /** The item comes twice. */
  readonly duplicate?: number
  /** The item waits until 1 to `reorderDepth` later items have come by. */
  readonly reorder?: number
  /** One bit of the item is inverted. */
  readonly flip?: number
  /** The item loses 1 to all of its last bytes. */
  readonly truncate?: number
  /** Items that may overtake a waiting one; default 3. */
  readonly reorderDepth?: number
}

/** What a lane did, in items. */
export interface FaultCounts {
  seen: number
  lost: number
  duplicated: number
  reordered: number
  flipped: number
  truncated: number
}

interface Held<T> {
  readonly item: T
  left: number
}

export class FaultLane<T extends { readonly bytes: Uint8Array }> {
  readonly counts: FaultCounts = {
    seen: 0,
    lost: 0,
    duplicated: 0,
    reordered: 0,
    flipped: 0,
    truncated: 0,
  }
  private readonly options: Required<FaultOptions>
  private held: Held<T>[] = []

  /** @throws RangeError when a probability is not 0..1 or the depth is below 1 */
  constructor(options: FaultOptions) {
    this.options = {
      loss: 0,
      duplicate: 0,
      reorder: 0,
      flip: 0,
      truncate: 0,
      reorderDepth: 3,
      ...options,
    }
    const { loss, duplicate, reorder, flip, truncate, reorderDepth } = this.options
    for (const probability of [loss, duplicate, reorder, flip, truncate]) {
      if (!(probability >= 0 && probability <= 1)) {
        throw new RangeError(`a fault's probability is ${probability}, not 0..1`)
      }
    }
    if (!(reorderDepth >= 1)) throw new RangeError(`reorderDepth is ${reorderDepth}, below 1`)
  }

  /**
   * Sends one item down the lane.
   * @returns what comes out now, in order: nothing, the item, more than one, or earlier ones with it
   */
  pass(item: T): T[] {
    const { options, counts } = this
    const random = createRandom(Math.imul(options.seed, 0x9e37_79b1) + counts.seen)
    counts.seen++
    const isLost = random.happens(options.loss)
    const isDoubled = random.happens(options.duplicate)
    const isLate = random.happens(options.reorder)
    const isFlipped = random.happens(options.flip)
    const isShort = random.happens(options.truncate)
    const due = this.overtake()
    if (isLost) {
      counts.lost++
      return due
    }
    let bytes = item.bytes
    if (isShort && bytes.length > 0) {
      counts.truncated++
      bytes = bytes.slice(0, random.below(bytes.length))
    }
    if (isFlipped && bytes.length > 0) {
      counts.flipped++
      bytes = flipOneBit(bytes, random)
    }
    const changed = bytes === item.bytes ? item : { ...item, bytes }
    const copies = isDoubled ? [changed, changed] : [changed]
    if (isDoubled) counts.duplicated++
    if (isLate) {
      counts.reordered++
      const left = 1 + random.below(options.reorderDepth)
      this.held.push(...copies.map((copy) => ({ item: copy, left })))
      return due
    }
    return [...copies, ...due]
  }

  /** Lets go of everything that waits to be overtaken: the line has gone quiet. */
  release(): T[] {
    const items = this.held.map((held) => held.item)
    this.held = []
    return items
  }

  /** One more item has come by; returns those that have waited enough. */
  private overtake(): T[] {
    for (const held of this.held) held.left--
    const due = this.held.filter((held) => held.left <= 0)
    this.held = this.held.filter((held) => held.left > 0)
    return due.map((held) => held.item)
  }
}

function flipOneBit(bytes: Uint8Array, random: Random): Uint8Array {
  const flipped = bytes.slice()
  const at = random.below(flipped.length)
  flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8))
  return flipped
}
