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
   * Writes every entry, in order. Borrows the bytes for the call. The result of each entry is in
   * `entries.result(i)` afterwards: 0 or a positive errno.
   */
  write(entries: Entries): void
}

export interface OutsidePort {
  /** Receives waiting datagrams into a rewound batch, without blocking; sets `batch.count`. */
  receive(batch: Batch): number
  /**
   * Sends every entry, in order, to the destination its name stands for. Borrows the bytes for the
   * call. The result of each entry is in `entries.result(i)` afterwards.
   * @param names  the table of destinations: `NAME_SIZE` bytes each, see fib/nexthop.ts
   */
  send(entries: Entries, names: Uint8Array): void
}
