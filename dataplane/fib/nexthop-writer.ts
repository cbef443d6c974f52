/**
 * The writing side of the next hops: hands out indices and takes them back.
 *
 * The order of things keeps readers safe. A hop is complete before a route can name it, because the
 * route's publication comes later in the same thread; and it is retired after its routes are gone.
 */
import type { Mac } from '../mac.js'
import type { GraceList } from './grace-writer.js'
import type { FibShared } from './layout.js'
import {
  FAMILY_LOCAL,
  FAMILY_NO_IPV6,
  HOP_COLUMNS,
  HOP_COLUMN_COUNT,
  NAME_SIZE,
  writeName,
} from './nexthop.js'

/** How long `add…` waits for readers before it calls the table full. */
const PATIENCE_MS = 100

/** MAC address of hops that have none. */
const NO_MAC: Mac = { high: 0, low: 0 }

/** Bytes of the two memories that so many hops take. */
export function hopBytes(capacity: number): { readonly hops: number; readonly names: number } {
  return { hops: capacity * HOP_COLUMN_COUNT * 4, names: capacity * NAME_SIZE }
}

export class HopWriter {
  /** Number of hops that were added and not retired. */
  size = 0
  private readonly columns: Int32Array
  private readonly names: Uint8Array
  private readonly capacity: number
  private readonly grace: GraceList
  private readonly free: number[] = []
  private readonly live: Uint8Array
  private used = 1

  constructor(shared: FibShared, grace: GraceList) {
    this.columns = new Int32Array(shared.hops)
    this.names = new Uint8Array(shared.names)
    this.capacity = this.names.length / NAME_SIZE
    this.live = new Uint8Array(this.capacity)
    this.grace = grace
  }

  /**
   * Adds a peer.
   * @param address  outer address: int32 or uint32 for IPv4, 16 bytes for IPv6
   * @param port     UDP port, 1..65535; 0 for an encapsulation without ports
   * @param mac      MAC address of its VTEP, for an encapsulation that has them
   * @returns        its hop index, at least 1
   * @throws RangeError for an address or port that is none, or when all indices are in use
   */
  addPeer(address: number | Uint8Array, port: number, mac: Mac = NO_MAC): number {
    if (!Number.isInteger(port) || port < 0 || port > 65535) {
      throw new RangeError(`UDP port ${String(port)} is not within 0..65535`)
    }
    if (typeof address === 'number') {
      if (!Number.isInteger(address) || address < -0x80000000 || address > 0xffffffff) {
        throw new RangeError(`${String(address)} is not the bits of an IPv4 address`)
      }
      return this.write(4, port, address | 0, 0, 0, 0, mac)
    }
    if (address.length !== 16) {
      throw new RangeError(`an IPv6 address has 16 bytes, not ${String(address.length)}`)
    }
    const view = new DataView(address.buffer, address.byteOffset, 16)
    return this.write(
      6,
      port,
      view.getInt32(0),
      view.getInt32(4),
      view.getInt32(8),
      view.getInt32(12),
      mac,
    )
  }

  /**
   * Adds a hop that stands for the own subnet.
   * @throws RangeError when all indices are in use
   */
  addLocal(): number {
    return this.write(FAMILY_LOCAL, 0, 0, 0, 0, 0, NO_MAC)
  }

  /**
   * Adds a hop that stands for peers which take no IPv6.
   * @throws RangeError when all indices are in use
   */
  addNoIpv6(): number {
    return this.write(FAMILY_NO_IPV6, 0, 0, 0, 0, 0, NO_MAC)
  }

  /**
   * Gives an index back. No route may lead to it any more; its memory stays as it is until no
   * reader can be looking at it.
   * @throws RangeError for an index that is not in use
   * @throws Error inside `update()`: the routes that lead to it are not gone before that returns
   */
  retire(hop: number): void {
    if (this.live[hop] !== 1) throw new RangeError(`hop ${String(hop)} is not in use`)
    if (this.grace.isUpdateOpen) {
      throw new Error('a hop is retired after the update that removes its routes, not within it')
    }
    this.live[hop] = 0
    this.size--
    this.grace.retire(-hop)
    this.grace.collect()
  }

  /** Takes an index back for new use; the grace list calls it. */
  release(hop: number): void {
    this.free.push(hop)
  }

  private write(
    family: number,
    port: number,
    word0: number,
    word1: number,
    word2: number,
    word3: number,
    mac: Mac,
  ): number {
    const hop = this.take()
    this.column(HOP_COLUMNS.FAMILY, hop, family)
    this.column(HOP_COLUMNS.PORT, hop, port)
    this.column(HOP_COLUMNS.ADDRESS, hop, word0)
    this.column(HOP_COLUMNS.ADDRESS + 1, hop, word1)
    this.column(HOP_COLUMNS.ADDRESS + 2, hop, word2)
    this.column(HOP_COLUMNS.ADDRESS + 3, hop, word3)
    this.column(HOP_COLUMNS.MAC_HIGH, hop, mac.high)
    this.column(HOP_COLUMNS.MAC_LOW, hop, mac.low)
    const at = hop * NAME_SIZE
    if (family <= FAMILY_NO_IPV6) this.names.fill(0, at, at + NAME_SIZE)
    else writeName(this.names, at, family, word0, word1, word2, word3, port)
    this.live[hop] = 1
    this.size++
    return hop
  }

  private take(): number {
    if (this.free.length === 0 && this.used === this.capacity) this.grace.collectWithin(PATIENCE_MS)
    const freed = this.free.pop()
    if (freed !== undefined) return freed
    if (this.used < this.capacity) return this.used++
    throw new RangeError(
      `all ${String(this.capacity - 1)} next hops are in use; raise maxHops of createFib`,
    )
  }

  private column(column: number, hop: number, value: number): void {
    this.columns[column * this.capacity + hop] = value
  }
}
