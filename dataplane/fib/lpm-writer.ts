/**
 * The fast table, as its one writer sees it, and the making of its shared memory.
 *
 * Each change builds the new nodes beside the old ones and publishes them by one atomic store of the
 * family's root; the old ones wait in the grace list until no reader can see them. A change that
 * finds no room leaves the table exactly as it was.
 */
import type { FibWriter } from './fib.js'
import { GraceList } from './grace-writer.js'
import { BLOCK_SHIFT, ROOT4, ROOT6, epochWord, type FibShared } from './layout.js'
import { HopWriter, hopBytes } from './nexthop-writer.js'
import { VersionedMemory } from './memory-writer.js'
import { NodeStore } from './node-writer.js'
import { BlockPool, CHUNK_BYTES, MIN_RESERVE } from './pool-writer.js'
import { TrieWriter } from './trie-writer.js'

export interface FibOptions {
  /** Number of readers, each in its own thread. */
  readonly readers: number
  /**
   * Bytes reserved for nodes, and as many for the writer's route lists; default 256 MiB, at least
   * 2.2 MB. Address space only: memory is taken as routes come.
   */
  readonly reserveBytes?: number
  /** Next hops at most, the unused index 0 included; default 65536. */
  readonly maxHops?: number
}

export interface FibMemory {
  /** Bytes of the nodes in use, which readers share. */
  readonly nodeBytes: number
  /** Bytes of the route lists in use, which are the writer's own. */
  readonly listBytes: number
  /** Bytes of both that have been touched at some time. */
  readonly touchedBytes: number
  /** Replaced nodes and retired hops that wait for readers. */
  readonly waiting: number
}

const DEFAULT_RESERVE = 256 << 20
const DEFAULT_HOPS = 1 << 16
const MAX_HOPS = 1 << 24
const MAX_RESERVE = 2 ** 31

export class LpmWriter implements FibWriter {
  private readonly control: Int32Array
  private readonly pool: BlockPool
  private readonly listPool: BlockPool
  private readonly grace: GraceList
  private readonly nodes: VersionedMemory
  private readonly lists: VersionedMemory
  private readonly trie4: TrieWriter
  private readonly trie6: TrieWriter
  private readonly bytes4 = new Uint8Array(4)
  /** A change of the open update failed halfway; nothing of it may be published, even if the caller went on. */
  private fault: RangeError | null = null

  constructor(shared: FibShared, pool: BlockPool, grace: GraceList) {
    const words = new Int32Array(shared.nodes)
    const lists = new Int32Array(words.length)
    this.control = new Int32Array(shared.control)
    this.pool = pool
    this.listPool = new BlockPool(lists)
    this.grace = grace
    this.nodes = new VersionedMemory(words, pool, grace)
    this.lists = new VersionedMemory(lists, this.listPool, grace)
    const store = new NodeStore(this.nodes, new Int32Array(shared.outers))
    this.trie4 = new TrieWriter(store, this.lists)
    this.trie6 = new TrieWriter(store, this.lists)
    this.publish()
  }

  get size4(): number {
    return this.trie4.size
  }
  get size6(): number {
    return this.trie6.size
  }

  /** @throws RangeError for a prefix or hop that is none, or when the reserve is exhausted; the table is then unchanged */
  insert4(addr: number, len: number, hop: number): void {
    checkHop(hop)
    this.fill4(addr, len)
    this.change(this.trie4, this.bytes4, len, hop)
  }

  /** @throws RangeError for a prefix that is none; see {@link BlockPool} on why a full reserve does not stop a removal */
  remove4(addr: number, len: number): boolean {
    this.fill4(addr, len)
    return this.change(this.trie4, this.bytes4, len, 0)
  }

  /** @throws RangeError as insert4 does */
  insert6(addr: Uint8Array, len: number, hop: number): void {
    checkHop(hop)
    checkPrefix6(addr, len)
    this.change(this.trie6, addr, len, hop)
  }

  /** @throws RangeError as remove4 does */
  remove6(addr: Uint8Array, len: number): boolean {
    checkPrefix6(addr, len)
    return this.change(this.trie6, addr, len, 0)
  }

  /**
   * Runs several changes as one: a reader sees all of a family's or none, and when one of them
   * throws, or the caller does, none has happened. Readers keep the old table meanwhile. It is also
   * the fast way to fill a table.
   * @param change  calls insert and remove of this writer, any number of times
   */
  update(change: () => void): void {
    if (this.grace.isUpdateOpen) {
      throw new Error('an update cannot begin within another')
    }
    const { trie4, trie6 } = this
    const before = { root4: trie4.root, root6: trie6.root, size4: trie4.size, size6: trie6.size }
    this.grace.isUpdateOpen = true
    try {
      change()
      if (this.fault) throw this.fault
      this.publish()
    } catch (error) {
      this.nodes.drop()
      this.lists.drop()
      trie4.root = before.root4
      trie4.size = before.size4
      trie6.root = before.root6
      trie6.size = before.size6
      throw error
    } finally {
      this.fault = null
      this.grace.isUpdateOpen = false
    }
  }

  /** Memory in use; frees first what no reader can see any more. */
  memory(): FibMemory {
    this.grace.collect()
    return {
      nodeBytes: this.pool.usedWords * 4,
      listBytes: this.listPool.usedWords * 4,
      touchedBytes: (this.pool.touchedWords + this.listPool.touchedWords) * 4,
      waiting: this.grace.waiting,
    }
  }

  private change(trie: TrieWriter, bytes: Uint8Array, len: number, hop: number): boolean {
    if (!this.grace.isUpdateOpen) {
      let isKnown = false
      this.update(() => {
        isKnown = this.change(trie, bytes, len, hop)
      })
      return isKnown
    }
    try {
      return trie.set(bytes, len, hop)
    } catch (error) {
      this.fault = error as RangeError
      throw error
    }
  }

  private publish(): void {
    Atomics.store(this.control, ROOT4, this.trie4.root)
    Atomics.store(this.control, ROOT6, this.trie6.root)
    this.nodes.publish((node) => {
      this.grace.retire(node)
    })
    this.lists.publish((list) => {
      this.listPool.free(list)
    })
    this.grace.collect()
  }

  private fill4(addr: number, len: number): void {
    const bits = addr | 0
    if ((bits !== addr && bits >>> 0 !== addr) || !isLength(len, 32) || (len < 32 && bits << len)) {
      throw new RangeError(`${String(addr)}/${String(len)} is not an IPv4 prefix`)
    }
    this.bytes4[0] = bits >>> 24
    this.bytes4[1] = bits >>> 16
    this.bytes4[2] = bits >>> 8
    this.bytes4[3] = bits
  }
}

export interface Fib {
  /** Shared memory; hand it to a worker, which attaches with `attachFibReader` and `createHopTable`. */
  readonly shared: FibShared
  /** Of the thread that made the table, and no other. */
  readonly writer: LpmWriter
  readonly hops: HopWriter
}

/**
 * Makes an empty table and reserves all the memory it may ever use.
 * @throws RangeError for an option out of range
 */
export function createFib(options: FibOptions): Fib {
  const { readers, reserveBytes = DEFAULT_RESERVE, maxHops = DEFAULT_HOPS } = options
  checkOption('readers', readers, 1, 1024)
  checkOption('reserveBytes', reserveBytes, MIN_RESERVE, MAX_RESERVE)
  checkOption('maxHops', maxHops, 2, MAX_HOPS)
  const size = hopBytes(maxHops)
  const nodeBytes = Math.ceil(reserveBytes / CHUNK_BYTES) * CHUNK_BYTES
  const shared: FibShared = {
    nodes: new SharedArrayBuffer(nodeBytes),
    outers: new SharedArrayBuffer(nodeBytes >>> BLOCK_SHIFT),
    control: new SharedArrayBuffer(epochWord(readers) * 4),
    hops: new SharedArrayBuffer(size.hops),
    names: new SharedArrayBuffer(size.names),
  }
  const pool = new BlockPool(new Int32Array(shared.nodes))
  const grace = new GraceList(new Int32Array(shared.control), readers, (item) => {
    if (item > 0) pool.free(item)
    else hops.release(-item)
  })
  const hops = new HopWriter(shared, grace)
  return { shared, writer: new LpmWriter(shared, pool, grace), hops }
}

function checkOption(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(
      `${name} must be a whole number within ${String(least)}..${String(most)}, not ${String(value)}`,
    )
  }
}

function checkHop(hop: number): void {
  if (!Number.isInteger(hop) || hop < 1 || hop > 0x7fffffff) {
    throw new RangeError(`${String(hop)} is not a hop index`)
  }
}

function isLength(len: number, most: number): boolean {
  return Number.isInteger(len) && len >= 0 && len <= most
}

function checkPrefix6(addr: Uint8Array, len: number): void {
  let isPrefix = addr.length === 16 && isLength(len, 128)
  for (let bit = len; isPrefix && bit < 128; bit++) {
    isPrefix = (((addr[bit >>> 3] ?? 0) >>> (7 - (bit & 7))) & 1) === 0
  }
  if (!isPrefix) {
    throw new RangeError(
      `${Buffer.from(addr).toString('hex')}/${String(len)} is not an IPv6 prefix`,
    )
  }
}
