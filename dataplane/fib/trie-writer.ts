/**
 * The trie of one address family, as its writer sees it: one byte of the address per level.
 *
 * A change goes down along the address, rewrites the node in which the prefix ends, and comes back
 * up giving each parent its new child. Published nodes are replaced, not written (memory-writer.ts),
 * so the result is a new root that nobody knows yet; its owner publishes or drops it.
 */
import type { VersionedMemory } from './memory-writer.js'
import { NodeImage, childIndex, defaultIndex, routesIndex } from './node-writer.js'
import { RouteImage, findRoute } from './routes-writer.js'
import { IS_WIDE } from './layout.js'

export class TrieWriter {
  /** Pointer of the root after the changes so far. */
  root: number
  /** Number of prefixes. */
  size = 0
  private readonly nodes: VersionedMemory
  private readonly lists: VersionedMemory
  private readonly image: NodeImage
  private readonly routes = new RouteImage()
  /** Pointers of the nodes along the address, 0 = not there yet. */
  private readonly path = new Int32Array(16)

  /**
   * @param nodes  shared memory of the nodes
   * @param lists  private memory of the route lists
   */
  constructor(nodes: VersionedMemory, lists: VersionedMemory) {
    this.nodes = nodes
    this.lists = lists
    this.image = new NodeImage(nodes)
    this.image.clear(0)
    this.root = this.image.store(0, 0)
  }

  /**
   * Sets or removes one prefix.
   * @param bytes  address, most significant byte first
   * @param len    prefix length in bits
   * @param hop    hop index, 0 = remove
   * @returns      whether the prefix was there before
   * @throws RangeError when there is no room; the owner must then drop the update
   */
  set(bytes: Uint8Array, len: number, hop: number): boolean {
    const level = len === 0 ? 0 : (len - 1) >>> 3
    const bits = len - 8 * level
    const heap = (1 << bits) | ((bytes[level] ?? 0) >>> (8 - bits))
    this.descend(bytes, level)
    const pointer = this.node(level)
    const list = pointer === 0 ? 0 : (this.nodes.words[routesIndex(pointer, level)] ?? 0)
    const isKnown = findRoute(this.lists.words, list, heap) !== 0
    if (!isKnown && hop === 0) return false
    this.nodes.useSpare = isKnown
    this.lists.useSpare = isKnown
    this.open(bytes, level)
    this.routes.load(this.lists.words, list)
    this.routes.set(heap, hop)
    this.image.routes = this.routes.store(this.lists, list)
    this.spread(level, heap, bits)
    this.ascend(bytes, level, this.close(level))
    this.size += Number(hop !== 0) - Number(isKnown)
    return isKnown
  }

  /** Fills `path` down to a level. */
  private descend(bytes: Uint8Array, level: number): void {
    this.path.fill(0)
    this.path[0] = this.root
    for (let depth = 0; depth < level; depth++) {
      const value = this.image.value(this.node(depth), depth, bytes[depth] ?? 0)
      if (value >= 0) return
      this.path[depth + 1] = -value
    }
  }

  /** Opens the node of a level in `image`; one that is new takes what its parent answers as default. */
  private open(bytes: Uint8Array, level: number): void {
    const pointer = this.node(level)
    const parent = level === 0 ? 0 : this.node(level - 1)
    if (pointer !== 0) this.image.load(pointer, level)
    else if (parent === 0) this.image.clear(0)
    else this.image.clear(this.image.value(parent, level - 1, bytes[level - 1] ?? 0))
  }

  /** Stores `image` in the place of the node of a level. @returns its pointer, 0 when nothing is left in it */
  private close(level: number): number {
    const pointer = this.node(level)
    if (level > 0 && this.image.isEmpty()) {
      this.nodes.release(pointer & ~IS_WIDE)
      return 0
    }
    return this.image.store(pointer, level)
  }

  /** Gives the bytes under a changed route their hops anew, or the children there their default. */
  private spread(level: number, heap: number, bits: number): void {
    const { values } = this.image
    const first = (heap << (8 - bits)) - 256
    const end = first + (1 << (8 - bits))
    for (let byte = first; byte < end; byte++) {
      const hop = this.routes.cover(byte)
      const child = -(values[byte] ?? 0)
      if (child <= 0) {
        values[byte] = hop
      } else if (this.nodes.words[defaultIndex(child, level + 1)] !== hop) {
        const copy = this.own(child)
        this.nodes.words[defaultIndex(copy, level + 1)] = hop
        values[byte] = -copy
      }
    }
  }

  /** Gives every node on the path its new child, from the bottom up. */
  private ascend(bytes: Uint8Array, level: number, changed: number): void {
    let child = changed
    for (let depth = level - 1; depth >= 0; depth--) {
      const old = this.node(depth + 1)
      if (child === old) return
      const byte = bytes[depth] ?? 0
      if (child !== 0 && old !== 0) {
        // One child for another: the node keeps its shape.
        const copy = this.own(this.node(depth))
        this.nodes.words[childIndex(this.nodes.words, copy, depth, byte)] = -child
        child = copy
      } else {
        // Of a child that goes, which is what `image` holds then, the parent takes the default back.
        const { outer } = this.image
        this.open(bytes, depth)
        this.image.values[byte] = child === 0 ? outer : -child
        child = this.close(depth)
      }
    }
    this.root = child
  }

  /** A node that may be written, with the same content. */
  private own(pointer: number): number {
    return this.nodes.own(pointer & ~IS_WIDE) | (pointer & IS_WIDE)
  }

  private node(depth: number): number {
    return this.path[depth] ?? 0
  }
}
