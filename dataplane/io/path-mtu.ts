/**
 * What the kernel knows of the path to a destination.
 */
import { isNativeError, native, type Family } from '../native/native.js'
import { decodeName, describeAddress, type Endpoint } from './endpoint.js'

/** Any port will do where nothing is sent: discard (RFC 863). */
const SOME_PORT = 9

/**
 * The MTU of the path to a destination.
 * @param names  the table of destinations
 * @param name   byte offset of this one
 * @param from   the own socket: a route may depend on its address
 * @returns      bytes of a whole IP packet; 0 = there is no route, or no such name
 */
export function pathMtu(
  names: Uint8Array,
  name: number,
  from: { readonly family: Family; readonly address: string },
): number {
  const to = decodeName(names, name)
  if (to === null) return 0
  try {
    return ask(to, to.family === from.family ? from.address : null)
  } catch (error) {
    if (isNativeError(error)) return 0
    throw error
  }
}

/**
 * Asks a socket that is connected to the destination for a moment (ip(7), IP_MTU).
 * @throws NativeError when there is no route, or no socket to be had
 */
function ask(to: Endpoint, from: string | null): number {
  const { IPPROTO_IP, IP_MTU, IPPROTO_IPV6, IPV6_MTU } = native.constants
  const fd = native.udpSocket(to.family)
  try {
    if (from !== null) native.bind(fd, from, 0)
    native.connect(fd, describeAddress(to), SOME_PORT)
    return to.family === 4
      ? native.getOption(fd, IPPROTO_IP, IP_MTU)
      : native.getOption(fd, IPPROTO_IPV6, IPV6_MTU)
  } finally {
    native.close(fd)
  }
}
