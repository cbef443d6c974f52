/**
 * Where everything of a forwarding table lies in shared memory; the writer and the readers agree
 * here and nowhere else.
 *
 * A table is a trie that takes one byte of the address per level. A node answers for each of its
 * 256 bytes with one value: 0 = nothing here, positive = hop, negative = child, −value being the
 * child's pointer. Only the prefixes that end in a node are spread over its values; what a shorter
 * prefix gives is found in its `default`, which is what the parent would have answered had there
 * been no child. So a change of a route rewrites one node and the path to it, never a subtree.
 *
 * Nodes are blocks of one Int32Array. A pointer is the word index of the block, plus IS_WIDE.
 *
 *     dense node (levels 0 and 1)        sparse node (deeper): the values as runs of equal ones
 *     0    values of bytes 0 .. 255      0    8 words: a bit per byte, 1 = a run starts here
 *     256  default                       8    8 bytes: runs that start before each of these words
 *     257  route list                    10   default
 *                                        11   route list
 *                                        12   values of the runs: int32 in a wide node, else uint16
 *
 * Random lookups in a large table cost what their cache and TLB misses cost, so the nodes are as
 * small as they can be without another step: with int32 values and the route lists inside, a full
 * IPv4 table was three times larger and a random lookup three times slower.
 */

/** Shared memory of a table with its next hops: what a worker is given to attach to. */
export interface FibShared {
  /** Nodes of both families. */
  readonly nodes: SharedArrayBuffer
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

/** Levels whose nodes are dense. Two: they are few, and every lookup passes them. */
export const DENSE_LEVELS = 2
export const DENSE_DEFAULT = 256
export const DENSE_ROUTES = 257
export const DENSE_WORDS = 258

export const SPARSE_STARTS = 8
export const SPARSE_DEFAULT = 10
export const SPARSE_ROUTES = 11
export const SPARSE_VALUES = 12

/** Flag of a pointer to a sparse node: it has children or hops above MAX_NARROW, so its values are int32. */
export const IS_WIDE = 1
/** Largest hop of a node with uint16 values. */
export const MAX_NARROW = 0xffff

/**
 * Number of the run that a byte of a sparse node belongs to: the count of run starts up to it, less
 * one. JavaScript has no population count; the usual sum of neighbouring bit fields takes a dozen
 * instructions.
 */
export function runOf(words: Int32Array, node: number, byte: number): number {
  const word = byte >>> 5
  // Shifting the later bytes' bits out leaves the starts up to this byte.
  let bits = (words[node + word] ?? 0) << (31 - (byte & 31))
  bits = (bits - ((bits >>> 1) & 0x55555555)) | 0
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  bits = ((bits + (bits >>> 4)) | 0) & 0x0f0f0f0f
  const before = (words[node + SPARSE_STARTS + (word >>> 2)] ?? 0) >>> ((word & 3) << 3)
  return (before & 0xff) + (Math.imul(bits, 0x01010101) >>> 24) - 1
}

/**
 * Value of a byte of a sparse node.
 * @param words    the nodes
 * @param halves   the same memory as uint16
 * @param pointer  the node, with its flag
 */
export function sparseValue(
  words: Int32Array,
  halves: Uint16Array,
  pointer: number,
  byte: number,
): number {
  const node = pointer & ~IS_WIDE
  const run = runOf(words, node, byte)
  if (pointer & IS_WIDE) return words[node + SPARSE_VALUES + run] ?? 0
  return halves[2 * (node + SPARSE_VALUES) + run] ?? 0
}
