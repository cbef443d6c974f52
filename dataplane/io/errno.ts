/** What the kernel says, in words. */
import { getSystemErrorName } from 'node:util'
import { isNativeError } from '../native/native.js'

/** Name of a positive errno: `EINVAL`. */
export function describeErrno(errno: number): string {
  return getSystemErrorName(-errno)
}

/** A caught fault in a few words: `EINVAL (ioctl TUNSETOFFLOAD)`. */
export function describeFault(fault: unknown): string {
  if (isNativeError(fault)) return `${fault.code} (${fault.syscall})`
  return fault instanceof Error ? fault.message : String(fault)
}
