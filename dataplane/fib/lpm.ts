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
import * as layout from './layout.js'
import type { FibShared } from './layout.js'

// An imported constant is read from its module's cell, and checked, at each use (V8 11); a constant
// of this module that is not exported is folded into the code: lookups are a sixth faster.
const { BLOCK_SHIFT, FLAGS, HAS_RUNS, IS_NARROW, RUN_COUNTS, RUN_VALUES } = layout

/**
 * Value of one byte of a node.
 * @param words    the nodes
 * @param halves   the same memory as uint16
 * @param pointer  the node, with its flags
 */
function valueOf(words: Int32Array, halves: Uint16Array, pointer: number, byte: number): number {
  const node = pointer & ~FLAGS
  if (pointer & HAS_RUNS) {
    const run = runOf(words, node, byte)
    if (pointer & IS_NARROW) return halves[2 * (node + RUN_VALUES) + run] ?? 0
    return words[node + RUN_VALUES + run] ?? 0
  }
  if (pointer & IS_NARROW) return halves[2 * node + byte] ?? 0
  return words[node + byte] ?? 0
}

/**
 * Number of the run that a byte belongs to: the count of run starts up to it, less one. JavaScript
 * has no population count; the usual sum of neighbouring bit fields takes a dozen instructions.
 */
function runOf(words: Int32Array, node: number, byte: number): number {
  const word = byte >>> 5
  // The shift leaves only the starts up to this byte.
  let bits = (words[node + word] ?? 0) << (31 - (byte & 31))
  bits = (bits - ((bits >>> 1) & 0x55555555)) | 0
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  bits = ((bits + (bits >>> 4)) | 0) & 0x0f0f0f0f
  const before = (words[node + RUN_COUNTS + (word >>> 2)] ?? 0) >>> ((word & 3) << 3)
  return (before & 0xff) + (Math.imul(bits, 0x01010101) >>> 24) - 1
}

/** The writer's ways to the values; calls within this module use the functions above, for speed. */
export const nodeValue = valueOf
export const nodeRun = runOf

class LpmReader implements FibReader {
  private readonly words: Int32Array
  private readonly halves: Uint16Array
  private readonly outers: Int32Array
  private readonly control: Int32Array
  private readonly epoch: number
  private root4 = 0
  private root6 = 0

  constructor(shared: FibShared, reader: number) {
    this.words = new Int32Array(shared.nodes)
    this.halves = new Uint16Array(shared.nodes)
    this.outers = new Int32Array(shared.outers)
    this.control = new Int32Array(shared.control)
    this.epoch = layout.epochWord(reader)
    if (!Number.isInteger(reader) || reader < 0 || this.epoch >= this.control.length) {
      throw new RangeError(`reader ${String(reader)} is not one of those the table was made for`)
    }
    // A predecessor that died within a breath left the word odd, and the writer waiting.
    if (Atomics.load(this.control, this.epoch) & 1) this.leave()
  }

  enter(): void {
    Atomics.add(this.control, this.epoch, 1)
    this.root4 = Atomics.load(this.control, layout.ROOT4)
    this.root6 = Atomics.load(this.control, layout.ROOT6)
  }

  leave(): void {
    Atomics.add(this.control, this.epoch, 1)
  }

  lookup4(dst: number): number {
    const words = this.words
    const first = words[this.root4 + (dst >>> 24)] ?? 0
    if (first >= 0) return first
    const second = words[((dst >>> 16) & 0xff) - first] ?? 0
    if (second >= 0) return second
    const outer = this.outers[-first >>> BLOCK_SHIFT] ?? 0
    const third = valueOf(words, this.halves, -second, (dst >>> 8) & 0xff)
    if (third < 0) {
      const fourth = valueOf(words, this.halves, -third, dst & 0xff)
      if (fourth > 0) return fourth
      return (this.outers[-second >>> BLOCK_SHIFT] ?? 0) || outer
    }
    // third, or outer if that is 0; without a branch, because a wrong guess about a word that comes
    // from memory throws the next lookups away, which the processor has begun meanwhile.
    return third | (outer & ((third - 1) >> 31))
  }

  lookup6(view: DataView, at: number): number {
    const words = this.words
    let value = words[this.root6 + view.getUint8(at)] ?? 0
    if (value >= 0) return value
    let best = 0
    let outer = this.outers[-value >>> BLOCK_SHIFT] ?? 0
    value = words[view.getUint8(at + 1) - value] ?? 0
    // The last level has no children, so the walk ends within the 16 bytes.
    for (let next = at + 2; value < 0; next++) {
      // What the node answers covers its own outer hop, so that only counts one level further down.
      if (outer > 0) best = outer
      outer = this.outers[-value >>> BLOCK_SHIFT] ?? 0
      value = valueOf(words, this.halves, -value, view.getUint8(next))
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
