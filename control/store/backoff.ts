/**
 * Waiting times between attempts to reach a store again: doubling, bounded, and spread, so that
 * daemons that lost a store together do not come back to it together.
 */

/** First and longest wait in ms; flannel's figures for its etcd watch. */
export const BACKOFF_MIN_MS = 100
export const BACKOFF_MAX_MS = 5000

export interface Backoff {
  /** Next wait in ms: the doubled base, plus or minus a fifth. */
  next(): number
  /** Back to the first wait, after a good answer. */
  reset(): void
}

export function createBackoff(minMs = BACKOFF_MIN_MS, maxMs = BACKOFF_MAX_MS): Backoff {
  let base = minMs
  return {
    next() {
      const wait = base * (0.8 + 0.4 * Math.random())
      base = Math.min(base * 2, maxMs)
      return wait
    },
    reset() {
      base = minMs
    },
  }
}
