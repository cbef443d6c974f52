/**
 * The trie of one address family, as its writer sees it: one byte of the address per level.
 *
 * A change goes down along the address, rewrites the node in which the prefix ends, and comes back
 * up giving each parent its new child. Published nodes are replaced, not written (memory-writer.ts),
 * so the result is a new root that nobody knows yet; its owner publishes or drops it.
 */
import { FLAGS, IS_CHILD, POINTER } from './layout.js'
import type { VersionedMemory } from './memory-writer.js'
import { NodeImage, type NodeStore } from './node-writer.js'
import { RouteImage, changeRoute, findRoute } from './routes-writer.js'

export class TrieWriter {
  /** Pointer of the root after the changes so far. */
  root: number
  /** Number of prefixes. */
  size = 0
  private readonly nodes: NodeStore
  private readonly lists: VersionedMemory
  private readonly image: NodeImage
  private readonly routes = new RouteImage()
  private readonly childImage: NodeImage
  private readonly childRoutes = new RouteImage()
  /** Pointers of the nodes along the address, 0 = not there yet. */
  private readonly path = new Int32Array(16)

  /**
   * @param nodes  shared memory of the nodes
   * @param lists  private memory of the route lists
   */
  constructor(nodes: NodeStore, lists: VersionedMemory) {
    this.nodes = nodes
    this.lists = lists
    this.image = new NodeImage(nodes)
    this.childImage = new NodeImage(nodes)
    this.image.clear(0)
    this.root = this.image.save(0, 0)
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
    const isKnown = findRoute(this.lists.words, this.nodes.list(this.node(level)), heap) !== 0
    if (!isKnown && hop === 0) return false
    this.nodes.memory.useSpare = isKnown
    this.lists.useSpare = isKnown
    this.open(bytes, level)
    this.image.list = changeRoute(this.lists, this.image.list, heap, hop)
    this.routes.load(this.lists.words, this.image.list)
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
      const value = this.nodes.value(this.node(depth), bytes[depth] ?? 0)
      if (value >= 0) return
      this.path[depth + 1] = value & POINTER
    }
  }

  /** Opens the node of a level in `image`; the outer hop of a new one comes from its parent's routes. */
  private open(bytes: Uint8Array, level: number): void {
    const pointer = this.node(level)
    if (pointer !== 0) {
      this.image.load(pointer)
      return
    }
    const parent = level === 0 ? 0 : this.node(level - 1)
    this.routes.load(this.lists.words, this.nodes.list(parent))
    this.image.clear(this.routes.cover(bytes[level - 1] ?? 0))
  }

  /** Saves `image` in the place of the node of a level. @returns its pointer, 0 when nothing is left in it */
  private close(level: number): number {
    const pointer = this.node(level)
    if (level > 0 && this.image.isEmpty()) {
      this.nodes.memory.release(pointer & ~FLAGS)
      return 0
    }
    return this.image.save(pointer, level)
  }

  /** Gives the bytes under a changed route their hops anew, and the children there their outer hops. */
  private spread(level: number, heap: number, bits: number): void {
    const { values, outer } = this.image
    const first = (heap << (8 - bits)) - 256
    const end = first + (1 << (8 - bits))
    for (let byte = first; byte < end; byte++) {
      const hop = this.routes.cover(byte)
      const value = values[byte] ?? 0
      const child = value & POINTER
      if (value >= 0) values[byte] = hop || outer
      else if (this.nodes.outer(child) !== hop) {
        values[byte] = this.reface(child, level + 1, hop) | IS_CHILD
      }
    }
  }

  /** Gives a child another outer hop. @returns its pointer */
  private reface(pointer: number, level: number, outer: number): number {
    const image = this.childImage
    image.load(pointer)
    image.outer = outer
    this.childRoutes.load(this.lists.words, image.list)
    for (let byte = 0; byte < 256; byte++) {
      if ((image.values[byte] ?? 0) >= 0) image.values[byte] = this.childRoutes.cover(byte) || outer
    }
    return image.save(pointer, level)
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
        const owned = this.nodes.own(this.node(depth))
        this.nodes.setChild(owned, byte, child)
        child = owned
      } else {
        // Of a child that goes, which is what `image` holds then, the parent takes the outer hop back.
        const { outer } = this.image
        this.open(bytes, depth)
        this.image.values[byte] = child === 0 ? outer || this.image.outer : child | IS_CHILD
        child = this.close(depth)
      }
    }
    this.root = child
  }

  private node(depth: number): number {
    return this.path[depth] ?? 0
  }
}
