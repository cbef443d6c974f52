/**
 * What the kernel says about devices and sockets, in words that name the thing and the remedy.
 */
import { describeError, HeddleError } from '../errors.js'

/** Whether an engine ended because somebody has deleted its TUN device (drivers/net/tun.c). */
export function isDeviceGone(error: Error): boolean {
  return 'code' in error && error.code === 'EBADFD'
}

/** The engine ended by a fault of ours. */
export function engineFault(error: Error): HeddleError {
  return new HeddleError('HEDDLE_ENGINE', `the engine died: ${describeError(error)}`, {
    cause: error,
  })
}

/** The kernel refused a device or socket: says which one and what to do about it. */
export function deviceFault(
  error: unknown,
  address: string,
  port: number,
  device: string,
): HeddleError {
  const { code, syscall } = error as { code?: string; syscall?: string }
  const what = describeError(error)
  switch (code) {
    case 'EADDRINUSE':
      return new HeddleError(
        'HEDDLE_BUSY',
        `UDP ${address}:${String(port)} is taken; another heddled or flanneld runs here, or a VXLAN device of the kernel holds the port, or set Backend.Port (ss -ulpn and ip -d link show type vxlan show who)`,
        { cause: error },
      )
    case 'EBUSY':
      return new HeddleError(
        'HEDDLE_BUSY',
        `${device} is held by another program; stop it, or set another VNI`,
        { cause: error },
      )
    case 'EINVAL':
      return new HeddleError(
        'HEDDLE_DEVICE',
        `${device} cannot be made (${what}); is there a device of that name that is no TUN? If nothing needs it: ip link del ${device}`,
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
