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
const { BLOCK_SHIFT, FLAGS, HAS_RUNS, IS_NARROW, IS_TINY, POINTER, RUN_COUNTS, RUN_VALUES } = layout

/**
 * Value of one byte of a node.
 * @param words    the nodes
 * @param halves   the same memory as uint16
 * @param bytes    and as uint8
 * @param pointer  the node, with its flags
 */
function valueOf(
  words: Int32Array,
  halves: Uint16Array,
  bytes: Uint8Array,
  pointer: number,
  byte: number,
): number {
  const node = pointer & ~FLAGS
  if (pointer & IS_TINY) return bytes[4 * node + byte] ?? 0
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

/**
 * A hop, or the outer one if that is 0; without a branch, because a wrong guess about a word that
 * comes from memory throws away the lookups that the processor has begun meanwhile.
 */
function orOuter(hop: number, outer: number): number {
  return hop | (outer & ((hop - 1) >> 31))
}

/** The writer's ways to the values; calls within this module use the functions above, for speed. */
export const nodeValue = valueOf
export const nodeRun = runOf

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

/**
 * The reader is a closure and not a class: where a thread has one reader, as an engine has, the
 * compiler then knows the arrays themselves, with their addresses and lengths. A random lookup in a
 * full table takes about two thirds of the time.
 */
function createReader(shared: FibShared, reader: number): FibReader {
  const words = new Int32Array(shared.nodes)
  const halves = new Uint16Array(shared.nodes)
  const bytes = new Uint8Array(shared.nodes)
  const outers = new Int32Array(shared.outers)
  const control = new Int32Array(shared.control)
  const epoch = layout.epochWord(reader)
  const root4Word = layout.ROOT4
  const root6Word = layout.ROOT6
  let root4 = 0
  let root6 = 0

  function enter(): void {
    Atomics.add(control, epoch, 1)
    root4 = Atomics.load(control, root4Word)
    root6 = Atomics.load(control, root6Word)
  }

  function leave(): void {
    Atomics.add(control, epoch, 1)
  }

  function lookup4(dst: number): number {
    // `| 0` around sums spares the check for overflow.
    const first = words[(root4 + (dst >>> 24)) | 0] ?? 0
    if (first >= 0) return first
    const node = first & POINTER
    const second = words[(node + ((dst >>> 16) & 0xff)) | 0] ?? 0
    if (second >= 0) return second
    const outer = outers[node >>> BLOCK_SHIFT] ?? 0
    const byte = (dst >>> 8) & 0xff
    // Tiny: four times the pointer without its flag, and the sign falls off at the left.
    if (second & IS_TINY) return orOuter(bytes[((second << 2) + byte - 16) | 0] ?? 0, outer)
    // Narrow: likewise, twice the pointer.
    if (second & IS_NARROW) return orOuter(halves[((second << 1) + byte - 2) | 0] ?? 0, outer)
    const third = words[((second & POINTER) + byte) | 0] ?? 0
    if (third >= 0) return orOuter(third, outer)
    const fourth = valueOf(words, halves, bytes, third & POINTER, dst & 0xff)
    return fourth || outers[(second & POINTER) >>> BLOCK_SHIFT] || outer
  }

  function lookup6(view: DataView, at: number): number {
    let value = words[(root6 + view.getUint8(at)) | 0] ?? 0
    if (value >= 0) return value
    let best = 0
    let outer = outers[(value & POINTER) >>> BLOCK_SHIFT] ?? 0
    value = words[((value & POINTER) + view.getUint8(at + 1)) | 0] ?? 0
    // The last level has no children, so the walk ends within the 16 bytes.
    for (let next = at + 2; value < 0; next++) {
      const pointer = value & POINTER
      // What the node answers covers its own outer hop, so that only counts one level further down.
      if (outer > 0) best = outer
      outer = outers[pointer >>> BLOCK_SHIFT] ?? 0
      value = valueOf(words, halves, bytes, pointer, view.getUint8(next))
    }
    return value > 0 ? value : best
  }

  if (!Number.isInteger(reader) || reader < 0 || epoch >= control.length) {
    throw new RangeError(`reader ${String(reader)} is not one of those the table was made for`)
  }
  // A predecessor that died within a breath left the word odd, and the writer waiting.
  if (Atomics.load(control, epoch) & 1) leave()
  return { enter, leave, lookup4, lookup6 }
}
