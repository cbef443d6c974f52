/**
 * Kernels that we do not have: the real one, some of whose calls answer as an older or a broken one
 * would. Test support, used by no other code.
 */
import { native, type NativeError } from '../native/native.js'
import { ENTRY_FIELDS, ENTRY_STRIDE } from '../packet/entries.js'
import type { OffloadKernel } from './offloads.js'

/** What the kernel throws. */
export function createFault(code: string, errno: number, syscall: string): NativeError {
  return Object.assign(new Error(`${code}, ${syscall}`), { code, errno: -errno, syscall })
}

/** The real kernel with other answers to some calls. */
export function createKernel(answers: Partial<OffloadKernel>): OffloadKernel {
  return { ...native, ...answers }
}

/** A `send` that refuses messages of more packets than `limit`, and takes the others. */
export function sendUpTo(limit: number, errno: number): OffloadKernel['send'] {
  return (fd, arena, pieces, entries, count, names, first) => {
    const segment = entries[ENTRY_FIELDS.SEGMENT] ?? 0
    if (segment > 0 && Math.ceil((pieces[1] ?? 0) / segment) > limit) {
      entries[ENTRY_FIELDS.RESULT] = errno
      return 1
    }
    return native.send(fd, arena, pieces, entries, count, names, first)
  }
}

/** A `send` of a kernel that does not know UDP_SEGMENT: it passes over what it does not know. */
export const sendWhole: OffloadKernel['send'] = (fd, arena, pieces, entries, count, ...rest) => {
  for (let i = 0; i < count; i++) entries[i * ENTRY_STRIDE + ENTRY_FIELDS.SEGMENT] = 0
  return native.send(fd, arena, pieces, entries, count, ...rest)
}

/** A `setOption` that knows all options but one. */
export function forgetOption(name: number): OffloadKernel['setOption'] {
  return (fd, level, option, value) => {
    if (option === name) throw createFault('ENOPROTOOPT', 92, 'setsockopt')
    native.setOption(fd, level, option, value)
  }
}

/** A `setTunOffload` that knows only the offloads of a mask. */
export function knowOffloads(known: number): OffloadKernel['setTunOffload'] {
  return (fd, mask) => {
    if ((mask & ~known) !== 0) throw createFault('EINVAL', 22, 'ioctl TUNSETOFFLOAD')
    native.setTunOffload(fd, mask)
  }
}
