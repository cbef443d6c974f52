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

/**
 * Sets a route in a list, or removes it with hop 0; the list itself is replaced, unless it is fresh.
 * @returns the changed list, 0 when it is empty
 */
export function changeRoute(
  memory: VersionedMemory,
  list: number,
  heap: number,
  hop: number,
): number {
  const { words } = memory
  const before = list === 0 ? 0 : (words[list] ?? 0)
  let place = 0
  while (place < before && words[list + 1 + 2 * place] !== heap) place++
  const isKnown = place < before
  const count = before + Number(hop !== 0) - Number(isKnown)
  if (count === 0) {
    if (list !== 0) memory.release(list)
    return 0
  }
  // The last route takes the place of one that goes.
  const last = list + 1 + 2 * (before - 1)
  const newHeap = hop === 0 ? (words[last] ?? 0) : heap
  const newHop = hop === 0 ? (words[last + 1] ?? 0) : hop
  const target = memory.renew(list, 1 + 2 * count, 1 + 2 * Math.min(before, count))
  words[target] = count
  if (place < count) {
    words[target + 1 + 2 * place] = newHeap
    words[target + 2 + 2 * place] = newHop
  }
  return target
}

/** A list spread out by heap index. */
export class RouteImage {
  private readonly hops = new Int32Array(512)

  load(words: Int32Array, list: number): void {
    this.hops.fill(0)
    const end = list === 0 ? 0 : list + 1 + 2 * (words[list] ?? 0)
    for (let at = list + 1; at < end; at += 2) this.hops[words[at] ?? 0] = words[at + 1] ?? 0
  }

  /** Hop of the longest route over a byte, 0 = none. */
  cover(byte: number): number {
    let heap = 256 + byte
    while (heap > 0 && this.hops[heap] === 0) heap >>>= 1
    return this.hops[heap] ?? 0
  }
}
