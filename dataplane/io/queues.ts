/**
 * The devices of several engines: queues of one TUN, and for each a socket of its own.
 *
 * With `udp` engine 0 uses the flannel port both ways, as a daemon with one engine does. The others
 * receive at the same port (SO_REUSEPORT) and send from ports of their own, which tell the peer's kernel
 * which of its sockets a datagram is for; steering.ts says how. With `vxlan` every engine sends from
 * several ports of its own, a flow from one of them, so that routers between the hosts spread flows
 * over equal paths (RFC 7348 §5). Where the kernel does not let us steer, there is one engine, and one
 * source port.
 */
import { randomInt } from 'node:crypto'
import { isNativeError, native } from '../native/native.js'
import type { Drops } from '../overflow.js'
import { flowSteering, PORT_BLOCKS, refuseAll, sourcePort, sourceSteering } from './steering.js'
import { openTun, type TunDescriptor } from './tun-device.js'
import type { SocketDescriptor } from './socket.js'
import { openUdp, type UdpOptions } from './udp-port.js'

/** Source ports that are tried before giving up. */
const TRIES = 100

/** Devices that are open: plain data, which a process can hand to the program that it becomes. */
export interface OpenDevices {
  /** Queues of one TUN, and the sockets of as many engines. */
  readonly tuns: readonly [TunDescriptor, ...TunDescriptor[]]
  readonly sockets: readonly [SocketDescriptor, ...SocketDescriptor[]]
  /** What the kernel has counted as lost before them, and somebody has told of already. */
  readonly drops: Drops
}

/** Every descriptor of some devices. */
export function descriptorsOf({ tuns, sockets }: Omit<OpenDevices, 'drops'>): number[] {
  return [
    ...tuns.map(({ fd }) => fd),
    ...sockets.flatMap(({ fd, sendFds = [] }) => [fd, ...sendFds]),
  ]
}

/** Whether a TUN is still there: somebody may have deleted the device, or have made another one of its name. */
export function isThere({ tuns }: OpenDevices): boolean {
  try {
    return tuns.every(({ fd, name }) => native.tunName(fd) === name)
  } catch {
    return false
  }
}

/** Whether the kernel takes a steering program. @returns null, or that it does not, with what it said */
export function whyNoSteering(): string | null {
  try {
    native.close(native.loadFilter(refuseAll()))
    return null
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error)
    return `the kernel takes no steering program: ${what}`
  }
}

/**
 * Opens further queues of a TUN whose first is open, and steers flows to them.
 * @param first   queue 0, opened with `multiQueue`
 * @param queues  how many in all
 * @param opened  told each descriptor as soon as it is open, so that the caller can close it
 */
export function openTunQueues(
  first: TunDescriptor,
  queues: number,
  opened: (fd: number) => void,
): [TunDescriptor, ...TunDescriptor[]] {
  const all: [TunDescriptor, ...TunDescriptor[]] = [first]
  while (all.length < queues) {
    const tun = openTun({ name: first.name, vnetHdr: first.vnetHdr, multiQueue: true })
    opened(tun.fd)
    all.push(tun)
  }
  if (queues > 1) {
    withProgram(flowSteering(), (program) => {
      native.setTunSteering(first.fd, program)
    })
  }
  return all
}

/**
 * Opens the sockets of all engines.
 * @param options  of the flannel socket
 * @param queues   how many
 * @param sources  source ports that each engine sends from; 0 = the flannel port, or one if that is
 *                 another engine's
 * @param opened   told each descriptor as soon as it is open
 * @throws NativeError as {@link openUdp}: the first socket is bound before the port is shared, so
 *         that another daemon's socket there is still an EADDRINUSE
 */
export function openSockets(
  options: UdpOptions,
  queues: number,
  sources: number,
  opened: (fd: number) => void,
): [SocketDescriptor, ...SocketDescriptor[]] {
  const first = openUdp(options)
  opened(first.fd)
  const senders = openSenders(options, 0, sources, opened)
  const all: [SocketDescriptor, ...SocketDescriptor[]] = [
    senders.length === 0 ? first : { ...first, sendFds: senders },
  ]
  if (queues === 1) return all
  const { SOL_SOCKET, SO_REUSEPORT, SO_ATTACH_REUSEPORT_EBPF } = native.constants
  native.setOption(first.fd, SOL_SOCKET, SO_REUSEPORT, 1)
  while (all.length < queues) {
    const socket = openUdp({ ...options, port: first.port, reusePort: true })
    opened(socket.fd)
    const count = Math.max(1, sources)
    all.push({ ...socket, sendFds: openSenders(options, all.length, count, opened) })
  }
  withProgram(sourceSteering(first.port, queues), (program) => {
    native.setOption(first.fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program)
  })
  return all
}

function openSenders(
  options: UdpOptions,
  queue: number,
  count: number,
  opened: (fd: number) => void,
): number[] {
  return Array.from({ length: count }, () => {
    const { fd } = openSender(options, queue)
    opened(fd)
    return fd
  })
}

/** A socket to send from, at a port that says which engine it belongs to; it receives nothing. */
function openSender(options: UdpOptions, queue: number): SocketDescriptor {
  const { SOL_SOCKET, SO_ATTACH_BPF } = native.constants
  for (let tries = 1; ; tries++) {
    const port = sourcePort(queue, randomInt(PORT_BLOCKS))
    try {
      const socket = openUdp({ ...options, port, receiveBuffer: 4096 })
      withProgram(refuseAll(), (program) => {
        native.setOption(socket.fd, SOL_SOCKET, SO_ATTACH_BPF, program)
      })
      return socket
    } catch (error) {
      if (!isNativeError(error, 'EADDRINUSE') || tries === TRIES) throw error
    }
  }
}

/** Loads a program for one use; what it is attached to keeps it. */
function withProgram(program: Uint8Array, use: (fd: number) => void): void {
  const fd = native.loadFilter(program)
  try {
    use(fd)
  } finally {
    native.close(fd)
  }
}
