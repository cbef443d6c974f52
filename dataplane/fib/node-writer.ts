/**
 * One node opened up for a change: the values of its 256 bytes as a plain table, between `load` and
 * `store`.
 */
import {
  DENSE_DEFAULT,
  DENSE_LEVELS,
  DENSE_ROUTES,
  DENSE_WORDS,
  IS_WIDE,
  MAX_NARROW,
  SPARSE_DEFAULT,
  SPARSE_ROUTES,
  SPARSE_STARTS,
  SPARSE_VALUES,
  runOf,
  sparseValue,
} from './layout.js'
import type { VersionedMemory } from './memory-writer.js'

/** Word index of the default of a node, and of its route list, which follows. */
export function defaultIndex(pointer: number, level: number): number {
  return level < DENSE_LEVELS ? pointer + DENSE_DEFAULT : (pointer & ~IS_WIDE) + SPARSE_DEFAULT
}
export function routesIndex(pointer: number, level: number): number {
  return level < DENSE_LEVELS ? pointer + DENSE_ROUTES : (pointer & ~IS_WIDE) + SPARSE_ROUTES
}

/** Word index of a child's pointer; a node with children is dense or wide. */
export function childIndex(
  words: Int32Array,
  pointer: number,
  level: number,
  byte: number,
): number {
  if (level < DENSE_LEVELS) return pointer + byte
  const node = pointer & ~IS_WIDE
  return node + SPARSE_VALUES + runOf(words, node, byte)
}

export class NodeImage {
  /** What each byte answers: see layout.ts. */
  readonly values = new Int32Array(256)
  /** What the parent answers without this node. */
  outer = 0
  /** Route list, 0 = none. */
  routes = 0
  private readonly memory: VersionedMemory
  private readonly words: Int32Array
  private readonly halves: Uint16Array

  constructor(memory: VersionedMemory) {
    this.memory = memory
    this.words = memory.words
    this.halves = new Uint16Array(memory.words.buffer)
  }

  /** What a byte of a stored node answers. */
  value(pointer: number, level: number, byte: number): number {
    if (level < DENSE_LEVELS) return this.words[pointer + byte] ?? 0
    return sparseValue(this.words, this.halves, pointer, byte)
  }

  /** Begins an empty node. */
  clear(outer: number): void {
    this.values.fill(0)
    this.outer = outer
    this.routes = 0
  }

  load(pointer: number, level: number): void {
    this.outer = this.words[defaultIndex(pointer, level)] ?? 0
    this.routes = this.words[routesIndex(pointer, level)] ?? 0
    if (level < DENSE_LEVELS) {
      for (let byte = 0; byte < 256; byte++) this.values[byte] = this.words[pointer + byte] ?? 0
    } else {
      this.loadRuns(pointer)
    }
  }

  /** Whether neither a route nor a child is left. */
  isEmpty(): boolean {
    if (this.routes !== 0) return false
    for (let byte = 0; byte < 256; byte++) if (this.values[byte] !== 0) return false
    return true
  }

  /**
   * Writes the node in the place of another (0 = none); every word of it, because blocks come with
   * old content.
   * @returns its pointer
   */
  store(pointer: number, level: number): number {
    const words = this.words
    let stored: number
    if (level < DENSE_LEVELS) {
      stored = this.memory.renew(pointer, DENSE_WORDS)
      for (let byte = 0; byte < 256; byte++) words[stored + byte] = this.values[byte] ?? 0
    } else {
      stored = this.storeRuns(pointer & ~IS_WIDE)
    }
    words[defaultIndex(stored, level)] = this.outer
    words[routesIndex(stored, level)] = this.routes
    return stored
  }

  private loadRuns(pointer: number): void {
    const node = pointer & ~IS_WIDE
    const isWide = (pointer & IS_WIDE) !== 0
    const at = isWide ? node + SPARSE_VALUES : 2 * (node + SPARSE_VALUES)
    let next = at
    let value = 0
    for (let byte = 0; byte < 256; byte++) {
      if (((this.words[node + (byte >>> 5)] ?? 0) >>> (byte & 31)) & 1) {
        value = (isWide ? this.words[next] : this.halves[next]) ?? 0
        next++
      }
      this.values[byte] = value
    }
  }

  private storeRuns(block: number): number {
    let runs = 0
    let last = 0
    let isWide = false
    for (let byte = 0; byte < 256; byte++) {
      const value = this.values[byte] ?? 0
      if (byte === 0 || value !== last) runs++
      if (value < 0 || value > MAX_NARROW) isWide = true
      last = value
    }
    const node = this.memory.renew(block, SPARSE_VALUES + (isWide ? runs : (runs + 1) >>> 1))
    const words = this.words
    words.fill(0, node, node + SPARSE_DEFAULT)
    let next = isWide ? node + SPARSE_VALUES : 2 * (node + SPARSE_VALUES)
    runs = 0
    for (let byte = 0; byte < 256; byte++) {
      const word = byte >>> 5
      if ((byte & 31) === 0) {
        const starts = node + SPARSE_STARTS + (word >>> 2)
        words[starts] = (words[starts] ?? 0) | (runs << ((word & 3) << 3))
      }
      const value = this.values[byte] ?? 0
      if (byte === 0 || value !== last) {
        words[node + word] = (words[node + word] ?? 0) | (1 << (byte & 31))
        if (isWide) words[next] = value
        else this.halves[next] = value
        next++
        runs++
        last = value
      }
    }
    return isWide ? node | IS_WIDE : node
  }
}
