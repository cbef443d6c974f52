/**
 * Following the leases in a directory: look, tell the difference, wait until there is a reason to
 * look again.
 *
 * The reasons are a change notification, a lease that has just expired, and the rescan time, which
 * also covers what no notification tells (a full inotify table, a directory replaced by another).
 * A directory that is gone counts as a store that cannot be reached: its leases are not deleted, and
 * what is found when it is back is a new snapshot.
 */
import { watch, type FSWatcher } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createBackoff } from './backoff.js'
import { createFileScan } from './file-scan.js'
import type { LeaseFiles } from './lease-files.js'
import type { Reachability } from './reachability.js'
import type { StoreEvent, StoreObserver } from './store.js'

export interface FileWatchParts {
  readonly files: LeaseFiles
  readonly reachability: Reachability
  readonly observer: StoreObserver
  /** Time between looks without a notification, ms. */
  readonly rescanMs: number
  /** Removes what has expired; never rejects. */
  readonly sweep: () => Promise<void>
}

/** Time between looks is at least so many times what the last one took, however many files there are. */
const REST = 50

/** Ends when the signal fires; never throws. */
export async function* watchFiles(
  { files, reachability, observer, rescanMs, sweep }: FileWatchParts,
  signal: AbortSignal,
): AsyncGenerator<StoreEvent, void, undefined> {
  const backoff = createBackoff()
  const bell = createBell(signal)
  const notifier = createNotifier(files.subnetsPath, bell.ring)
  const scan = createFileScan(files, observer)
  let isComplete = false
  const stopped = () => signal.aborted
  try {
    while (!stopped()) {
      let pause: number
      try {
        await notifier.follow()
        const start = performance.now()
        const { events, expired, nextExpiry } = await scan.look()
        const took = performance.now() - start
        if (stopped()) return
        reachability.up(files.subnetsPath)
        backoff.reset()
        if (isComplete) yield* events
        else yield { type: 'snapshot', leases: scan.leases() }
        isComplete = true
        if (expired > 0) await sweep()
        const rest = Math.max(rescanMs, REST * took)
        pause = Math.min(rest, Math.max(1, nextExpiry - Date.now()))
      } catch (error) {
        reachability.down(error instanceof Error ? error.message : String(error))
        isComplete = false
        pause = backoff.next()
      }
      await bell.wait(pause)
    }
  } finally {
    notifier.close()
  }
}

interface Bell {
  readonly ring: () => void
  /** Ends at a ring (also one since the last wait), when the signal fires, or after the time in ms. */
  wait(ms: number): Promise<void>
}

function createBell(signal: AbortSignal): Bell {
  let hasRung = false
  let wake: () => void = () => undefined
  return {
    ring() {
      hasRung = true
      wake()
    },
    async wait(ms) {
      if (!hasRung && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer)
            signal.removeEventListener('abort', done)
            resolve()
          }
          const timer = setTimeout(done, ms)
          signal.addEventListener('abort', done)
          wake = done
        })
      }
      hasRung = false
    },
  }
}

interface Notifier {
  /**
   * Sees to it that the directory now at the path is the one being followed. A notification that
   * cannot be had is no error: the rescan covers it. @throws when there is no directory
   */
  follow(): Promise<void>
  close(): void
}

function createNotifier(path: string, onChange: () => void): Notifier {
  let watcher: FSWatcher | null = null
  let followed = -1
  const close = () => {
    watcher?.close()
    watcher = null
    followed = -1
  }
  return {
    close,
    async follow() {
      const { ino } = await stat(path)
      if (ino === followed) return
      close()
      try {
        watcher = watch(path, onChange)
        watcher.on('error', close)
        followed = ino
      } catch {
        close()
      }
    },
  }
}
