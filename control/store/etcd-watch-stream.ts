/**
 * One watch stream of etcd as a queue that can be waited on.
 *
 * etcd3's own watcher is not used: after a reconnect it resumes behind the revision at which the
 * stream was accepted, which skips what happened in between; it hides the compacted revision; and
 * it throws inside an event handler when a response comes for a watch just cancelled.
 */
import type { IWatchRequest, IWatchResponse } from 'etcd3'
import { settle } from './abort.js'
import { NoAnswer, WatchCancelled } from './etcd-errors.js'

/** What etcd3's WatchClient opens. */
export interface RawWatchStream {
  on(event: 'data', fn: (response: IWatchResponse) => void): this
  on(event: 'end', fn: () => void): this
  on(event: 'error', fn: (error: Error) => void): this
  write(request: IWatchRequest): void
  end(): void
  cancel(): void
}

export interface WatchStream {
  /** Resolves once etcd has accepted the watch. @throws WatchCancelled, or what ended the stream */
  accepted(timeoutMs: number, signal: AbortSignal): Promise<void>
  /**
   * Next response with events.
   * @param timeoutMs  bound of the wait, ms
   * @returns          null when the time is over or the signal has fired
   * @throws           WatchCancelled, or what ended the stream
   */
  next(timeoutMs: number, signal: AbortSignal): Promise<IWatchResponse | null>
  close(): void
}

/** Ends a stream; end() first, or etcd3 takes our own cancellation for a failed host. */
export function closeRaw(raw: RawWatchStream): void {
  raw.end()
  raw.cancel()
}

/** @param describe  turns what ended the stream into the error to throw */
export function createWatchStream(
  raw: RawWatchStream,
  describe: (error: unknown) => Error,
): WatchStream {
  const queue: IWatchResponse[] = []
  const ended: { by: Error | null } = { by: null }
  let wake: () => void = () => undefined
  let accept: () => void = () => undefined
  let refuse: (error: Error) => void = () => undefined
  const acceptance = new Promise<void>((resolve, reject) => {
    accept = resolve
    refuse = reject
  })
  acceptance.catch(() => undefined)

  const end = (error: unknown) => {
    if (ended.by !== null) return
    ended.by = error instanceof WatchCancelled ? error : describe(error)
    refuse(ended.by)
    wake()
  }
  raw.on('data', (response) => {
    if (response.canceled) {
      end(new WatchCancelled(response))
    } else if (response.created) {
      accept()
    } else if (response.events.length > 0) {
      queue.push(response)
      wake()
    }
  })
  raw.on('error', end)
  raw.on('end', () => {
    end(new NoAnswer('the watch stream ended'))
  })

  return {
    accepted: (timeoutMs, signal) =>
      settle(acceptance, signal, timeoutMs, () =>
        describe(new NoAnswer(`the watch was not accepted within ${timeoutMs} ms`)),
      ),
    async next(timeoutMs, signal) {
      if (queue.length === 0 && ended.by === null && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer)
            signal.removeEventListener('abort', done)
            resolve()
          }
          const timer = setTimeout(done, timeoutMs)
          signal.addEventListener('abort', done)
          wake = done
        })
      }
      if (signal.aborted) return null
      const response = queue.shift()
      if (response !== undefined) return response
      if (ended.by !== null) throw ended.by
      return null
    },
    close() {
      closeRaw(raw)
    },
  }
}
