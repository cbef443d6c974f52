/**
 * What sockets of the outside have in common, of UDP and raw ones.
 */
import { isNativeError, native } from '../native/native.js'
import type { Family } from '../native/native.js'

/** Chosen by us: with less than 1 MiB a burst of segmentation offload overruns the socket. */
const DEFAULT_BUFFER = 4 * 1024 * 1024

/** An open socket: plain data. */
export interface SocketDescriptor {
  readonly fd: number
  readonly family: Family
  readonly address: string
  readonly port: number
  /** Buffer sizes achieved, bytes, counted as they are asked for (half the kernel's own figure). */
  readonly receiveBuffer: number
  readonly sendBuffer: number
  /** The sockets to send from, if it is not this one: as many source ports. */
  readonly sendFds?: readonly number[]
}

/**
 * Makes both buffers of a socket as large as asked for, or as the process may.
 * @returns bytes achieved
 */
export function growBuffers(
  fd: number,
  asked: { readonly receiveBuffer?: number; readonly sendBuffer?: number },
): { readonly receiveBuffer: number; readonly sendBuffer: number } {
  const { SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE } = native.constants
  return {
    receiveBuffer: growBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, asked.receiveBuffer),
    sendBuffer: growBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, asked.sendBuffer),
  }
}

/**
 * Sets a buffer size beyond the system's limit where the process may, up to the limit otherwise.
 * The kernel keeps twice the number for its bookkeeping and reports the double (socket(7)).
 */
function growBuffer(fd: number, force: number, plain: number, size = DEFAULT_BUFFER): number {
  const { SOL_SOCKET } = native.constants
  try {
    native.setOption(fd, SOL_SOCKET, force, size)
  } catch (error) {
    if (!isNativeError(error, 'EPERM')) {
      throw error
    }
    native.setOption(fd, SOL_SOCKET, plain, size)
  }
  return native.getOption(fd, SOL_SOCKET, plain) / 2
}
