/**
 * Next hops: where a route leads, as columns in shared memory.
 *
 * A hop is immutable. A changed peer is a new hop, and the route is set to it; so a reader never
 * sees the address of one peer with the port of another. An index is used again only after every
 * reader has left the breath in which it may have found it. Index 0 is never a hop.
 *
 * Beside the columns each hop has a *name*: the socket address that the kernel wants, ready made,
 * so that sending copies and computes nothing.
 *
 *     name of 32 bytes   0 family (2, native)  2 port (2, network)
 *       AF_INET          4 address (4)         8 zero (8)
 *       AF_INET6         4 flow info (4)       8 address (16)  24 scope (4)
 *                       28 length of the socket address, 16 or 28 (4, native)
 */
import type { FibShared } from './layout.js'

/** Bytes per entry of a name table. */
export const NAME_SIZE = 32

/** Linux address families (bits/socket.h) as they stand in a socket address. */
const AF_INET = 2
const AF_INET6 = 10
const SOCKADDR_IN_LEN = 16
const SOCKADDR_IN6_LEN = 28
const LENGTH_AT = 28

const IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** Columns: value = columns[COLUMN * capacity + hop]. */
const FAMILY = 0
const PORT = 1
const ADDRESS = 2
const MAC_HIGH = 6
const MAC_LOW = 7
export const HOP_COLUMNS = { FAMILY, PORT, ADDRESS, MAC_HIGH, MAC_LOW } as const
export const HOP_COLUMN_COUNT = 8

/** Families of hops that are no peers: the own subnet, and a peer that takes no IPv6. */
export const FAMILY_LOCAL = 0
export const FAMILY_NO_IPV6 = 1

/** What a reader, or a sender, asks of the hops. Valid for the hops found since `enter()`. */
export class HopTable {
  /** The names of all hops, to hand to the outside port. */
  readonly names: Uint8Array
  private readonly columns: Int32Array
  private readonly capacity: number

  constructor(shared: FibShared) {
    this.columns = new Int32Array(shared.hops)
    this.names = new Uint8Array(shared.names)
    this.capacity = this.names.length / NAME_SIZE
  }

  /** Whether the hop stands for the own subnet: such a packet should not have come here. */
  isLocal(hop: number): boolean {
    return this.columns[hop] === FAMILY_LOCAL
  }
  /** Whether the hop can be sent to. */
  isPeer(hop: number): boolean {
    return (this.columns[hop] ?? 0) > FAMILY_NO_IPV6
  }
  /** Family of the outer address: 4 or 6; less for a hop that is no peer. */
  family(hop: number): number {
    return this.columns[hop] ?? 0
  }
  /** UDP port, host order. */
  port(hop: number): number {
    return this.columns[PORT * this.capacity + hop] ?? 0
  }
  /** Word 0..3 of the outer address, int32, host order, most significant first; IPv4 has word 0 only. */
  addressWord(hop: number, word: number): number {
    return this.columns[(ADDRESS + word) * this.capacity + hop] ?? 0
  }
  /** Upper 16 bits of the MAC address of the peer's VTEP; 0 for a peer without one. */
  macHigh(hop: number): number {
    return this.columns[MAC_HIGH * this.capacity + hop] ?? 0
  }
  /** Lower 32 bits of it, int32. */
  macLow(hop: number): number {
    return this.columns[MAC_LOW * this.capacity + hop] ?? 0
  }
  /** Byte offset of the hop's name in `names`. */
  name(hop: number): number {
    return hop * NAME_SIZE
  }
  /** The hop that a byte offset in `names` stands for. */
  named(name: number): number {
    return name / NAME_SIZE
  }
}

/** Opens the next hops of a table for reading. */
export function createHopTable(shared: FibShared): HopTable {
  return new HopTable(shared)
}

/**
 * Writes one name; the senders of other tables (ICMP) use it, too.
 * @param names   table of names
 * @param at      byte offset of the name in it
 * @param family  4 or 6
 * @param word0   address bits, int32, host order; for IPv6 the most significant word
 * @param word1   next words, ignored for IPv4
 * @param port    UDP port, host order
 * Source:        netinet/in.h, struct sockaddr_in and sockaddr_in6 (Linux)
 */
export function writeName(
  names: Uint8Array,
  at: number,
  family: number,
  word0: number,
  word1: number,
  word2: number,
  word3: number,
  port: number,
): void {
  names.fill(0, at, at + NAME_SIZE)
  names[at + 2] = port >>> 8
  names[at + 3] = port
  if (family === 4) {
    writeNative(names, at, 2, AF_INET)
    writeWord(names, at + 4, word0)
    writeNative(names, at + LENGTH_AT, 4, SOCKADDR_IN_LEN)
  } else {
    writeNative(names, at, 2, AF_INET6)
    writeWord(names, at + 8, word0)
    writeWord(names, at + 12, word1)
    writeWord(names, at + 16, word2)
    writeWord(names, at + 20, word3)
    writeNative(names, at + LENGTH_AT, 4, SOCKADDR_IN6_LEN)
  }
}

/** Writes a number below 256 as a native integer of `size` bytes; the other bytes are 0 already. */
function writeNative(names: Uint8Array, at: number, size: number, value: number): void {
  names[IS_LITTLE_ENDIAN ? at : at + size - 1] = value
}

function writeWord(names: Uint8Array, at: number, word: number): void {
  names[at] = word >>> 24
  names[at + 1] = word >>> 16
  names[at + 2] = word >>> 8
  names[at + 3] = word
}
