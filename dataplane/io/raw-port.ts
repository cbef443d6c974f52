/**
 * Sender of whole IP packets by a raw socket: for ICMP errors towards the local side.
 *
 * Such a packet has one of our own addresses as source, which the kernel refuses when it arrives
 * on a device, so it cannot be written to the TUN. In IPv4 the kernel fills in the header checksum,
 * and the identification where it is 0 (raw(7), IP_HDRINCL).
 */
import { native, type Family } from '../native/native.js'
import type { Arena } from '../packet/arena.js'
import type { Entries } from '../packet/entries.js'

/** Protocol number of a raw socket that only sends (raw(7)): nothing queues up in it. */
const IPPROTO_RAW = 255

/**
 * Opens a raw socket in the network namespace of the calling thread.
 * @returns its descriptor, which can be posted to another thread
 * @throws  NativeError EPERM without CAP_NET_RAW
 */
export function openRaw(family: Family = 4): number {
  return native.rawSocket(family, IPPROTO_RAW, true)
}

export class RawPort {
  readonly fd: number
  private readonly fds: Int32Array
  private readonly arena: Arena

  /**
   * @param fd     what {@link openRaw} returned, on this thread or another
   * @param arena  where the packets of all entries lie
   */
  constructor(fd: number, arena: Arena) {
    this.fd = fd
    this.fds = Int32Array.of(fd)
    this.arena = arena
  }

  /**
   * Sends every entry, in order; each is one packet with its IP header. Borrows the bytes for
   * the call. The result of each entry is in `entries.result(i)` afterwards.
   * @param names  the table of destinations: `NAME_SIZE` bytes each, port 0
   */
  send(entries: Entries, names: Uint8Array): void {
    const { pieces, entries: fields, count } = entries
    for (let done = 0; done < count;) {
      done = native.send(this.fds, this.arena.bytes, pieces, fields, count, names, done)
    }
  }

  close(): void {
    native.close(this.fd)
  }
}
