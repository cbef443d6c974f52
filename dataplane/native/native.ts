/**
 * The native addon, typed. This is the only file that loads it.
 *
 * The addon moves bytes; it knows no packet format, no route and no policy. It keeps no state, so
 * every thread may load it, and a descriptor opened on one thread may be used on another.
 *
 * Every function throws a TypeError (`ERR_INVALID_ARG_TYPE`) or RangeError (`ERR_OUT_OF_RANGE`) on
 * an argument that does not fit, before it does anything, and a {@link NativeError} when the kernel
 * refuses. Arrays are borrowed for the call; they may lie over shared memory.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What the addon throws when a system call fails. */
export interface NativeError extends Error {
  /** Negative, as Node's own errors have it. */
  readonly errno: number
  /** Its name: `EINVAL`, …; `EUNKNOWN` for an errno outside the addon's list. */
  readonly code: string
  /** The call that failed, with the request or option where there are several. */
  readonly syscall: string
}

/** What {@link Native.openRing} returns: an io_uring of its own, for the thread that opened it. */
export interface Ring {
  readonly isRing: unique symbol
}

/** IP version of a socket. */
export type Family = 4 | 6

export interface Native {
  /**
   * Opens a TUN device without packet information (IFF_NO_PI), or one more queue of it.
   * @param pattern     up to 15 bytes; `%d` becomes the first free number, '' = `tun%d`
   * @param vnetHdr     every packet has a virtio-net header of `layout.VNET_HDR_LEN` bytes
   * @param multiQueue  the device may be opened again, by its name, for a further queue
   * Source: Linux Documentation/networking/tuntap.rst
   */
  openTun(pattern: string, vnetHdr: boolean, multiQueue: boolean): { fd: number; name: string }
  /** Name of the device. @throws EBADFD when it was deleted */
  tunName(fd: number): string
  /** Whether the device stays when its last descriptor is closed. */
  setTunPersist(fd: number, isKept: boolean): void
  /** Tells the kernel which packets it may hand over unfinished: a sum of `constants.TUN_F_…`. */
  setTunOffload(fd: number, mask: number): void

  /**
   * Loads a BPF program that reads a packet and answers with a number (BPF_PROG_TYPE_SOCKET_FILTER).
   * @param program  instructions of 8 bytes, as struct bpf_insn has them
   * @returns        its descriptor; what it is attached to keeps it after a close
   * @throws         EPERM without CAP_BPF, EINVAL or EACCES when the kernel's verifier refuses it
   */
  loadFilter(program: Uint8Array): number
  /** Lets a program choose the queue of a TUN, modulo the number of queues, for what it hands over. */
  setTunSteering(fd: number, program: number): void

  udpSocket(family: Family): number
  /** @param hdrIncl  whether what is sent begins with the IP header (raw(7)) */
  rawSocket(family: Family, protocol: number, hdrIncl: boolean): number
  setOption(fd: number, level: number, name: number, value: number): void
  getOption(fd: number, level: number, name: number): number
  /** Datagrams dropped because the receive buffer was full, since the socket exists, modulo 2³². */
  receiveDrops(fd: number): number
  /**
   * @param address  text of the socket's family
   * @param device   bind to this interface as well; it is also the scope of a link-local address
   */
  bind(fd: number, address: string, port: number, device?: string): void
  /** Sets the far end of a UDP socket, from which alone it receives then; nothing is sent. */
  connect(fd: number, address: string, port: number): void
  localAddress(fd: number): { family: Family; address: string; port: number }

  /** Whether other programs get a descriptor, those that are started and the one that this one becomes. */
  setInherited(fd: number, isInherited: boolean): void
  /**
   * Becomes another program in the same process, with the descriptors that are inherited (execve(2)).
   * @param args  texts that each end in a NUL byte, the program's name first
   * @param env   likewise, `NAME=value`
   */
  become(path: string, args: Uint8Array, env: Uint8Array): void

  /** A counter that wakes a {@link Native.wait}. */
  eventfd(): number
  signal(fd: number): void
  /** Takes the signals back. @returns whether there were any */
  drain(fd: number): boolean
  close(fd: number): void

  /**
   * Waits until a descriptor can be read or has an error.
   * @param fds        at most 64; a negative one is passed over
   * @param revents    filled with the poll bits of each, as long as `fds` at least
   * @param spinUs     how long to poll, yielding the CPU each time, before sleeping: 0..1 000 000
   * @param timeoutMs  how long to sleep; 0 = only look, −1 = without end
   * @returns          how many are ready; 0 = none in time, or a signal came
   * @throws           EBADF when a descriptor is closed
   */
  wait(fds: Int32Array, revents: Int32Array, spinUs: number, timeoutMs: number): number

  /**
   * Opens a ring, with which {@link Native.tunRead} makes many reads in one system call. It is not
   * inherited, and is closed with its thread at the latest.
   * @throws  ENOSYS, EPERM where the kernel has no io_uring or does not let this process use it;
   *          EOPNOTSUPP before Linux 5.4
   * Source:  io_uring_setup(2)
   */
  openRing(): Ring
  /**
   * Closes a ring.
   * @returns  the errno with which a read through it was refused, 0 = none was
   * @throws   EBADF when it is closed already
   */
  closeRing(ring: Ring): number
  /**
   * Reads waiting packets of a TUN into the rows of a batch, without blocking. A packet longer than
   * the room is cut by the kernel without a sign.
   *
   * With a ring, reads behind the first `layout.READ_ALONE` are made many in one system call. If the kernel
   * refuses that, they are made one by one all the same.
   * @param columns   see packet/batch.ts; AT says where each packet goes, the others are filled. A
   *                  ring may exchange values of AT between rows.
   * @param capacity  rows
   * @param room      bytes from AT on that a packet may take
   * @param before    bytes before AT to read into first: the virtio-net header, or 0
   * @param ring      none = one read a system call
   * @returns         rows filled; −1 − rows when the ring was refused, which is to be closed then
   * @throws          EBADFD when the device was deleted
   */
  tunRead(
    fd: number,
    arena: Uint8Array,
    columns: Int32Array,
    capacity: number,
    room: number,
    before: number,
    ring?: Ring,
  ): number
  /**
   * Receives waiting datagrams into the rows of a batch, without blocking. A source that is an
   * IPv4-mapped IPv6 address is reported as IPv4.
   * @param socketIndex  what to write into the column SOCKET
   * @returns            rows filled
   */
  recv(
    fd: number,
    arena: Uint8Array,
    columns: Int32Array,
    capacity: number,
    room: number,
    socketIndex: number,
  ): number
  /**
   * Sends entries (packet/entries.ts) in order, without blocking, each by the socket whose place in
   * `fds` it names. Each gets its errno as result;
   * after EAGAIN or ENOBUFS the rest gets the same without being tried. An entry with a segment
   * size that is refused for another reason, or one that is too long (EMSGSIZE), is the last one tried.
   * @param pieces  pairs (offset in the arena, length)
   * @param names   destinations, `layout.NAME_SIZE` bytes each: a sockaddr in the kernel's layout,
   *                and its length as a native int32 at `layout.NAME_LENGTH_AT`
   * @param first   entry to begin with, default 0
   * @returns       index behind the last entry that has a result
   * @throws        EBADF, ENOTSOCK
   */
  send(
    fds: Int32Array,
    arena: Uint8Array,
    pieces: Int32Array,
    entries: Int32Array,
    count: number,
    names: Uint8Array,
    first?: number,
  ): number
  /**
   * Writes entries to a TUN in order, one packet each, without blocking; results as with `send`.
   * @returns  index behind the last entry that has a result
   * @throws   EBADF
   */
  write(
    fd: number,
    arena: Uint8Array,
    pieces: Int32Array,
    entries: Int32Array,
    count: number,
    first?: number,
  ): number

  /**
   * One's-complement sum of a range, folded to 16 bits and not inverted.
   * @returns  0..65535: the big-endian words' sum, as a number
   * Source:   RFC 1071
   */
  checksum(arena: Uint8Array, at: number, len: number): number
  /**
   * Sums, as {@link Native.checksum}, of consecutive ranges of `step` bytes; the last may be shorter.
   * @param out  filled with the sums, as far as it has room
   * @returns    how many
   */
  checksumSteps(arena: Uint8Array, at: number, len: number, step: number, out: Int32Array): number
  /**
   * Sums of every datagram of a batch's rows, trains taken apart, in the order of the rows.
   * @param skip  bytes at the start of each datagram that are left out: an encapsulation's header
   * @returns     how many; a datagram without bytes behind `skip` has the sum 0, an empty row none
   */
  checksumRows(
    arena: Uint8Array,
    columns: Int32Array,
    capacity: number,
    count: number,
    skip: number,
    out: Int32Array,
  ): number

  /**
   * Opens a file, creating it with mode 0600, and locks it for this process; closing unlocks.
   * @throws  EAGAIN when another process holds the lock, ELOOP when the path is a symbolic link
   */
  lock(path: string): number
  /**
   * Sends one datagram to a unix socket.
   * @param path  sun_path without a closing NUL, at most 107 bytes; an abstract name begins with NUL
   */
  notify(path: Uint8Array, payload: Uint8Array): void
  /** Gives the kernel back what the C library keeps of freed memory, of all threads. */
  trim(): void
  /**
   * Gives the kernel back the whole pages of a range of private memory. What they held is lost: they
   * read as zeroes when they are next used.
   * Source:  madvise(2), MADV_DONTNEED
   */
  discard(arena: Uint8Array, at: number, len: number): void
  /**
   * Takes the pages of the program file that were used so far out of this process. They stay in the
   * page cache, and those that are used again come back from there, a fault each.
   */
  unmapProgram(): void

  /** Column numbers of a batch and field numbers of an entry, as the addon has them. */
  readonly columns: Readonly<Record<string, number>>
  readonly fields: Readonly<Record<string, number>>
  readonly layout: Readonly<
    Record<
      | 'COLUMN_COUNT'
      | 'ENTRY_STRIDE'
      | 'NAME_SIZE'
      | 'NAME_LENGTH_AT'
      | 'VNET_HDR_LEN'
      | 'READ_ALONE',
      number
    >
  >
  /** The kernel's constants, from its headers. */
  readonly constants: Readonly<Record<Constant, number>>
}

export type Constant =
  | 'SOL_SOCKET'
  | 'SO_REUSEADDR'
  | 'SO_REUSEPORT'
  | 'SO_ATTACH_BPF'
  | 'SO_ATTACH_REUSEPORT_EBPF'
  | 'SO_RCVBUF'
  | 'SO_SNDBUF'
  | 'SO_RCVBUFFORCE'
  | 'SO_SNDBUFFORCE'
  | 'IPPROTO_IP'
  | 'IP_TOS'
  | 'IP_TTL'
  | 'IP_HDRINCL'
  | 'IP_MTU'
  | 'IP_MTU_DISCOVER'
  | 'IP_PMTUDISC_DONT'
  | 'IP_PMTUDISC_WANT'
  | 'IP_PMTUDISC_DO'
  | 'IPPROTO_IPV6'
  | 'IPV6_V6ONLY'
  | 'IPV6_MTU'
  | 'IPV6_MTU_DISCOVER'
  | 'IPPROTO_UDP'
  | 'UDP_SEGMENT'
  | 'UDP_GRO'
  | 'POLLIN'
  | 'POLLERR'
  | 'POLLHUP'
  | 'TUN_F_CSUM'
  | 'TUN_F_TSO4'
  | 'TUN_F_TSO6'
  | 'TUN_F_USO4'
  | 'TUN_F_USO6'

/** Whether a caught value came from a system call that the addon made, optionally with one code. */
export function isNativeError(value: unknown, code?: string): value is NativeError {
  return (
    value instanceof Error &&
    'errno' in value &&
    typeof value.errno === 'number' &&
    'syscall' in value &&
    'code' in value &&
    (code === undefined || value.code === code)
  )
}

/** The package's own folder, wherever this file was compiled to. */
function findPackage(from: string): string {
  if (existsSync(join(from, 'package.json'))) {
    return from
  }
  const parent = dirname(from)
  if (parent === from) {
    throw new Error('the native addon cannot be found: no package.json above its loader')
  }
  return findPackage(parent)
}

function load(): Native {
  const here = dirname(fileURLToPath(import.meta.url))
  const path = join(findPackage(here), 'dist/native/heddle.node')
  if (!existsSync(path)) {
    throw new Error(`the native addon is not built (${path} is missing): run \`npm run build\``)
  }
  const loaded: unknown = createRequire(import.meta.url)(path)
  return loaded as Native
}

export const native: Native = load()
