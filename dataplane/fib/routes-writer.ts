/**
 * The routes that end in one node, which only the writer needs: they tell what covers a byte once a
 * longer prefix is gone.
 *
 * They form a binary heap: index 1 is the whole node, 2i and 2i + 1 are the halves of i, and 256 + b
 * is byte b. At rest they are a list in a block of private memory: a count, then pairs (heap index, hop).
 */
import type { VersionedMemory } from './memory-writer.js'

/** Hop of one route in a list, 0 = it is not there. A list of 0 is empty. */
export function findRoute(words: Int32Array, list: number, heap: number): number {
  if (list === 0) return 0
  const end = list + 1 + 2 * (words[list] ?? 0)
  for (let at = list + 1; at < end; at += 2) if (words[at] === heap) return words[at + 1] ?? 0
  return 0
}

export class RouteImage {
  private readonly hops = new Int32Array(512)
  private count = 0

  load(words: Int32Array, list: number): void {
    this.hops.fill(0)
    this.count = list === 0 ? 0 : (words[list] ?? 0)
    for (let at = list + 1; at < list + 1 + 2 * this.count; at += 2) {
      this.hops[words[at] ?? 0] = words[at + 1] ?? 0
    }
  }

  /** Sets a route, or removes it with hop 0. */
  set(heap: number, hop: number): void {
    this.count += Number(hop !== 0) - Number(this.hops[heap] !== 0)
    this.hops[heap] = hop
  }

  /** Hop of the longest route over a byte, 0 = none. */
  cover(byte: number): number {
    let heap = 256 + byte
    while (heap > 0 && this.hops[heap] === 0) heap >>>= 1
    return this.hops[heap] ?? 0
  }

  /** Writes the list in the place of another (0 = none). @returns where it is, 0 when it is empty */
  save(memory: VersionedMemory, list: number): number {
    if (this.count === 0) {
      if (list !== 0) memory.release(list)
      return 0
    }
    const { words } = memory
    const target = memory.renew(list, 1 + 2 * this.count)
    words[target] = this.count
    let at = target + 1
    for (let heap = 1; heap < 512; heap++) {
      const hop = this.hops[heap] ?? 0
      if (hop === 0) continue
      words[at] = heap
      words[at + 1] = hop
      at += 2
    }
    return target
  }
}
