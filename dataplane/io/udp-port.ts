/**
 * The outside port of a real host: one bound UDP socket.
 *
 * As with the TUN, opening and using are apart: a descriptor is plain data that can be posted to
 * an engine's thread, a port is made of it there. Whoever opened the descriptor closes it, once.
 */
import { native } from '../native/native.js'
import type { Family } from '../native/native.js'
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import type { OutsidePort } from './device.js'
import { decodeName } from './endpoint.js'
import { pathMtu } from './path-mtu.js'
import { growBuffers, type SocketDescriptor } from './socket.js'

// What stands before a datagram's bytes in its packet (RFC 791, RFC 8200, RFC 768).
const HEADERS_4 = 20 + 8
const HEADERS_6 = 40 + 8

export interface UdpOptions {
  readonly family: Family
  /** Address to bind to; default the unspecified address. */
  readonly address?: string
  /** 0 = the kernel chooses. */
  readonly port: number
  /** Interface to bind to as well (SO_BINDTODEVICE). */
  readonly device?: string
  /** Buffer sizes to ask for, bytes. Default 4 MiB each. */
  readonly receiveBuffer?: number
  readonly sendBuffer?: number
  /** Several sockets may share the port (SO_REUSEPORT). Default false. */
  readonly reusePort?: boolean
  /** Receive trains of datagrams merged (UDP_GRO). Default false. */
  readonly gro?: boolean
  /** Never fragment a datagram, except by {@link UdpPort.sendInFragments}. Default false. */
  readonly dontFragment?: boolean
  /** IPv6 only: accept IPv4 as well, as mapped addresses. Default false. */
  readonly dualStack?: boolean
}

/**
 * Opens and binds a UDP socket in the network namespace of the calling thread.
 * @throws NativeError: EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM…; the socket is closed again
 */
export function openUdp(options: UdpOptions): SocketDescriptor {
  const fd = native.udpSocket(options.family)
  try {
    configure(fd, options)
    const anywhere = options.family === 4 ? '0.0.0.0' : '::'
    native.bind(fd, options.address ?? anywhere, options.port, options.device)
    const { address, port } = native.localAddress(fd)
    return {
      fd,
      family: options.family,
      address,
      port,
      ...growBuffers(fd, options),
    }
  } catch (error) {
    native.close(fd)
    throw error
  }
}

function configure(fd: number, options: UdpOptions): void {
  const { SOL_SOCKET, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY, IPPROTO_UDP, UDP_GRO } =
    native.constants
  if (options.family === 6) {
    native.setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.dualStack === true ? 0 : 1)
  }
  if (options.reusePort === true) {
    native.setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
  }
  if (options.gro === true) {
    native.setOption(fd, IPPROTO_UDP, UDP_GRO, 1)
  }
  if (options.dontFragment === true) {
    setFragmenting(fd, options.family, false)
  }
}

/**
 * Says what becomes of datagrams that are longer than the path's MTU as the kernel knows it (ip(7),
 * IP_MTU_DISCOVER): they are refused with EMSGSIZE, or leave as fragments.
 */
function setFragmenting(fd: number, family: Family, mayFragment: boolean): void {
  const { IPPROTO_IP, IP_MTU_DISCOVER, IPPROTO_IPV6, IPV6_MTU_DISCOVER } = native.constants
  // linux/in6.h has the same numbers for IPv6.
  const { IP_PMTUDISC_DO, IP_PMTUDISC_WANT } = native.constants
  const value = mayFragment ? IP_PMTUDISC_WANT : IP_PMTUDISC_DO
  if (family === 4) native.setOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, value)
  else native.setOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value)
}

export class UdpPort implements OutsidePort {
  readonly fd: number
  readonly family: Family
  readonly address: string
  readonly port: number
  readonly receiveBuffer: number
  readonly sendBuffer: number
  private readonly sendFds: Int32Array
  private readonly arena: Arena
  private readonly index: number

  /**
   * @param descriptor  what {@link openUdp} returned, on this thread or another
   * @param arena       where the packets of all batches and entries lie
   * @param index       number of this socket among several, for the batch's column SOCKET
   */
  constructor(descriptor: SocketDescriptor, arena: Arena, index = 0) {
    this.fd = descriptor.fd
    this.family = descriptor.family
    this.address = descriptor.address
    this.port = descriptor.port
    this.receiveBuffer = descriptor.receiveBuffer
    this.sendBuffer = descriptor.sendBuffer
    this.sendFds = Int32Array.from(descriptor.sendFds ?? [descriptor.fd])
    this.arena = arena
    this.index = index
  }

  receive(batch: Batch): number {
    batch.count = native.recv(
      this.fd,
      batch.arena.bytes,
      batch.columns,
      batch.capacity,
      batch.room,
      this.index,
    )
    return batch.count
  }

  send(entries: Entries, names: Uint8Array, first = 0): number {
    const { pieces, entries: fields, count } = entries
    return native.send(this.sendFds, this.arena.bytes, pieces, fields, count, names, first)
  }

  sendInFragments(entries: Entries, names: Uint8Array): void {
    for (const fd of this.sendFds) setFragmenting(fd, this.family, true)
    for (let done = 0; done < entries.count;) done = this.send(entries, names, done)
    for (const fd of this.sendFds) setFragmenting(fd, this.family, false)
  }

  pathRoom(names: Uint8Array, name: number): number {
    const mtu = pathMtu(names, name, this)
    const to = decodeName(names, name)
    return mtu === 0 || to === null ? 0 : mtu - (to.family === 4 ? HEADERS_4 : HEADERS_6)
  }

  /** Datagrams lost so far because the receive buffer was full. */
  drops(): number {
    return native.receiveDrops(this.fd)
  }

  /** Closes the socket. Call it once, when no thread uses the descriptor any more. */
  close(): void {
    native.close(this.fd)
  }
}
