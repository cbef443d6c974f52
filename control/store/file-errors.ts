/**
 * System calls on files that fail: by code where the code decides, as a store's error where not.
 */
import { HeddleError } from '../errors.js'

/** Whether a caught value is a failed system call with this code, such as ENOENT. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** Null instead of an error when a file or directory is not there. */
export async function orMissing<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null
    throw error
  }
}

/** The error a caller of the file store sees. */
export function fileStoreError(directory: string, cause: unknown): Error {
  if (cause instanceof HeddleError) return cause
  if (cause instanceof Error && cause.name === 'AbortError') return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  const message = `file store ${directory}: ${text}`
  return new HeddleError('HEDDLE_STORE', message, { cause, retryable: true })
}
