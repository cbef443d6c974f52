/**
 * Whether a store can be reached, told to its observer on changes only.
 *
 * A store counts as reachable until something fails, so a healthy start says nothing. A stream that
 * breaks is no change by itself: only a failed attempt to open it again is.
 */
import type { StoreObserver } from './store.js'

export interface Reachability {
  up(detail: string): void
  down(detail: string): void
}

export function createReachability(observer: StoreObserver): Reachability {
  let reachable = true
  return {
    up(detail) {
      if (reachable) return
      reachable = true
      observer.onConnection?.(true, detail)
    },
    down(detail) {
      if (!reachable) return
      reachable = false
      observer.onConnection?.(false, detail)
    },
  }
}
