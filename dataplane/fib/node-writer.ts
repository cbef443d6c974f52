/**
 * One node opened up for a change: the values of its 256 bytes as a plain table, between `load` and
 * `store`.
 */
import {
  BLOCK_SHIFT,
  FLAGS,
  HAS_RUNS,
  IS_CHILD,
  IS_NARROW,
  IS_TINY,
  MAX_NARROW,
  MAX_TINY,
  PLAIN_LEVELS,
  RUN_COUNTS,
  RUN_VALUES,
  WIDE_LEVELS,
} from './layout.js'
import { nodeRun, nodeValue } from './lpm.js'
import type { VersionedMemory } from './memory-writer.js'

/**
 * Largest node with runs, in words: 256 bytes, a quarter of what plain int32 values take and half of
 * plain uint16. Beyond that the saving is not worth the second cache miss.
 */
const MAX_RUN_WORDS = 64

/** The nodes of a table with what belongs to them: outer hops for readers, route lists for the writer. */
export class NodeStore {
  readonly memory: VersionedMemory
  readonly words: Int32Array
  readonly halves: Uint16Array
  readonly bytes: Uint8Array
  private readonly outers: Int32Array
  private readonly lists: Int32Array

  constructor(memory: VersionedMemory, outers: Int32Array) {
    this.memory = memory
    this.words = memory.words
    this.halves = new Uint16Array(memory.words.buffer)
    this.bytes = new Uint8Array(memory.words.buffer)
    this.outers = outers
    this.lists = new Int32Array(outers.length)
  }

  /** What a byte of a node answers. */
  value(pointer: number, byte: number): number {
    return nodeValue(this.words, this.halves, this.bytes, pointer, byte)
  }

  /** Replaces one child of a node that may be written by another. */
  setChild(pointer: number, byte: number, child: number): void {
    const node = pointer & ~FLAGS
    // A node with children is never narrow.
    const at = pointer & HAS_RUNS ? RUN_VALUES + nodeRun(this.words, node, byte) : byte
    this.words[node + at] = child | IS_CHILD
  }

  outer(pointer: number): number {
    return this.outers[pointer >>> BLOCK_SHIFT] ?? 0
  }

  /** Route list of a node, 0 = none; see routes-writer.ts. */
  list(pointer: number): number {
    return pointer === 0 ? 0 : (this.lists[pointer >>> BLOCK_SHIFT] ?? 0)
  }

  /** Notes what belongs to a node. */
  describe(pointer: number, outer: number, list: number): void {
    this.outers[pointer >>> BLOCK_SHIFT] = outer
    this.lists[pointer >>> BLOCK_SHIFT] = list
  }

  /** A node that may be written, with the same content. */
  own(pointer: number): number {
    const owned = this.memory.own(pointer & ~FLAGS) | (pointer & FLAGS)
    if (owned !== pointer) this.describe(owned, this.outer(pointer), this.list(pointer))
    return owned
  }
}

export class NodeImage {
  /** What each byte answers: see layout.ts. */
  readonly values = new Int32Array(256)
  outer = 0
  list = 0
  private readonly store: NodeStore

  constructor(store: NodeStore) {
    this.store = store
  }

  /** Begins an empty node. */
  clear(outer: number): void {
    this.values.fill(outer)
    this.outer = outer
    this.list = 0
  }

  load(pointer: number): void {
    this.outer = this.store.outer(pointer)
    this.list = this.store.list(pointer)
    const { words, halves, bytes } = this.store
    const node = pointer & ~FLAGS
    const isNarrow = (pointer & IS_NARROW) !== 0
    if (pointer & HAS_RUNS) {
      let next = isNarrow ? 2 * (node + RUN_VALUES) : node + RUN_VALUES
      let value = 0
      for (let byte = 0; byte < 256; byte++) {
        if (((words[node + (byte >>> 5)] ?? 0) >>> (byte & 31)) & 1) {
          value = (isNarrow ? halves[next] : words[next]) ?? 0
          next++
        }
        this.values[byte] = value
      }
    } else if (pointer & IS_TINY) {
      for (let byte = 0; byte < 256; byte++) this.values[byte] = bytes[4 * node + byte] ?? 0
    } else if (isNarrow) {
      for (let byte = 0; byte < 256; byte++) this.values[byte] = halves[2 * node + byte] ?? 0
    } else {
      for (let byte = 0; byte < 256; byte++) this.values[byte] = words[node + byte] ?? 0
    }
  }

  /** Whether neither a route nor a child is left. */
  isEmpty(): boolean {
    if (this.list !== 0) return false
    for (let byte = 0; byte < 256; byte++) if ((this.values[byte] ?? 0) < 0) return false
    return true
  }

  /**
   * Writes the node in the place of another (0 = none); every word of it, because blocks come with
   * old content.
   * @returns its pointer
   */
  save(pointer: number, level: number): number {
    const all = level < WIDE_LEVELS ? IS_CHILD : this.allBits()
    const isNarrow = all >>> 0 <= MAX_NARROW
    const isTiny = all >>> 0 <= MAX_TINY
    const plainSize = isTiny ? 64 : isNarrow ? 128 : 256
    const runSize = level < PLAIN_LEVELS ? plainSize : this.runSize(isNarrow)
    const hasRuns = level >= PLAIN_LEVELS && runSize <= Math.min(MAX_RUN_WORDS, plainSize)
    const { memory, words, halves, bytes } = this.store
    const node = memory.renew(pointer & ~FLAGS, hasRuns ? runSize : plainSize, 0)
    let flags = 0
    if (hasRuns) {
      this.saveRuns(node, isNarrow)
      flags = HAS_RUNS | (isNarrow ? IS_NARROW : 0)
    } else if (isTiny) {
      for (let byte = 0; byte < 256; byte++) bytes[4 * node + byte] = this.values[byte] ?? 0
      flags = IS_TINY
    } else if (isNarrow) {
      for (let byte = 0; byte < 256; byte++) halves[2 * node + byte] = this.values[byte] ?? 0
      flags = IS_NARROW
    } else {
      words.set(this.values, node)
    }
    const saved = node | flags
    this.store.describe(saved, this.outer, this.list)
    return saved
  }

  /** All values or'ed: tells the widest hop, and by the sign whether there is a child. */
  private allBits(): number {
    let all = 0
    for (let byte = 0; byte < 256; byte++) all |= this.values[byte] ?? 0
    return all
  }

  /** Words of the node in runs. */
  private runSize(isNarrow: boolean): number {
    let runs = 1
    let last = this.values[0] ?? 0
    for (let byte = 1; byte < 256; byte++) {
      const value = this.values[byte] ?? 0
      if (value !== last) runs++
      last = value
    }
    return RUN_VALUES + (isNarrow ? (runs + 1) >>> 1 : runs)
  }

  private saveRuns(node: number, isNarrow: boolean): void {
    const { words, halves } = this.store
    words.fill(0, node, node + RUN_VALUES)
    const first = isNarrow ? 2 * (node + RUN_VALUES) : node + RUN_VALUES
    let runs = 0
    let last = 0
    for (let byte = 0; byte < 256; byte++) {
      const word = byte >>> 5
      if ((byte & 31) === 0) {
        const counts = node + RUN_COUNTS + (word >>> 2)
        words[counts] = (words[counts] ?? 0) | (runs << ((word & 3) << 3))
      }
      const value = this.values[byte] ?? 0
      if (byte > 0 && value === last) continue
      words[node + word] = (words[node + word] ?? 0) | (1 << (byte & 31))
      if (isNarrow) halves[first + runs] = value
      else words[first + runs] = value
      runs++
      last = value
    }
  }
}
