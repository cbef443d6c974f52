/**
 * One look at all lease files, compared with the look before.
 *
 * A file is read again only when its inode, times or size have changed. A file that held a lease
 * and now holds garbage keeps its lease until it is removed; garbage is reported once a change.
 * What is known is kept from look to look and changed in place: a look at ten thousand files that
 * are as they were leaves next to nothing behind.
 */
import type { Lease } from '../lease.js'
import { forEachInGroups } from './in-groups.js'
import type { LeaseFiles } from './lease-files.js'
import type { StoreEvent, StoreObserver } from './store.js'

export interface ScanResult {
  /** What has changed since the look before: first what went, then what came or changed. */
  readonly events: readonly StoreEvent[]
  /** Number of files whose lifetime is over. */
  readonly expired: number
  /** Unix time in ms at which the next lifetime ends; Infinity when none does. */
  readonly nextExpiry: number
}

export interface FileScan {
  /** Looks. Rejects when the directory cannot be read; what had changed by then is not told any more. */
  look(): Promise<ScanResult>
  /** All leases that live as of the last look, in ascending key order. */
  leases(): Lease[]
}

interface Known {
  /** Of the file as it was last read, also when it was garbage then. */
  stamp: string
  /** Null = no lease so far. */
  lease: Lease | null
  /** Whether the last reading found garbage; then the lease is an earlier one. */
  isFaulty: boolean
  /** Whether a look has found a lease here that lived. */
  isTold: boolean
  /** Number of the last look that found the file. */
  seen: number
}

export function createFileScan(files: LeaseFiles, observer: StoreObserver): FileScan {
  const known = new Map<string, Known>()
  let looks = 0

  async function look(): Promise<ScanResult> {
    looks++
    const changed: string[] = []
    await forEachInGroups(await files.names(), async (name) => {
      if (await examine(name)) changed.push(name)
    })
    const now = Date.now()
    const events: StoreEvent[] = []
    let expired = 0
    let nextExpiry = Infinity
    for (const [name, file] of known) {
      const { lease, seen } = file
      // Garbage has no lifetime: the lease of before stays as long as the file.
      const expiresAt = file.isFaulty ? Infinity : (lease?.expiresAt ?? Infinity)
      if (seen === looks && expiresAt > now) {
        file.isTold = lease !== null
        nextExpiry = Math.min(nextExpiry, expiresAt)
        continue
      }
      if (seen === looks) expired++
      known.delete(name)
      if (lease !== null && file.isTold) events.push({ type: 'delete', subnet: lease.subnet })
    }
    for (const name of changed.sort()) {
      const lease = known.get(name)?.lease ?? null
      if (lease !== null) events.push({ type: 'put', lease })
    }
    return { events, expired, nextExpiry }
  }

  /** Brings what is known of a file up to date. @returns whether it holds another lease than before */
  async function examine(name: string): Promise<boolean> {
    const stamp = await files.stamp(name)
    if (stamp === null) return false
    const before = known.get(name)
    if (before !== undefined) before.seen = looks
    if (before?.stamp === stamp) return false
    const file = await files.read(name)
    if (file.kind === 'absent') {
      if (before !== undefined) before.seen = 0
      return false
    }
    const lease = file.kind === 'lease' ? file.lease : (before?.lease ?? null)
    if (file.kind === 'fault') observer.onSkip?.(name, file.why)
    known.set(name, {
      stamp: file.stamp,
      lease,
      isFaulty: file.kind === 'fault',
      isTold: before?.isTold ?? false,
      seen: looks,
    })
    return lease !== null && lease.version !== before?.lease?.version
  }

  return {
    look,
    leases: () => [...known].sort(byName).flatMap(([, { lease }]) => lease ?? []),
  }
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1
}
