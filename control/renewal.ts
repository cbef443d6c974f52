/**
 * When to renew the own lease. Pure: the caller brings the clock and does the renewing.
 *
 * The lease is renewed `margin` before it expires and, after a failure, every minute, as flannel
 * does. A lifetime not longer than the margin (a short one, in tests) is renewed at its half, and a
 * failure then retried after a tenth of it. The wait is capped, because timers do not run
 * while a machine is suspended, and expiry is wall-clock time.
 */

/** How long a caller may sleep before it looks at the clock again, ms. */
const LONGEST_WAIT_MS = 60_000

/** Wait after a failed renewal, ms. */
const RETRY_MS = 60_000

export interface RenewalState {
  /** Unix time, ms. */
  readonly nowMs: number
  /** When the store forgets the lease, Unix time, ms; null = never. */
  readonly expiresAtMs: number | null
  /** Lifetime that the lease was granted with, ms. */
  readonly ttlMs: number
  /** Wanted distance between renewal and expiry, ms. */
  readonly marginMs: number
  /** When the last attempt failed, Unix time, ms; null = it succeeded, or there was none. */
  readonly failedAtMs: number | null
}

export interface RenewalPlan {
  readonly isDue: boolean
  /** How long to wait before planning anew, ms; 0 when due. */
  readonly waitMs: number
}

/** Whether to renew now, and if not, how long to wait; a lease without expiry is never due. */
export function planRenewal(state: RenewalState): RenewalPlan {
  const { nowMs, expiresAtMs, ttlMs, marginMs, failedAtMs } = state
  if (expiresAtMs === null) return { isDue: false, waitMs: LONGEST_WAIT_MS }
  const dueAtMs = expiresAtMs - (marginMs < ttlMs ? marginMs : ttlMs / 2)
  const retryMs = Math.min(RETRY_MS, ttlMs / 10)
  // A clock set back must not stretch the wait for the next attempt.
  const retryAtMs = failedAtMs === null || failedAtMs > nowMs ? dueAtMs : failedAtMs + retryMs
  const waitMs = Math.ceil(Math.max(dueAtMs, retryAtMs) - nowMs)
  return waitMs <= 0
    ? { isDue: true, waitMs: 0 }
    : { isDue: false, waitMs: Math.min(waitMs, LONGEST_WAIT_MS) }
}
