/**
 * Coalescing: neighbouring packets of one flow are written to the TUN as one super-packet (what a
 * network card does under the name GRO), so that the kernel walks its stack once for all of them.
 *
 * Only what segmentation would give back bit for bit is joined: same headers but for length, id,
 * checksums and what TCP lets vary; contiguous sequence numbers; equal sizes, a shorter one last.
 * With DF set the id says nothing (RFC 6864 §4.1) and may come back as another. A packet that does
 * not join its flow's open super-packet closes it, so a flow keeps its order.
 */
import type { Arena } from '../packet/arena.js'
import type { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as vnethdr from '../wire/vnethdr.js'
import { ANY_FLOW, Candidate, NO_FLOW, TCP, UDP } from './candidate.js'
import { SuperPackets } from './super-packets.js'

/** Flows with an open super-packet at a time, direct-mapped by addresses and ports. */
const FLOWS = 64
/** Bytes from one virtio-net header to the next in scratch memory. */
export const VNET_SLOT = 16
/** Packets a super-packet may have: UDP_MAX_SEGMENTS of older kernels, and enough for 64 KiB of TCP. */
export const MAX_JOINED = 64
/** Pieces of an entry: virtio-net header, first packet, payloads. */
export const PIECES_PER_ENTRY = MAX_JOINED + 1

/** RFC 791 §3.1: the total length has 16 bits. IPv6 could have 40 more. */
const MAX_LEN = 65535
const NONE = -1
/** No place in the name table: the TUN needs none. */
const NO_NAME = -1
/** Flags that may differ within a super-packet, in the TCP header's fourth word: FIN and PSH. */
const TCP_MAY_DIFFER = 0x0009_0000

export class Coalescer {
  private readonly view: DataView
  private readonly out: Entries
  private readonly vnetBase: number
  private readonly hasVnet: boolean
  private canTcp: boolean
  private canUdp: boolean
  private readonly packet: Candidate
  private readonly supers: SuperPackets

  // Open super-packets, one row a flow.
  private readonly entry = new Int32Array(FLOWS).fill(NONE)
  private readonly first = new Int32Array(FLOWS)
  private readonly kind = new Int32Array(FLOWS)
  private readonly headers = new Int32Array(FLOWS)
  private readonly size = new Int32Array(FLOWS)
  private readonly total = new Int32Array(FLOWS)
  private readonly lastFlags = new Int32Array(FLOWS)
  private readonly lastId = new Int32Array(FLOWS)
  private opened = 0

  /**
   * @param out       entries for the TUN, PIECES_PER_ENTRY pieces each
   * @param vnetBase  offset in the arena of VNET_SLOT bytes for each entry of `out`
   * @param hasVnet   whether the TUN wants a virtio-net header before each packet
   * @param canTcp    whether it takes TCP super-packets; needs the virtio-net header
   * @param canUdp    likewise for UDP (USO, Linux ≥ 6.2)
   */
  constructor(
    arena: Arena,
    out: Entries,
    vnetBase: number,
    hasVnet: boolean,
    canTcp: boolean,
    canUdp: boolean,
  ) {
    this.view = arena.view
    this.out = out
    this.vnetBase = vnetBase
    this.hasVnet = hasVnet
    this.canTcp = canTcp && hasVnet
    this.canUdp = canUdp && hasVnet
    this.packet = new Candidate(arena.view)
    this.supers = new SuperPackets(arena, out.capacity)
  }

  /** Whether any packets are joined at all; if not, their sums are not needed. */
  isOn(): boolean {
    return this.canTcp || this.canUdp
  }

  /** From now on every packet is written by itself; no super-packet may be open. */
  disable(): void {
    this.canTcp = false
    this.canUdp = false
  }

  /**
   * Adds a packet that goes to the TUN; there must be room for one more entry in `out`.
   * @param at   first byte; the packet has passed `ipv4.check` or `ipv6.check`, and an IPv4 header's
   *             checksum is right
   * @param len  bytes of the IP packet
   * @param sum  sum of all its bytes from the native side, 0 = not known: it is written by itself
   */
  add(at: number, len: number, sum: number): void {
    if (!this.isOn()) {
      this.write(at, len)
      return
    }
    const packet = this.packet
    packet.take(at, len, sum)
    const { kind } = packet
    if (kind === ANY_FLOW) this.flush()
    if (kind === ANY_FLOW || kind === NO_FLOW) {
      this.write(at, len)
      return
    }
    const flow = packet.flowSlot(FLOWS)
    if (this.entry[flow] !== NONE) {
      if (this.joins(flow)) {
        this.join(flow)
        return
      }
      this.close(flow)
    }
    const entry = this.write(at, len)
    const canJoin = kind === TCP ? this.canTcp : kind === UDP && this.canUdp
    if (canJoin) this.open(flow, entry)
  }

  /** Closes every open super-packet; the entries are complete then. */
  flush(): void {
    for (let flow = 0; this.opened > 0; flow++) {
      if (this.entry[flow] !== NONE) this.close(flow)
    }
  }

  /** Whether an entry of the last flush is a super-packet. */
  isJoined(entry: number): boolean {
    return this.out.packets(entry) > 1
  }

  /**
   * Takes a refused super-packet apart: the first packet's headers are put back, and each packet
   * becomes an entry of `into`, which is cleared first. Every packet still lies whole in its slot.
   */
  split(entry: number, into: Entries): void {
    const out = this.out
    const first = out.firstPiece(entry)
    const headersLen = this.supers.headersLen(entry)
    const vnet = this.vnetBase + entry * VNET_SLOT
    this.supers.restore(entry)
    vnethdr.clear(this.view, vnet)
    into.clear()
    for (let p = first + 1; p < first + out.pieceTotal(entry); p++) {
      const before = p === first + 1 ? 0 : headersLen
      const len = out.pieceLen(p) + before
      const i = into.begin(NO_NAME)
      into.addPiece(i, vnet, VNET_HDR_LEN)
      into.addPiece(i, out.pieceAt(p) - before, len)
      into.addPacket(i, len)
    }
  }

  /** Would segmentation give this packet back behind those already joined? */
  private joins(flow: number): boolean {
    const packet = this.packet
    const { payload, kind } = packet
    const entry = this.entry[flow] ?? 0
    const first = this.first[flow] ?? 0
    return (
      this.kind[flow] === kind &&
      packet.isSameFlow(first) &&
      payload <= (this.size[flow] ?? 0) &&
      (this.total[flow] ?? 0) + payload <= MAX_LEN &&
      this.out.packets(entry) < MAX_JOINED &&
      this.isSameIp(flow, first) &&
      (kind === UDP || this.isSameTcp(flow, first))
    )
  }

  /** Same class, TTL and DF; without DF also the next id. */
  private isSameIp(flow: number, first: number): boolean {
    const view = this.view
    const at = this.packet.at
    if (this.packet.isV6) {
      // Version, class and flow label in one word.
      return (
        view.getInt32(at) === view.getInt32(first) &&
        ipv6.hopLimit(view, at) === ipv6.hopLimit(view, first)
      )
    }
    if (ipv4.tos(view, at) !== ipv4.tos(view, first)) return false
    if (ipv4.ttl(view, at) !== ipv4.ttl(view, first)) return false
    const flags = ipv4.flagsAndOffset(view, at)
    if (flags !== ipv4.flagsAndOffset(view, first)) return false
    if ((flags & ipv4.DONT_FRAGMENT) !== 0) return true
    return ipv4.id(view, at) === (((this.lastId[flow] ?? 0) + 1) & 0xffff)
  }

  /** Next sequence number; same acknowledgment, window, flags and options; nothing behind FIN or PSH. */
  private isSameTcp(flow: number, first: number): boolean {
    const view = this.view
    const { at, ipLen, headersLen } = this.packet
    const l4 = at + ipLen
    const l4First = first + ipLen
    const seq = (tcp.seq(view, l4First) + (this.total[flow] ?? 0) - headersLen) | 0
    if (tcp.seq(view, l4) !== seq || tcp.ack(view, l4) !== tcp.ack(view, l4First)) return false
    // Length of the header, flags and window in one word.
    const differing = view.getInt32(l4 + 12) ^ view.getInt32(l4First + 12)
    if ((differing & ~TCP_MAY_DIFFER) !== 0) return false
    // What the last one alone may carry must not stand in the middle.
    if (((this.lastFlags[flow] ?? 0) & (tcp.FIN | tcp.PSH)) !== 0) return false
    if (tcp.urgent(view, l4) !== tcp.urgent(view, l4First)) return false
    for (let i = tcp.HEADER_LEN; i < headersLen - ipLen; i += 4) {
      if (view.getInt32(l4 + i) !== view.getInt32(l4First + i)) return false
    }
    return true
  }

  private join(flow: number): void {
    const { at, len, headersLen, payload } = this.packet
    const entry = this.entry[flow] ?? 0
    this.out.addPiece(entry, at + headersLen, payload)
    this.out.addPacket(entry, len)
    this.total[flow] = (this.total[flow] ?? 0) + payload
    this.note(flow)
    if (payload < (this.size[flow] ?? 0)) this.close(flow)
  }

  private open(flow: number, entry: number): void {
    const packet = this.packet
    this.entry[flow] = entry
    this.first[flow] = packet.at
    this.kind[flow] = packet.kind
    this.headers[flow] = packet.headersLen
    this.size[flow] = packet.payload
    this.total[flow] = packet.len
    this.opened++
    this.note(flow)
  }

  private note(flow: number): void {
    const { at, ipLen, kind, isV6 } = this.packet
    this.lastFlags[flow] = kind === TCP ? tcp.flags(this.view, at + ipLen) : 0
    this.lastId[flow] = isV6 ? 0 : ipv4.id(this.view, at)
  }

  /** An entry for one packet, behind an empty virtio-net header. @returns its index */
  private write(at: number, len: number): number {
    const entry = this.out.begin(NO_NAME)
    if (this.hasVnet) {
      const vnet = this.vnetBase + entry * VNET_SLOT
      vnethdr.clear(this.view, vnet)
      this.out.addPiece(entry, vnet, VNET_HDR_LEN)
    }
    this.out.addPiece(entry, at, len)
    this.out.addPacket(entry, len)
    return entry
  }

  /** Completes the headers of a super-packet, if it became one. */
  private close(flow: number): void {
    const entry = this.entry[flow] ?? 0
    this.entry[flow] = NONE
    this.opened--
    if (!this.isJoined(entry)) return
    this.out.setSegment(entry, this.size[flow] ?? 0)
    this.supers.complete(
      entry,
      this.first[flow] ?? 0,
      this.headers[flow] ?? 0,
      this.vnetBase + entry * VNET_SLOT,
      this.kind[flow] === TCP,
      this.size[flow] ?? 0,
      this.total[flow] ?? 0,
      this.lastFlags[flow] ?? 0,
    )
  }
}
