/**
 * Cancelling and bounding what a store does.
 *
 * Both stores promise that a call ends when its signal fires, when the store is closed, or when its
 * time is over, even if what they wait for never answers. A wait that loses such a race goes on in
 * the background; its late rejection is swallowed here, so it never becomes an unhandled one.
 */
import { setMaxListeners } from 'node:events'
import { HeddleError, isHeddleError } from '../errors.js'

/** Why a signal fired, as the error to throw: named `AbortError`, or HEDDLE_ABORTED after close(). */
export function abortError(signal: AbortSignal): Error {
  const reason: unknown = signal.reason
  if (reason instanceof HeddleError) return reason
  if (reason instanceof Error && reason.name === 'AbortError') return reason
  const error = new Error('the operation was cancelled', { cause: reason })
  error.name = 'AbortError'
  return error
}

/** Whether an error only says that its operation was cancelled. */
export function isAbortError(error: unknown): boolean {
  return (
    (error instanceof Error && error.name === 'AbortError') ||
    isHeddleError(error, 'HEDDLE_ABORTED')
  )
}

/** Whether the signal has fired by now: after an `await` the compiler believes an older answer. */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted
}

/** @throws what abortError says, once the signal has fired */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortError(signal)
}

export interface JoinedSignal {
  readonly signal: AbortSignal
  /** Lets go of the two sources; the joined signal then never fires. */
  readonly dispose: () => void
}

/** A signal that fires with the first of two. AbortSignal.any() keeps its result on long-lived sources. */
export function joinSignals(a: AbortSignal, b: AbortSignal): JoinedSignal {
  // Many calls may wait on one signal at a time; each takes its listener away again.
  setMaxListeners(0, a, b)
  const joined = new AbortController()
  const onA = () => {
    joined.abort(a.reason)
  }
  const onB = () => {
    joined.abort(b.reason)
  }
  if (a.aborted) onA()
  else if (b.aborted) onB()
  a.addEventListener('abort', onA)
  b.addEventListener('abort', onB)
  return {
    signal: joined.signal,
    dispose() {
      a.removeEventListener('abort', onA)
      b.removeEventListener('abort', onB)
    },
  }
}

/**
 * A promise's result, unless the signal fires or the time is over first.
 * @param ms         bound in ms
 * @param onTimeout  makes the error to reject with when the time is over
 */
export function settle<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  ms: number,
  onTimeout: () => Error,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const finish = (act: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      act()
    }
    const onAbort = () => {
      finish(() => {
        reject(abortError(signal))
      })
    }
    const timer = setTimeout(() => {
      finish(() => {
        reject(onTimeout())
      })
    }, ms)
    promise.then(
      (value) => {
        finish(() => {
          resolve(value)
        })
      },
      (error: unknown) => {
        finish(() => {
          reject(error instanceof Error ? error : new Error(String(error)))
        })
      },
    )
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
  })
}

/** Waits; rejects as soon as the signal fires. @param ms  time to wait */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(abortError(signal))
      return
    }
    const onAbort = () => {
      clearTimeout(timer)
      reject(abortError(signal))
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
