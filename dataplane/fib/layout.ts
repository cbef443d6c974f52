/**
 * Where everything of a forwarding table lies in shared memory; the writer and the readers agree
 * here and nowhere else.
 *
 * A table is a trie that takes one byte of the address per level. A node answers for each of its
 * 256 bytes with one value: 0 = nothing here, positive = hop, negative = child, the other 31 bits
 * being its pointer. A value comes from the longest prefix that ends in the node or, failing that, in
 * its parent; the latter is the node's *outer* hop of that byte of the parent. What still shorter
 * prefixes give is found in the outer hops on the way back up. So a change of a route rewrites one
 * node, its children at most, and the path to it, but never a whole subtree.
 *
 * Nodes are blocks of one Int32Array, and hold nothing but values. A pointer is the word index of
 * the block plus flags:
 *
 *     0                      256 int32
 *     IS_TINY                256 uint8: no children, and no hop above MAX_TINY
 *     IS_NARROW              256 uint16: no children, and no hop above MAX_NARROW
 *     HAS_RUNS               the values as runs of equal ones: 8 words with a bit per byte, 1 = a run
 *     HAS_RUNS | IS_NARROW   starts here; 8 bytes, the runs before each of these words; the values
 *
 * Random lookups in a large table cost what their cache misses cost; the processor hides these only
 * by beginning the next lookups meanwhile, as many as it has room for instructions. So a route up to /24
 * has one miss, behind few instructions: the first three levels are never runs. The deeper ones, of
 * which IPv6 has many, mostly are, for there memory counts for more.
 */

/** Shared memory of a table with its next hops: what a worker is given to attach to. */
export interface FibShared {
  /** Nodes of both families. */
  readonly nodes: SharedArrayBuffer
  /** Outer hop of the node that begins in each least block of `nodes`. */
  readonly outers: SharedArrayBuffer
  /** Published roots and the readers' epoch words. */
  readonly control: SharedArrayBuffer
  /** Columns of the next hops. */
  readonly hops: SharedArrayBuffer
  /** Ready socket addresses of the next hops. */
  readonly names: SharedArrayBuffer
}

/** Words of `control` that hold the published root of each family. */
export const ROOT4 = 0
export const ROOT6 = 1

/** int32 words from one epoch word to the next: one cache line each, so that readers do not slow one another. */
const EPOCH_STRIDE = 16

/** Word of `control` with the epoch of a reader. */
export function epochWord(reader: number): number {
  return EPOCH_STRIDE * (1 + reader)
}

/** Levels whose nodes are plain int32 without flags, whatever they hold. */
export const WIDE_LEVELS = 2
/** Levels whose nodes have no runs. */
export const PLAIN_LEVELS = 3

/** Sign bit of a value that is a child, and mask of its pointer. */
export const IS_CHILD = -0x80000000
export const POINTER = 0x7fffffff

/** Words of the least block, as a power of two: the index in `outers` is pointer >>> BLOCK_SHIFT. */
export const BLOCK_SHIFT = 4

export const IS_NARROW = 1
export const HAS_RUNS = 2
export const IS_TINY = 4
export const FLAGS = 7

/** Largest hop of a tiny node. */
export const MAX_TINY = 0xff

/** Largest hop of a narrow node. */
export const MAX_NARROW = 0xffff

/** Words of a node with runs before its values: 8 of start bits, 2 of counts. */
export const RUN_COUNTS = 8
export const RUN_VALUES = 10
