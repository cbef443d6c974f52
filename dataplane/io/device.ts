/**
 * The devices that the engine is handed: an inside one (a TUN) and an outside one (a UDP port).
 *
 * The engine neither opens nor closes them and does not know whether they are Linux devices, an
 * in-memory pair, a capture file or a wrapper that loses packets on purpose.
 */
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'

export interface InsideDevice {
  /**
   * Reads waiting packets into a rewound batch, without blocking; sets `batch.count`.
   * @returns the number of packets read, 0 = nothing waits
   * @throws  an error with `code` when the device itself is gone; never for one packet
   */
  read(batch: Batch): number
  /**
   * Writes entries, in order. Borrows the bytes for the call. The result of each entry is in
   * `entries.result(i)` afterwards: 0 or a positive errno.
   * @param first  entry to begin with, default 0
   * @returns      index behind the last entry that has a result: all of them, unless one with a
   *               segment size was refused. What it stands for may then be written one by one
   *               before the rest, so that no flow loses its order.
   */
  write(entries: Entries, first?: number): number
}

export interface OutsidePort {
  /** Receives waiting datagrams into a rewound batch, without blocking; sets `batch.count`. */
  receive(batch: Batch): number
  /**
   * Sends entries, in order, to the destinations their names stand for. Borrows the bytes for the
   * call. The result of each entry is in `entries.result(i)` afterwards.
   * @param names  the table of destinations: `NAME_SIZE` bytes each, see fib/nexthop.ts
   * @param first  entry to begin with, default 0
   * @returns      index behind the last entry that has a result, as {@link InsideDevice.write};
   *               a datagram that is longer than the path to its destination (EMSGSIZE) is the last
   *               one tried, too
   */
  send(entries: Entries, names: Uint8Array, first?: number): number
  /**
   * Sends entries that {@link send} found longer than the path, none of them with a segment size, in
   * fragments. For the rare case: it takes several system calls.
   */
  sendInFragments(entries: Entries, names: Uint8Array): void
  /**
   * Bytes that a datagram to a destination may have so that it travels in one piece, by what the
   * kernel knows of the path now; 0 = it does not know. For the rare case that one is refused: it
   * may take several system calls.
   * @param name  byte offset of the destination in the table
   */
  pathRoom(names: Uint8Array, name: number): number
}
