/**
 * The store in a directory, for the daemons of one machine, and for fixed sites.
 *
 * The same keys and values as in etcd, as files that an operator reads, writes and removes with any
 * tool. A file written by hand has no lifetime, so a fixed set of hosts is the same files copied to
 * each of them. Writers hold directory-lock.ts; readers need no lock. Lifetimes are wall-clock times.
 */
import { readFile } from 'node:fs/promises'
import { HeddleError } from '../errors.js'
import type { Lease } from '../lease.js'
import { formatSubnetKey } from '../subnet-key.js'
import { joinSignals, settle } from './abort.js'
import { createDirectoryLock, type HeldLock } from './directory-lock.js'
import { fileStoreError, orMissing } from './file-errors.js'
import { watchFiles } from './file-watch.js'
import { createLeaseFiles, type LeaseFile } from './lease-files.js'
import { createReachability } from './reachability.js'
import { mapSeveral } from './several.js'
import type { StoreObserver, SubnetStore } from './store.js'

export interface FileStoreOptions {
  readonly directory: string
  readonly observer?: StoreObserver
  /** Bound of one call, in ms. Default 5000. */
  readonly timeoutMs?: number
  /** Time between looks at the directory without a notification, in ms. Default 2000. */
  readonly rescanMs?: number
}

/** What a call may take beyond the wait for the lock, ms. */
const GRACE_MS = 1000

/** A store in a directory, which is created with the first call if need be. */
export function createFileStore(options: FileStoreOptions): SubnetStore {
  const { directory } = options
  const observer = options.observer ?? {}
  const timeoutMs = options.timeoutMs ?? 5000
  const rescanMs = options.rescanMs ?? 2000
  const reachability = createReachability(observer)
  const files = createLeaseFiles(directory)
  const lock = createDirectoryLock(files.lockPath, { timeoutMs, drafts: files.draftsPath })
  const closing = new AbortController()
  const underWay = new Set<Promise<unknown>>()
  let prepared: Promise<unknown> | null = null

  /** Runs an operation bounded and cancellable; one that lost the race still ends by itself. */
  async function bounded<T>(
    outer: AbortSignal,
    operation: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { signal, dispose } = joinSignals(outer, closing.signal)
    const running = signal.aborted ? Promise.reject(new Error('not begun')) : operation(signal)
    const tracked = running.then(dispose, dispose).finally(() => underWay.delete(tracked))
    underWay.add(tracked)
    const tooLate = () => new Error(`no answer within ${timeoutMs + GRACE_MS} ms`)
    try {
      const result = await settle(running, signal, timeoutMs + GRACE_MS, tooLate)
      reachability.up(directory)
      return result
    } catch (cause) {
      const error = fileStoreError(directory, cause)
      if (!signal.aborted) reachability.down(error.message)
      throw error
    }
  }

  function read<T>(outer: AbortSignal, operation: () => Promise<T>): Promise<T> {
    return bounded(outer, async () => {
      // Readers do without: a fixed site's directory may be read-only.
      await (prepared ??= files.prepare().catch(() => undefined))
      return operation()
    })
  }

  function write<T>(outer: AbortSignal, work: (held: HeldLock) => Promise<T>): Promise<T> {
    return bounded(outer, async (signal) => {
      await files.prepare()
      return lock.run(signal, async (held) => {
        await files.sweep(held)
        return work(held)
      })
    })
  }

  async function readReporting(name: string): Promise<Lease | null> {
    const file = await files.read(name)
    if (file.kind === 'fault') observer.onSkip?.(name, file.why)
    return living(file)
  }

  async function* watch(outer: AbortSignal) {
    const { signal, dispose } = joinSignals(outer, closing.signal)
    const sweep = () => write(signal, () => Promise.resolve()).catch(() => undefined)
    await (prepared ??= files.prepare().catch(() => undefined))
    try {
      yield* watchFiles({ files, reachability, observer, rescanMs, sweep }, signal)
    } finally {
      dispose()
    }
  }

  return {
    description: `directory ${directory}`,
    readConfig: (signal) => read(signal, () => orMissing(readFile(files.configPath, 'utf8'))),
    listLeases: (signal) =>
      read(signal, async () => {
        const leases = await mapSeveral(await files.names(), readReporting)
        return leases.filter((lease) => lease !== null)
      }),
    readLease: (subnet, signal) => read(signal, () => readReporting(formatSubnetKey(subnet))),
    createLease: (subnet, attrs, ttlMs, signal) =>
      write(signal, async (held) => {
        if ((await files.read(formatSubnetKey(subnet))).kind !== 'absent') return null
        return files.write(subnet, attrs, Date.now() + ttlMs, 'create', held)
      }),
    updateLease: (lease, attrs, ttlMs, signal) =>
      write(signal, async (held) => {
        const found = living(await files.read(formatSubnetKey(lease.subnet)))
        if (found?.version !== lease.version) return null
        const expiresAt = found.expiresAt === null ? null : Date.now() + ttlMs
        return files.write(lease.subnet, attrs, expiresAt, 'replace', held)
      }),
    deleteLease: (lease, signal) =>
      write(signal, async (held) => {
        const name = formatSubnetKey(lease.subnet)
        if (living(await files.read(name))?.version !== lease.version) return false
        await files.remove(name, held)
        return true
      }),
    isStoreLeaseAlive: (lease, signal) =>
      read(signal, async () => {
        if (lease.storeLease === '') return true
        const name = formatSubnetKey(lease.subnet)
        return ((await files.expiry(name, lease.storeLease)) ?? 0) > Date.now()
      }),
    watch,
    async close() {
      closing.abort(new HeddleError('HEDDLE_ABORTED', 'the store was closed'))
      await Promise.all(underWay)
    },
  }
}

/** The lease in a file unless there is none or its lifetime is over. */
function living(file: LeaseFile): Lease | null {
  if (file.kind !== 'lease') return null
  const { expiresAt } = file.lease
  return expiresAt === null || expiresAt > Date.now() ? file.lease : null
}
