/**
 * What devices in memory refuse, on order, and how they go on then: as Linux does.
 */
import type { Entries } from '../packet/entries.js'
import { describeEndpoint, EAGAIN, EMSGSIZE, ENOBUFS, type Endpoint } from './endpoint.js'

/** Makes the next entries fail with an errno, as a kernel short of memory or a dead peer would. */
export class Refusals {
  private errno = 0
  private left = 0
  private areJoinedOnly = false

  set(errno: number, times: number, areJoinedOnly: boolean): void {
    this.errno = errno
    this.left = times
    this.areJoinedOnly = areJoinedOnly
  }

  /**
   * @param isJoined  whether the entry is a run or a super-packet
   * @returns         the errno to answer the next entry with, 0 = treat it normally
   */
  next(isJoined: boolean): number {
    if (this.left === 0 || (this.areJoinedOnly && !isJoined)) return 0
    this.left--
    return this.errno
  }
}

/** Paths to peers that are too narrow for some datagrams. */
export class NarrowPaths {
  private readonly paths = new Map<string, { readonly room: number; readonly errno: number }>()

  set(to: Endpoint, room: number, errno: number): void {
    this.paths.set(describeEndpoint(to), { room, errno })
  }

  /** Bytes that a datagram may have so that it travels in one piece. */
  room(to: Endpoint): number {
    return this.paths.get(describeEndpoint(to))?.room ?? Infinity
  }

  /** What the answer to a longer run is. */
  errno(to: Endpoint): number {
    return this.paths.get(describeEndpoint(to))?.errno ?? 0
  }
}

/**
 * Gives entries their results, up to the first refused one that is too long or stands for several
 * packets.
 * @param take  takes an entry; its errno, 0 = taken
 * @returns     index behind the last entry that has a result
 */
export function takeEach(entries: Entries, first: number, take: (i: number) => number): number {
  for (let i = first; i < entries.count; i++) {
    const errno = take(i)
    entries.setResult(i, errno)
    const isFull = errno === EAGAIN || errno === ENOBUFS
    if (errno === EMSGSIZE || (errno !== 0 && !isFull && entries.segment(i) > 0)) return i + 1
  }
  return entries.count
}
