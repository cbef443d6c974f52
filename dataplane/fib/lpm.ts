/**
 * The fast table, as a reader sees it: longest-prefix match over shared memory.
 *
 * A reader takes the root once per breath and follows plain loads from there. That is right on any
 * processor, by the memory model of the language itself: a node is never changed after the root
 * that leads to it was published, `Atomics.store` of that root happens before the `Atomics.load`
 * that reads it, so every word reachable from it is settled. A whole breath therefore sees one
 * version of the table, and each route either before or after a change.
 *
 * The epoch word is raised before the root is loaded, and the writer stores the root before it looks at
 * the epoch words. Atomics are sequentially consistent, so one of the two always sees the other:
 * either the writer waits for this breath, or this breath has the new root.
 */
import type { FibReader } from './fib.js'
import {
  DENSE_DEFAULT,
  IS_WIDE,
  ROOT4,
  ROOT6,
  SPARSE_DEFAULT,
  epochWord,
  sparseValue,
  type FibShared,
} from './layout.js'

class LpmReader implements FibReader {
  private readonly words: Int32Array
  private readonly halves: Uint16Array
  private readonly control: Int32Array
  private readonly epoch: number
  private root4 = 0
  private root6 = 0

  constructor(shared: FibShared, reader: number) {
    this.words = new Int32Array(shared.nodes)
    this.halves = new Uint16Array(shared.nodes)
    this.control = new Int32Array(shared.control)
    this.epoch = epochWord(reader)
    if (!Number.isInteger(reader) || reader < 0 || this.epoch >= this.control.length) {
      throw new RangeError(`reader ${String(reader)} is not one of those the table was made for`)
    }
    // A predecessor that died within a breath left the word odd, and the writer waiting.
    if (Atomics.load(this.control, this.epoch) & 1) this.leave()
  }

  enter(): void {
    Atomics.add(this.control, this.epoch, 1)
    this.root4 = Atomics.load(this.control, ROOT4)
    this.root6 = Atomics.load(this.control, ROOT6)
  }

  leave(): void {
    Atomics.add(this.control, this.epoch, 1)
  }

  lookup4(dst: number): number {
    const words = this.words
    const halves = this.halves
    const first = words[this.root4 + (dst >>> 24)] ?? 0
    if (first >= 0) return first
    const second = words[((dst >>> 16) & 0xff) - first] ?? 0
    if (second > 0) return second
    if (second < 0) {
      const third = sparseValue(words, halves, -second, (dst >>> 8) & 0xff)
      if (third > 0) return third
      if (third < 0) {
        const fourth = sparseValue(words, halves, -third, dst & 0xff)
        if (fourth > 0) return fourth
        const outer = words[(-third & ~IS_WIDE) + SPARSE_DEFAULT] ?? 0
        if (outer > 0) return outer
      }
      const outer = words[(-second & ~IS_WIDE) + SPARSE_DEFAULT] ?? 0
      if (outer > 0) return outer
    }
    return words[DENSE_DEFAULT - first] ?? 0
  }

  lookup6(view: DataView, at: number): number {
    const words = this.words
    const halves = this.halves
    let value = words[this.root6 + view.getUint8(at)] ?? 0
    if (value >= 0) return value
    let best = words[DENSE_DEFAULT - value] ?? 0
    value = words[view.getUint8(at + 1) - value] ?? 0
    // The last level has no children, so the walk ends within the 16 bytes.
    for (let next = at + 2; value < 0; next++) {
      const outer = words[(-value & ~IS_WIDE) + SPARSE_DEFAULT] ?? 0
      if (outer > 0) best = outer
      value = sparseValue(words, halves, -value, view.getUint8(next))
    }
    return value > 0 ? value : best
  }
}

/**
 * Attaches to a table as one of its readers. A table made for n readers has the numbers 0 .. n − 1;
 * no two live readers may share one. Before the first `enter()` every lookup answers 0.
 * @param shared  shared memory from `createFib`, also after a structured clone
 * @param reader  number of this reader
 * @throws RangeError when the table has no such reader
 */
export function attachFibReader(shared: FibShared, reader: number): FibReader {
  return createReader(shared, reader)
}

function createReader(shared: FibShared, reader: number): FibReader {
  return new LpmReader(shared, reader)
}
