/**
 * Coalescing: neighbouring packets of one flow are written to the TUN as one super-packet (what a
 * network card does under the name GRO), so that the kernel walks its stack once for all of them.
 *
 * Only what segmentation would give back bit for bit is joined: same headers but for length, id,
 * checksums and what TCP lets vary; contiguous sequence numbers; equal sizes, a shorter one last.
 * With DF set the id says nothing (RFC 6864 §4.1) and may come back as another. A packet that does
 * not join its flow's open super-packet closes it, so a flow keeps its order.
 *
 * A packet that opens its flow is only noted. It is looked at when a second one comes: most packets
 * that cannot be joined are alone in their flow, and then cost little.
 */
import type { Arena } from '../packet/arena.js'
import type { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import * as vnethdr from '../wire/vnethdr.js'
import {
  ANY_FLOW,
  flowHash,
  ipLenOf,
  isSameFlow,
  isSumRight,
  isTcp,
  isV6,
  judge,
  kindOf,
  restOfSum,
  TCP4,
  TCP6,
  UDP4,
  UDP6,
} from './candidate.js'
import { splitJoined, SuperPackets } from './super-packets.js'
import { writeVnet } from './unfinished.js'

/** Flows with an open super-packet at a time, direct-mapped by addresses and ports. */
const FLOWS = 64
/** Bytes from one virtio-net header to the next in scratch memory. */
const VNET_SLOT = 16
/** Bytes of scratch memory: a header for each super-packet, and one for all other packets. */
export const vnetBytes = (entries: number): number => (entries + 1) * VNET_SLOT
/** Packets a super-packet may have: UDP_MAX_SEGMENTS of older kernels, and enough for 64 KiB of TCP. */
export const MAX_JOINED = 64
/** Pieces of an entry: virtio-net header, first packet, payloads. */
export const PIECES_PER_ENTRY = MAX_JOINED + 1

/** RFC 791 §3.1: the total length has 16 bits. IPv6 could have 40 more. */
const MAX_LEN = 65535
const NONE = -1
/** No place in the name table: the TUN needs none. */
const NO_NAME = -1
const { DONT_FRAGMENT } = ipv4
const TCP_HEADER_LEN = tcp.HEADER_LEN
const TCP_FIN_PSH = tcp.FIN | tcp.PSH
const TCP_KINDS = (1 << TCP4) | (1 << TCP6)
const UDP_KINDS = (1 << UDP4) | (1 << UDP6)
/** Flags that may differ within a super-packet, in the TCP header's fourth word: FIN and PSH. */
const TCP_MAY_DIFFER = 0x0009_0000

/** Joins packets on their way to the TUN device. */
export interface Coalescer {
  /** Whether any packets are joined at all; if not, their sums are not needed. */
  isOn(): boolean
  /** From now on every packet is written by itself; no super-packet may be open. */
  disable(): void
  /**
   * Adds a packet that goes to the TUN; there must be room for one more entry in `out`.
   * @param at   first byte; the packet has passed `ipv4.check` or `ipv6.check`, and an IPv4 header's
   *             checksum is right
   * @param len  bytes of the IP packet
   * @param sum  sum of all its bytes from the native side, 0 = not known: it is written by itself
   */
  add(at: number, len: number, sum: number): void
  /**
   * Adds an unfinished packet, which the kernel behind the TUN finishes; needs the virtio-net header,
   * and room for one more entry. Open super-packets are closed before it.
   * @param protocol  what `unfinishedProtocol` said
   * @param mtu       a longer packet is a TCP super-packet
   */
  addUnfinished(at: number, len: number, protocol: number, mtu: number, podMtu: number): void
  /** Closes every open super-packet; the entries are complete then. */
  flush(): void
  /** Whether an entry of the last flush is a super-packet. */
  isJoined(entry: number): boolean
  /**
   * Takes a refused super-packet apart: the first packet's headers are put back, and each packet
   * becomes an entry of `into`, which is cleared first. Every packet still lies whole in its slot.
   */
  split(entry: number, into: Entries): void
}

/**
 * A closure and not a class: an engine's thread has one, so that the compiler knows the arrays and
 * views themselves.
 * @param out        entries for the TUN, PIECES_PER_ENTRY pieces each
 * @param vnetBase   offset in the arena of `vnetBytes` for the entries of `out`
 * @param hasVnet    whether the TUN wants a virtio-net header before each packet
 * @param takesTcp   whether it takes TCP super-packets; needs the virtio-net header
 * @param takesUdp   likewise for UDP (USO, Linux ≥ 6.2)
 */
export function createCoalescer(
  arena: Arena,
  out: Entries,
  vnetBase: number,
  hasVnet: boolean,
  takesTcp: boolean,
  takesUdp: boolean,
): Coalescer {
  const { view } = arena
  /** The header that all packets share that are written by themselves. */
  const emptyVnet = vnetBase + out.capacity * VNET_SLOT
  vnethdr.clear(view, emptyVnet)
  const supers = new SuperPackets(arena, out.capacity)
  /** Kinds of packets that are joined, a bit each. */
  let joined = hasVnet ? (takesTcp ? TCP_KINDS : 0) | (takesUdp ? UDP_KINDS : 0) : 0

  // Open flows, one row each: the entry, and its first packet as it was added.
  const entries = new Int32Array(FLOWS).fill(NONE)
  const kinds = new Int32Array(FLOWS)
  const firsts = new Int32Array(FLOWS)
  const sums = new Int32Array(FLOWS)
  /** Bytes of the entry's packet. */
  const totals = new Int32Array(FLOWS)
  /** Bytes of the first packet's headers, 0 = it was not looked at; what follows is known since then. */
  const headers = new Int32Array(FLOWS)
  const sizes = new Int32Array(FLOWS)
  const rests = new Int32Array(FLOWS)
  const nextIds = new Int32Array(FLOWS)
  const nextSeqs = new Int32Array(FLOWS)
  const lastFlags = new Int32Array(FLOWS)
  /** Flows opened since the last flush. */
  const opened = new Int32Array(out.capacity)
  let openedCount = 0

  function isOn(): boolean {
    return joined !== 0
  }

  function disable(): void {
    joined = 0
  }

  function add(at: number, len: number, sum: number): void {
    const kind = sum === 0 ? ANY_FLOW : kindOf(view, at, len)
    if (kind === ANY_FLOW) flush()
    if ((joined & (1 << kind)) === 0) {
      write(at, len)
      return
    }
    const flow = flowHash(view, kind, at) & (FLOWS - 1)
    if (entries[flow] !== NONE) {
      if (joins(flow, kind, at, len, sum)) {
        join(flow, kind, at, len)
        return
      }
      close(flow)
    }
    open(flow, kind, at, len, sum)
  }

  function open(flow: number, kind: number, at: number, len: number, sum: number): void {
    entries[flow] = write(at, len)
    kinds[flow] = kind
    firsts[flow] = at
    sums[flow] = sum
    totals[flow] = len
    headers[flow] = 0
    opened[openedCount++] = flow
  }

  /** Would segmentation give this packet back behind those already joined? */
  function joins(flow: number, kind: number, at: number, len: number, sum: number): boolean {
    const first = firsts[flow] ?? 0
    if (kinds[flow] !== kind || !isSameFlow(view, kind, at, first)) return false
    if (headers[flow] === 0 && !judgeFirst(flow, kind, first)) return false
    const payload = len - (headers[flow] ?? 0)
    return (
      payload > 0 &&
      payload <= (sizes[flow] ?? 0) &&
      (totals[flow] ?? 0) + payload <= MAX_LEN &&
      out.packets(entries[flow] ?? 0) < MAX_JOINED &&
      (isV6(kind) ? isSameIp6(at, first) : isSameIp4(flow, at, first)) &&
      (isTcp(kind)
        ? isSameTcp(flow, ipLenOf(kind), at, first)
        : udp.length(view, at + ipLenOf(kind)) === len - ipLenOf(kind)) &&
      isSumRight(view, kind, at, len, sum, rests[flow] ?? 0)
    )
  }

  /** Looks at the packet that opened a flow. @returns whether others may join it */
  function judgeFirst(flow: number, kind: number, first: number): boolean {
    const len = totals[flow] ?? 0
    const rest = restOfSum(view, kind, first)
    const headersLen = judge(view, kind, first, len, sums[flow] ?? 0, rest)
    if (headersLen === 0) return false
    headers[flow] = headersLen
    sizes[flow] = len - headersLen
    rests[flow] = rest
    if (!isV6(kind)) nextIds[flow] = (ipv4.id(view, first) + 1) & 0xffff
    if (isTcp(kind)) {
      const l4 = first + ipLenOf(kind)
      nextSeqs[flow] = tcp.seq(view, l4) + len - headersLen
      lastFlags[flow] = tcp.flags(view, l4)
    }
    return true
  }

  /** Same class, TTL and DF; without DF also the next id. Whole words are quickest to compare. */
  function isSameIp4(flow: number, at: number, first: number): boolean {
    // Version, header length and class; TTL and protocol; flags and offset.
    if ((view.getInt32(at) ^ view.getInt32(first)) >>> 16 !== 0) return false
    if ((view.getInt32(at + 8) ^ view.getInt32(first + 8)) >>> 16 !== 0) return false
    const flags = ipv4.flagsAndOffset(view, at)
    if (flags !== ipv4.flagsAndOffset(view, first)) return false
    if ((flags & DONT_FRAGMENT) !== 0) return true
    return ipv4.id(view, at) === nextIds[flow]
  }

  /** Same class and flow label, which are in one word with the version, and same hop limit. */
  function isSameIp6(at: number, first: number): boolean {
    return (
      view.getInt32(at) === view.getInt32(first) &&
      ipv6.hopLimit(view, at) === ipv6.hopLimit(view, first)
    )
  }

  /** Next sequence number; same acknowledgment, window, flags and options; nothing behind FIN or PSH. */
  function isSameTcp(flow: number, ipLen: number, at: number, first: number): boolean {
    const l4 = at + ipLen
    const l4First = first + ipLen
    const l4HeaderLen = (headers[flow] ?? 0) - ipLen
    if (tcp.seq(view, l4) !== nextSeqs[flow]) return false
    if (tcp.ack(view, l4) !== tcp.ack(view, l4First)) return false
    // Length of the header, flags and window in one word.
    const differing = view.getInt32(l4 + 12) ^ view.getInt32(l4First + 12)
    if ((differing & ~TCP_MAY_DIFFER) !== 0) return false
    // What the last one alone may carry must not stand in the middle.
    if (((lastFlags[flow] ?? 0) & TCP_FIN_PSH) !== 0) return false
    if (tcp.urgent(view, l4) !== tcp.urgent(view, l4First)) return false
    for (let i = TCP_HEADER_LEN; i < l4HeaderLen; i += 4) {
      if (view.getInt32(l4 + i) !== view.getInt32(l4First + i)) return false
    }
    return true
  }

  function join(flow: number, kind: number, at: number, len: number): void {
    const headersLen = headers[flow] ?? 0
    const payload = len - headersLen
    out.append(entries[flow] ?? 0, at + headersLen, payload, len)
    totals[flow] = (totals[flow] ?? 0) + payload
    nextIds[flow] = ((nextIds[flow] ?? 0) + 1) & 0xffff
    if (isTcp(kind)) {
      nextSeqs[flow] = (nextSeqs[flow] ?? 0) + payload
      lastFlags[flow] = tcp.flags(view, at + ipLenOf(kind))
    }
    if (payload < (sizes[flow] ?? 0)) close(flow)
  }

  /** An entry for one packet, behind an empty virtio-net header. @returns its index */
  function write(at: number, len: number): number {
    const entry = out.begin(NO_NAME)
    if (hasVnet) out.addPiece(entry, emptyVnet, VNET_HDR_LEN)
    out.append(entry, at, len, len)
    return entry
  }

  function addUnfinished(
    at: number,
    len: number,
    protocol: number,
    mtu: number,
    podMtu: number,
  ): void {
    flush()
    const entry = write(at, len)
    const vnet = vnetBase + entry * VNET_SLOT
    out.movePiece(out.firstPiece(entry), vnet)
    writeVnet(view, vnet, at, len, protocol, mtu, podMtu)
  }

  /** Completes the headers of a super-packet, if it became one. */
  function close(flow: number): void {
    const entry = entries[flow] ?? 0
    entries[flow] = NONE
    if (!isJoined(entry)) return
    out.setSegment(entry, sizes[flow] ?? 0)
    const vnet = vnetBase + entry * VNET_SLOT
    out.movePiece(out.firstPiece(entry), vnet)
    supers.complete(
      entry,
      firsts[flow] ?? 0,
      headers[flow] ?? 0,
      vnet,
      isTcp(kinds[flow] ?? 0),
      sizes[flow] ?? 0,
      totals[flow] ?? 0,
      isTcp(kinds[flow] ?? 0) ? (lastFlags[flow] ?? 0) : 0,
    )
  }

  function flush(): void {
    for (let i = 0; i < openedCount; i++) {
      const flow = opened[i] ?? 0
      if (entries[flow] !== NONE) close(flow)
    }
    openedCount = 0
  }

  function isJoined(entry: number): boolean {
    return out.packets(entry) > 1
  }

  function split(entry: number, into: Entries): void {
    supers.restore(entry)
    splitJoined(out, entry, supers.headersLen(entry), emptyVnet, into)
  }

  return { isOn, disable, add, addUnfinished, flush, isJoined, split }
}
