/**
 * The outside port of `ipip`: a raw socket of protocol 4, which takes and hands over whole IPv4 packets.
 *
 * What stands before the inner packet is the encapsulation's; the kernel completes it (raw(7)). Raw
 * sockets know no runs and no trains: every packet is a message of its own. Each raw socket of a host
 * gets every packet, so there is one engine.
 */
import { native } from '../native/native.js'
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import * as ipv4 from '../wire/ipv4.js'
import type { OutsidePort } from './device.js'
import { pathMtu } from './path-mtu.js'
import { growBuffers, type SocketDescriptor } from './socket.js'

export interface IpipOptions {
  /** Address to bind to: only packets for it arrive, and it is the source of what is sent. */
  readonly address: string
  /** Buffer sizes to ask for, bytes. Default 4 MiB each. */
  readonly receiveBuffer?: number
  readonly sendBuffer?: number
}

/**
 * Opens and binds a raw socket in the network namespace of the calling thread.
 * @throws NativeError: EADDRNOTAVAIL, EPERM…; the socket is closed again
 */
export function openIpip(options: IpipOptions): SocketDescriptor {
  const fd = native.rawSocket(4, ipv4.PROTO_IPIP, true)
  try {
    native.bind(fd, options.address, 0)
    // The encapsulation decides on DF, packet by packet.
    const { IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT } = native.constants
    native.setOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    return { fd, family: 4, address: options.address, port: 0, ...growBuffers(fd, options) }
  } catch (error) {
    native.close(fd)
    throw error
  }
}

export class IpipPort implements OutsidePort {
  readonly fd: number
  readonly family = 4
  readonly address: string
  private readonly fds: Int32Array
  private readonly arena: Arena
  private readonly body = new Entries(1, 2)

  /**
   * @param descriptor  what {@link openIpip} returned, on this thread or another
   * @param arena       where the packets of all batches and entries lie
   */
  constructor(descriptor: SocketDescriptor, arena: Arena) {
    this.fd = descriptor.fd
    this.address = descriptor.address
    this.fds = Int32Array.of(descriptor.fd)
    this.arena = arena
  }

  receive(batch: Batch): number {
    const { columns, capacity, room } = batch
    batch.count = native.recv(this.fd, batch.arena.bytes, columns, capacity, room, 0)
    return batch.count
  }

  send(entries: Entries, names: Uint8Array, first = 0): number {
    const { pieces, entries: fields, count } = entries
    return native.send(this.fds, this.arena.bytes, pieces, fields, count, names, first)
  }

  /**
   * The kernel refuses a whole packet that is longer than the MTU of its device, and cuts one whose header
   * it makes itself (raw_send_hdrinc and ip_append_data of Linux).
   */
  sendInFragments(entries: Entries, names: Uint8Array): void {
    const { IPPROTO_IP, IP_HDRINCL, IP_TOS, IP_TTL } = native.constants
    const { view } = this.arena
    native.setOption(this.fd, IPPROTO_IP, IP_HDRINCL, 0)
    for (let i = 0; i < entries.count; i++) {
      const at = entries.pieceAt(entries.firstPiece(i))
      native.setOption(this.fd, IPPROTO_IP, IP_TOS, ipv4.tos(view, at))
      native.setOption(this.fd, IPPROTO_IP, IP_TTL, Math.max(1, ipv4.ttl(view, at)))
      this.sendBody(entries, i, names)
    }
    native.setOption(this.fd, IPPROTO_IP, IP_HDRINCL, 1)
  }

  private sendBody(entries: Entries, i: number, names: Uint8Array): void {
    const { body } = this
    const first = entries.firstPiece(i)
    body.clear()
    body.begin(entries.name(i))
    for (let k = 0; k < entries.pieceTotal(i); k++) {
      const skipped = k === 0 ? ipv4.HEADER_LEN : 0
      body.addPiece(0, entries.pieceAt(first + k) + skipped, entries.pieceLen(first + k) - skipped)
    }
    this.send(body, names)
    entries.setResult(i, body.result(0))
  }

  pathRoom(names: Uint8Array, name: number): number {
    return pathMtu(names, name, this)
  }

  /** Closes the socket. Call it once, when no thread uses the descriptor any more. */
  close(): void {
    native.close(this.fd)
  }
}
