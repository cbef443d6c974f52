/**
 * One look at all lease files, compared with the look before.
 *
 * A file is read again only when its inode, times or size have changed. A file that held a lease
 * and now holds garbage keeps its lease until it is removed; garbage is reported once a change.
 */
import type { Lease } from '../lease.js'
import type { LeaseFiles } from './lease-files.js'
import { mapSeveral } from './several.js'
import type { StoreEvent, StoreObserver } from './store.js'

export interface ScanResult {
  /** All leases that live, in ascending key order. */
  readonly leases: readonly Lease[]
  /** What has changed since the look before: first what went, then what came or changed. */
  readonly events: readonly StoreEvent[]
  /** Number of files whose lifetime is over. */
  readonly expired: number
  /** Unix time in ms at which the next lifetime ends; Infinity when none does. */
  readonly nextExpiry: number
}

interface Seen {
  readonly stamp: string
  readonly lease: Lease
}

/** A function that looks; it rejects when the directory cannot be read. */
export function createFileScan(
  files: LeaseFiles,
  observer: StoreObserver,
): () => Promise<ScanResult> {
  let known = new Map<string, Seen>()
  let faults = new Map<string, string>()

  return async () => {
    const now = new Map<string, Seen>()
    const faultsNow = new Map<string, string>()
    const puts: StoreEvent[] = []
    let expired = 0
    let nextExpiry = Infinity
    const names = await files.names()
    const looks = await mapSeveral(names, (name) => look(name, known.get(name), faultsNow))
    for (const [i, name] of names.entries()) {
      const before = known.get(name)
      const seen = looks[i] ?? null
      if (seen === null) continue
      const expiresAt = seen.lease.expiresAt ?? Infinity
      if (expiresAt <= Date.now() && !faultsNow.has(name)) {
        expired++
        continue
      }
      nextExpiry = Math.min(nextExpiry, faultsNow.has(name) ? Infinity : expiresAt)
      now.set(name, seen)
      if (seen.lease.version !== before?.lease.version)
        puts.push({ type: 'put', lease: seen.lease })
    }
    const deletes = [...known]
      .filter(([name]) => !now.has(name))
      .map(([, { lease }]): StoreEvent => ({ type: 'delete', subnet: lease.subnet }))
    known = now
    faults = faultsNow
    const leases = [...now.values()].map(({ lease }) => lease)
    return { leases, events: [...deletes, ...puts], expired, nextExpiry }
  }

  async function look(
    name: string,
    before: Seen | undefined,
    faultsNow: Map<string, string>,
  ): Promise<Seen | null> {
    const stamp = await files.stamp(name)
    if (stamp === null) return null
    if (before?.stamp === stamp) return before
    if (faults.get(name) === stamp) {
      faultsNow.set(name, stamp)
      return before ?? null
    }
    const file = await files.read(name)
    if (file.kind === 'absent') return null
    if (file.kind === 'lease') return file
    observer.onSkip?.(name, file.why)
    faultsNow.set(name, file.stamp)
    return before ?? null
  }
}
