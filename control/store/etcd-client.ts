/**
 * Calls to an etcd cluster that always end: bounded in time, cancellable, and moved to the next
 * endpoint when one does not answer.
 *
 * The endpoint that answered last is asked first. A call may reach etcd and its answer be lost, so
 * every request passed in here must be safe to send twice; etcd-writes.ts sees to that. gRPC itself
 * is touched in two places only, the interceptors below: etcd3 has no way to cancel a call, and none
 * to add the metadata by which a member without a leader ends a watch.
 */
import { InterceptingCall, status, type CallOptions, type Interceptor } from '@grpc/grpc-js'
import type { Etcd3 } from 'etcd3'
import { HeddleError } from '../errors.js'
import { abortError, joinSignals, settle, sleep, throwIfAborted } from './abort.js'
import { createEtcdClients, type EtcdAccess, type EtcdTimes } from './etcd-endpoint.js'
import { isConnectionFault, NoAnswer, storeError } from './etcd-errors.js'
import {
  closeRaw,
  createWatchStream,
  type RawWatchStream,
  type WatchStream,
} from './etcd-watch-stream.js'
import type { Reachability } from './reachability.js'

/** Pause before an endpoint is tried again within one call, ms. */
const RETRY_PAUSE_MS = 100
/** What a call may take beyond its gRPC deadline, ms: fetching a token has a deadline of its own. */
const GRACE_MS = 250

/**
 * One request to one endpoint.
 * @param attempt  0 the first time; more when an earlier attempt may have been carried out
 */
export type EtcdRequest<T> = (etcd: Etcd3, options: CallOptions, attempt: number) => Promise<T>

export interface EtcdClient {
  /** @throws HeddleError HEDDLE_STORE (retryable), or an AbortError */
  call<T>(signal: AbortSignal, request: EtcdRequest<T>): Promise<T>
  /**
   * Opens a stream of watch responses and waits until etcd has accepted it.
   * @param request  fields of etcd's WatchCreateRequest
   * @throws as call(), and WatchCancelled
   */
  watch(
    signal: AbortSignal,
    request: { key: Buffer; range_end: Buffer; start_revision: string },
  ): Promise<WatchStream>
  /** Number of endpoints; each failure moves on to the next. */
  readonly endpoints: number
  /** Fires when the client is closed. */
  readonly closed: AbortSignal
  close(): void
}

export function createEtcdClient(
  access: EtcdAccess,
  times: EtcdTimes,
  reachability: Reachability,
): EtcdClient {
  const clients = createEtcdClients(access, times)
  const closing = new AbortController()
  let current = 0

  const pick = (): { etcd: Etcd3; index: number; name: string } => {
    const etcd = clients[current]
    if (etcd === undefined) throw new RangeError(`no endpoint ${current}`)
    return { etcd, index: current, name: access.endpoints[current] ?? '' }
  }
  const leave = (index: number) => {
    if (current === index) current = (index + 1) % clients.length
  }

  async function call<T>(outer: AbortSignal, request: EtcdRequest<T>): Promise<T> {
    const { signal, dispose } = joinSignals(outer, closing.signal)
    const until = Date.now() + times.timeoutMs
    try {
      for (let attempt = 0; ; attempt++) {
        throwIfAborted(signal)
        const { etcd, index, name } = pick()
        const share = (until - Date.now()) / Math.max(1, clients.length - attempt)
        const options = { deadline: Date.now() + share, interceptors: [cancelOn(signal)] }
        try {
          const answer = request(etcd, options, attempt)
          const result = await settle(answer, signal, share + GRACE_MS, () => noAnswer(share))
          reachability.up(name)
          return result
        } catch (error) {
          throwIfAborted(signal)
          if (!isConnectionFault(error)) throw storeError(name, error)
          leave(index)
          const over = attempt >= clients.length || Date.now() + RETRY_PAUSE_MS >= until
          if (over) {
            const failure = storeError(name, error)
            reachability.down(failure.message)
            throw failure
          }
          if ((attempt + 1) % clients.length === 0) await sleep(RETRY_PAUSE_MS, signal)
        }
      }
    } finally {
      dispose()
    }
  }

  async function watch(
    signal: AbortSignal,
    request: { key: Buffer; range_end: Buffer; start_revision: string },
  ): Promise<WatchStream> {
    const { etcd, index, name } = pick()
    const opening = etcd.watchClient.watch({ interceptors: [requireLeader] })
    let raw: RawWatchStream
    try {
      raw = await settle(opening, signal, times.timeoutMs, () => noAnswer(times.timeoutMs))
    } catch (error) {
      opening.then(closeRaw, () => undefined)
      throw fault(error)
    }
    const stream = createWatchStream(raw, fault)
    try {
      raw.write({ create_request: request })
      await stream.accepted(times.timeoutMs, signal)
      reachability.up(name)
      return stream
    } catch (error) {
      stream.close()
      throw error
    }

    function fault(error: unknown): Error {
      if (signal.aborted) return abortError(signal)
      if (isConnectionFault(error)) leave(index)
      return storeError(name, error)
    }
  }

  return {
    call,
    watch,
    endpoints: clients.length,
    closed: closing.signal,
    close() {
      closing.abort(new HeddleError('HEDDLE_ABORTED', 'the store was closed'))
      for (const client of clients) client.close()
    },
  }
}

function noAnswer(ms: number): NoAnswer {
  return new NoAnswer(`no answer within ${Math.round(ms)} ms`)
}

/** Cancels a unary call at etcd too, not only here, when a signal fires. */
function cancelOn(signal: AbortSignal): Interceptor {
  return (options, nextCall) => {
    const call = new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        const onAbort = () => {
          call.cancelWithStatus(status.CANCELLED, 'the caller gave up')
        }
        signal.addEventListener('abort', onAbort, { once: true })
        next(metadata, {
          onReceiveStatus(received, pass) {
            signal.removeEventListener('abort', onAbort)
            pass(received)
          },
        })
      },
    })
    return call
  }
}

/** Asks etcd to end the stream when its member has no leader; else it would be silent for good. */
const requireLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      const withLeader = metadata.clone()
      withLeader.set('hasleader', 'true')
      next(withLeader, listener)
    },
  })
