/**
 * What the kernel says about devices and sockets, in words that name the thing and the remedy.
 */
import { describeError, HeddleError } from './errors.js'

/** The engine ended by itself: because its device is gone, or by a fault of ours. */
export function engineFault(error: Error, device: string): HeddleError {
  // What a read of a TUN answers once somebody has deleted the interface (drivers/net/tun.c).
  return 'code' in error && error.code === 'EBADFD'
    ? new HeddleError(
        'HEDDLE_DEVICE',
        `${device} was deleted while the daemon ran; start heddled again, which makes it anew`,
        { cause: error },
      )
    : new HeddleError('HEDDLE_ENGINE', `the engine died: ${describeError(error)}`, { cause: error })
}

/** The kernel refused a device or socket: says which one and what to do about it. */
export function deviceFault(error: unknown, address: string, port: number): HeddleError {
  const { code, syscall } = error as { code?: string; syscall?: string }
  const what = describeError(error)
  switch (code) {
    case 'EADDRINUSE':
      return new HeddleError(
        'HEDDLE_BUSY',
        `UDP ${address}:${String(port)} is taken; another heddled or flanneld runs here, or set Backend.Port (ss -ulpn shows who)`,
        { cause: error },
      )
    case 'EPERM':
    case 'EACCES':
      return new HeddleError(
        'HEDDLE_PERMISSION',
        `${syscall ?? 'open'} is not permitted: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW`,
        { cause: error },
      )
    case 'ENOENT':
    case 'ENODEV':
    case 'ENXIO':
      return new HeddleError(
        'HEDDLE_DEVICE',
        `/dev/net/tun cannot be opened (${what}): modprobe tun, or give the container the device (--device /dev/net/tun)`,
        { cause: error },
      )
    default:
      return new HeddleError('HEDDLE_DEVICE', `cannot open the devices: ${what}`, { cause: error })
  }
}
