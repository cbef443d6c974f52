/**
 * The inside device of a real host: one queue of a Linux TUN.
 *
 * Opening and using are apart, since the main thread opens and an engine's thread uses: a
 * descriptor is plain data that can be posted to a worker, a device is made of it there. Whoever
 * opened the descriptor closes it, once; the TUN disappears with its last queue unless it is told to stay.
 *
 * With `vnetHdr`, every packet is preceded by a virtio-net header: reading puts it into the last
 * `VNET_HDR_LEN` bytes before the packet, and the first pieces of every entry written must be one.
 */
import { native, type Ring } from '../native/native.js'
import type { Arena } from '../packet/arena.js'
import type { Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import type { InsideDevice } from './device.js'

export interface TunOptions {
  /** Name, up to 15 bytes; `%d` becomes the first free number. */
  readonly name: string
  /** Packets carry virtio-net headers. Default false. */
  readonly vnetHdr?: boolean
  /** Further queues may be opened under the same name. Default false. */
  readonly multiQueue?: boolean
}

/** An open queue of a TUN: plain data. */
export interface TunDescriptor {
  readonly fd: number
  /** The interface's name, `%d` filled in. */
  readonly name: string
  readonly vnetHdr: boolean
}

/**
 * Opens a TUN device, or one more queue of it, in the network namespace of the calling thread.
 * @throws NativeError: EPERM without CAP_NET_ADMIN, ENOENT without /dev/net/tun, EBUSY when another
 *         process holds the device, EINVAL when the name belongs to another kind of device
 */
export function openTun(options: TunOptions): TunDescriptor {
  const vnetHdr = options.vnetHdr ?? false
  const { fd, name } = native.openTun(options.name, vnetHdr, options.multiQueue ?? false)
  return { fd, name, vnetHdr }
}

/** Reading many packets in one system call (the offload `tun-ring`), and who hears of it. */
export interface RingUse {
  /** Opened by the thread that reads; the device closes it. */
  readonly ring: Ring
  /** Told after each read through the ring. @param packets  that it brought in so */
  readonly onRead: (packets: number) => void
  /** Told once, when the kernel refuses the ring. The device goes on without. */
  readonly onRefused: (errno: number) => void
}

const { READ_ALONE } = native.layout

export class TunDevice implements InsideDevice {
  readonly fd: number
  readonly name: string
  private readonly before: number
  private readonly arena: Arena
  private use: RingUse | null

  /**
   * @param descriptor  what {@link openTun} returned, on this thread or another
   * @param arena       where the packets of all batches and entries lie
   * @param use         default none: every packet is a system call
   */
  constructor(descriptor: TunDescriptor, arena: Arena, use: RingUse | null = null) {
    this.fd = descriptor.fd
    this.name = descriptor.name
    this.before = descriptor.vnetHdr ? VNET_HDR_LEN : 0
    this.arena = arena
    this.use = use
  }

  read(batch: Batch): number {
    const rows = native.tunRead(
      this.fd,
      batch.arena.bytes,
      batch.columns,
      batch.capacity,
      batch.room,
      this.before,
      this.use?.ring,
    )
    batch.count = rows >= 0 ? rows : this.loseRing(rows)
    if (this.use !== null && batch.count > READ_ALONE) this.use.onRead(batch.count - READ_ALONE)
    return batch.count
  }

  /** @returns rows that were filled all the same */
  private loseRing(answer: number): number {
    const use = this.use
    this.use = null
    if (use !== null) use.onRefused(native.closeRing(use.ring))
    return -1 - answer
  }

  write(entries: Entries, first = 0): number {
    const { pieces, entries: fields, count } = entries
    return native.write(this.fd, this.arena.bytes, pieces, fields, count, first)
  }

  /**
   * Switches offloads on or off: a sum of the addon's `TUN_F_` constants.
   * @throws NativeError EINVAL when the kernel does not know one of them
   */
  setOffload(mask: number): void {
    native.setTunOffload(this.fd, mask)
  }

  /** Closes the queue and its ring. Call it once, when no thread uses the descriptor any more. */
  close(): void {
    if (this.use !== null) native.closeRing(this.use.ring)
    this.use = null
    native.close(this.fd)
  }
}
