/**
 * What goes wrong between a store and etcd, sorted by what helps: asking again (a connection that
 * failed or does not answer), listing again (a compacted revision), or nothing on our side.
 */
import { castGrpcError, isRecoverableError, type IWatchResponse } from 'etcd3'
import { HeddleError } from '../errors.js'

/** Nothing came back: the time was over, or the stream ended without a word. */
export class NoAnswer extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'NoAnswer'
  }
}

/** etcd ended a watch by itself. */
export class WatchCancelled extends Error {
  /** Whether the revision asked for is compacted away: only a new listing helps. */
  readonly compacted: boolean

  constructor(response: Pick<IWatchResponse, 'compact_revision' | 'cancel_reason'>) {
    const compacted = response.compact_revision !== '0' || /compacted/.test(response.cancel_reason)
    const reason = compacted ? 'the revision is compacted' : response.cancel_reason
    super(`etcd ended the watch: ${reason === '' ? 'no reason given' : reason}`)
    this.name = 'WatchCancelled'
    this.compacted = compacted
  }
}

/** Whether an error means that another endpoint, or the same one later, may answer. */
export function isConnectionFault(error: unknown): boolean {
  if (error instanceof HeddleError) return isConnectionFault(error.cause)
  if (!(error instanceof Error)) return false
  return error instanceof NoAnswer || isRecoverableError(castGrpcError(error))
}

/** The error a caller of the store sees; everything that etcd refuses, an administrator can allow later. */
export function storeError(endpoint: string, cause: unknown): HeddleError {
  if (cause instanceof HeddleError) return cause
  const raw = cause instanceof Error ? cause.message : String(cause)
  const text = raw.replace(/\.?\s*Resolution note:\s*$/, '').replaceAll(/\s*\n\s*/g, ' ')
  return new HeddleError('HEDDLE_STORE', `etcd at ${endpoint}: ${text}`, { cause, retryable: true })
}
