/**
 * Coalescing: neighbouring packets of one flow are written to the TUN as one super-packet (what a
 * network card does under the name GRO), so that the kernel walks its stack once for all of them.
 *
 * Only what segmentation would give back bit for bit is joined: same headers but for length, id,
 * checksums and what TCP lets vary; contiguous sequence numbers; equal sizes, a shorter one last;
 * right checksums, since the kernel believes a super-packet. Everything else is written as it is.
 * A packet that does not join its flow's open super-packet closes it, so a flow keeps its order.
 *
 * The first packet's headers are changed in place when the super-packet is closed. What they were is
 * remembered until the flush, for the case that the kernel refuses super-packets.
 */
import type { Arena } from '../packet/arena.js'
import type { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import { fold, pseudo4, pseudo6 } from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import * as vnethdr from '../wire/vnethdr.js'

/** Flows with an open super-packet at a time. */
const FLOWS = 8
/** Bytes from one virtio-net header to the next in scratch memory. */
export const VNET_SLOT = 16
/** Packets a super-packet may have: UDP_MAX_SEGMENTS of older kernels, and enough for 64 KiB of TCP. */
export const MAX_JOINED = 64
/** Pieces of an entry: virtio-net header, first packet, payloads. */
export const PIECES_PER_ENTRY = MAX_JOINED + 1

const MAX_LEN = 65535
const NONE = -1

// How a packet may take part in a super-packet.
const ALONE = 0
const CLOSES_ALL = 1
const TCP = 2
const UDP = 3

const TCP_SUM_AT = 16
const UDP_SUM_AT = 6

export class Coalescer {
  private readonly view: DataView
  private readonly out: Entries
  private readonly vnetBase: number
  private readonly hasVnet: boolean
  private canTcp: boolean
  private canUdp: boolean

  // Open super-packets, one row a flow.
  private readonly entry = new Int32Array(FLOWS).fill(NONE)
  private readonly first = new Int32Array(FLOWS)
  private readonly kind = new Int32Array(FLOWS)
  private readonly size = new Int32Array(FLOWS)
  private readonly total = new Int32Array(FLOWS)
  private readonly lastFlags = new Int32Array(FLOWS)
  private readonly lastId = new Int32Array(FLOWS)
  private next = 0

  // Headers as they arrived, per entry: total length, IP checksum, transport word, transport checksum.
  private readonly saved: Int32Array

  // The packet at hand.
  private at = 0
  private len = 0
  private isV6 = false
  private ipLen = 0
  private headersLen = 0

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
    this.saved = new Int32Array(out.capacity * SAVED)
  }

  /** From now on every packet is written by itself. */
  disable(): void {
    this.canTcp = false
    this.canUdp = false
  }

  /**
   * Adds a packet that goes to the TUN; there must be room for one more entry in `out`.
   * @param at   first byte; the packet has passed `ipv4.check` or `ipv6.check`
   * @param len  bytes of the IP packet
   * @param sum  sum of all its bytes from the native side, 0 = not known: it is written by itself
   */
  add(at: number, len: number, sum: number): void {
    this.at = at
    this.len = len
    const kind = sum === 0 ? CLOSES_ALL : this.classify(sum)
    if (kind === TCP || kind === UDP) {
      const flow = this.find()
      if (flow !== NONE) {
        if (this.kind[flow] === kind && this.joins(flow, kind)) {
          this.join(flow, kind)
          return
        }
        this.close(flow)
      }
      this.open(kind)
      return
    }
    if (kind === CLOSES_ALL) this.closeAll()
    else this.closeOwn()
    this.alone()
  }

  /** Closes every open super-packet; the entries are complete then. */
  flush(): void {
    this.closeAll()
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
    this.restore(entry)
    const out = this.out
    const first = out.firstPiece(entry)
    const headersLen = this.saved[entry * SAVED + SAVED_HEADERS] ?? 0
    const vnet = this.vnetBase + entry * VNET_SLOT
    vnethdr.clear(this.view, vnet)
    into.clear()
    for (let p = first + 1; p < first + out.pieceTotal(entry); p++) {
      const before = p === first + 1 ? 0 : headersLen
      const len = out.pieceLen(p) + before
      const i = into.begin(NONE)
      into.addPiece(i, vnet, VNET_HDR_LEN)
      into.addPiece(i, out.pieceAt(p) - before, len)
      into.addPacket(i, len)
    }
  }

  private restore(entry: number): void {
    const at = this.out.pieceAt(this.out.firstPiece(entry) + 1)
    const s = entry * SAVED
    const view = this.view
    const isV6 = ipv4.version(view, at) === 6
    const l4 = at + (isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN)
    if (isV6) {
      view.setUint16(at + 4, this.saved[s + SAVED_LEN] ?? 0)
    } else {
      ipv4.setTotalLen(view, at, this.saved[s + SAVED_LEN] ?? 0)
      ipv4.setChecksum(view, at, this.saved[s + SAVED_IP_SUM] ?? 0)
    }
    const sumAt = this.saved[s + SAVED_SUM_AT] ?? 0
    view.setUint16(l4 + sumAt, this.saved[s + SAVED_SUM] ?? 0)
    view.setUint16(l4 + (sumAt === TCP_SUM_AT ? 12 : 4), this.saved[s + SAVED_WORD] ?? 0)
  }

  /** May the packet at hand take part, and is its checksum right? */
  private classify(sum: number): number {
    const view = this.view
    const at = this.at
    this.isV6 = ipv4.version(view, at) === 6
    let protocol: number
    if (this.isV6) {
      this.ipLen = ipv6.HEADER_LEN
      protocol = ipv6.nextHeader(view, at)
      if (protocol !== ipv4.PROTO_TCP && protocol !== ipv4.PROTO_UDP) return CLOSES_ALL
    } else {
      this.ipLen = ipv4.headerLen(view, at)
      protocol = ipv4.protocol(view, at)
      // No ports to tell a flow by, or not where they are looked for.
      if (ipv4.isFragment(view, at) || this.ipLen !== ipv4.HEADER_LEN) return CLOSES_ALL
    }
    if (protocol === ipv4.PROTO_TCP) return this.classifyTcp(sum)
    if (protocol === ipv4.PROTO_UDP) return this.classifyUdp(sum)
    return ALONE
  }

  private classifyTcp(sum: number): number {
    const view = this.view
    const l4 = this.at + this.ipLen
    const l4Len = this.len - this.ipLen
    if (l4Len < tcp.HEADER_LEN) return CLOSES_ALL
    const headerLen = tcp.headerLen(view, l4)
    this.headersLen = this.ipLen + headerLen
    // Only ACK, with PSH or ECE; FIN may be the last. Payload there must be.
    const flags = tcp.flags(view, l4)
    const isPlain =
      (flags & ~(tcp.ACK | tcp.PSH | tcp.ECE | tcp.FIN)) === 0 && (flags & tcp.ACK) !== 0
    if (!this.canTcp || !isPlain || headerLen < tcp.HEADER_LEN || this.headersLen >= this.len)
      return ALONE
    return this.isSumRight(sum, ipv4.PROTO_TCP, l4Len) ? TCP : ALONE
  }

  private classifyUdp(sum: number): number {
    const view = this.view
    const l4 = this.at + this.ipLen
    const l4Len = this.len - this.ipLen
    if (l4Len < udp.HEADER_LEN) return CLOSES_ALL
    this.headersLen = this.ipLen + udp.HEADER_LEN
    // A sum of 0 means "none": the kernel would put one in, so such packets stay as they are.
    if (!this.canUdp || udp.length(view, l4) !== l4Len || this.headersLen >= this.len) return ALONE
    if (udp.checksum(view, l4) === 0) return ALONE
    return this.isSumRight(sum, ipv4.PROTO_UDP, l4Len) ? UDP : ALONE
  }

  /** The IPv4 header's own sum is 0xffff, which adds nothing; of IPv6 the header is taken off. */
  private isSumRight(sum: number, protocol: number, l4Len: number): boolean {
    const view = this.view
    const at = this.at
    if (!this.isV6) {
      const pseudo = pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, l4Len)
      return fold(sum + pseudo) === 0xffff
    }
    // The pseudo-header has the addresses too, so only the first eight bytes are to be taken off.
    const first =
      view.getUint16(at) + view.getUint16(at + 2) + view.getUint16(at + 4) + view.getUint16(at + 6)
    return fold(sum + (0xffff - fold(first)) + fold(protocol + l4Len)) === 0xffff
  }

  /** The open super-packet of the packet's flow: same family, addresses and ports. */
  private find(): number {
    for (let flow = 0; flow < FLOWS; flow++) {
      if (this.entry[flow] !== NONE && this.isSameFlow(this.first[flow] ?? 0)) return flow
    }
    return NONE
  }

  private isSameFlow(first: number): boolean {
    const view = this.view
    const at = this.at
    if (ipv4.version(view, first) !== (this.isV6 ? 6 : 4)) return false
    // From the source address to the ports: IPv4 bytes 12..23, IPv6 bytes 8..43.
    let i = this.isV6 ? 8 : 12
    for (; i < this.ipLen + 4; i += 4) {
      if (view.getInt32(at + i) !== view.getInt32(first + i)) return false
    }
    return true
  }

  /** Would segmentation give this packet back behind those already joined? */
  private joins(flow: number, kind: number): boolean {
    const payload = this.len - this.headersLen
    const entry = this.entry[flow] ?? 0
    const size = this.size[flow] ?? 0
    const total = this.total[flow] ?? 0
    const first = this.first[flow] ?? 0
    if (payload > size || (total - this.headersLen) % size !== 0) return false
    if (total + payload > MAX_LEN || this.out.packets(entry) >= MAX_JOINED) return false
    if (!this.isSameIp(flow, first)) return false
    return kind === UDP || this.isSameTcp(flow, first)
  }

  /** Same class, TTL and DF; without DF also the next id. */
  private isSameIp(flow: number, first: number): boolean {
    const view = this.view
    const at = this.at
    if (this.isV6) {
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

  /** Next sequence number; same acknowledgment, window, flags and options; nothing behind FIN or PSH+FIN. */
  private isSameTcp(flow: number, first: number): boolean {
    const view = this.view
    const l4 = this.at + this.ipLen
    const l4First = first + this.ipLen
    const seq = (tcp.seq(view, l4First) + (this.total[flow] ?? 0) - this.headersLen) | 0
    if (tcp.seq(view, l4) !== seq) return false
    // Acknowledgment, then offset, flags and window, then checksum (not compared) and urgent pointer.
    if (view.getInt32(l4 + 8) !== view.getInt32(l4First + 8)) return false
    const word = view.getInt32(l4 + 12)
    const wordFirst = view.getInt32(l4First + 12)
    if (((word ^ wordFirst) & ~TCP_MAY_DIFFER) !== 0) return false
    // What the last one alone may carry must not stand in the middle.
    if (((this.lastFlags[flow] ?? 0) & (tcp.FIN | tcp.PSH)) !== 0) return false
    if (view.getUint16(l4 + 18) !== view.getUint16(l4First + 18)) return false
    for (let i = tcp.HEADER_LEN; i < this.headersLen - this.ipLen; i += 4) {
      if (view.getInt32(l4 + i) !== view.getInt32(l4First + i)) return false
    }
    return true
  }

  private join(flow: number, kind: number): void {
    const entry = this.entry[flow] ?? 0
    const payload = this.len - this.headersLen
    this.out.addPiece(entry, this.at + this.headersLen, payload)
    this.out.addPacket(entry, this.len)
    this.total[flow] = (this.total[flow] ?? 0) + payload
    this.note(flow, kind)
    if (payload < (this.size[flow] ?? 0)) this.close(flow)
  }

  private open(kind: number): void {
    const flow = this.next
    this.next = (flow + 1) % FLOWS
    if (this.entry[flow] !== NONE) this.close(flow)
    this.entry[flow] = this.alone()
    this.first[flow] = this.at
    this.kind[flow] = kind
    this.size[flow] = this.len - this.headersLen
    this.total[flow] = this.len
    this.saved[(this.entry[flow] ?? 0) * SAVED + SAVED_HEADERS] = this.headersLen
    this.note(flow, kind)
  }

  private note(flow: number, kind: number): void {
    const view = this.view
    this.lastFlags[flow] = kind === TCP ? tcp.flags(view, this.at + this.ipLen) : 0
    this.lastId[flow] = this.isV6 ? 0 : ipv4.id(view, this.at)
  }

  /** An entry for one packet, behind an empty virtio-net header. @returns its index */
  private alone(): number {
    const entry = this.out.begin(NONE)
    if (this.hasVnet) {
      const vnet = this.vnetBase + entry * VNET_SLOT
      vnethdr.clear(this.view, vnet)
      this.out.addPiece(entry, vnet, VNET_HDR_LEN)
    }
    this.out.addPiece(entry, this.at, this.len)
    this.out.addPacket(entry, this.len)
    return entry
  }

  /** Closes the open super-packet of the packet's own flow, if it has ports to tell by. */
  private closeOwn(): void {
    const flow = this.find()
    if (flow !== NONE) this.close(flow)
  }

  private closeAll(): void {
    for (let flow = 0; flow < FLOWS; flow++) {
      if (this.entry[flow] !== NONE) this.close(flow)
    }
  }

  /** Completes the headers of a super-packet, if it became one. */
  private close(flow: number): void {
    const entry = this.entry[flow] ?? 0
    this.entry[flow] = NONE
    if (this.out.packets(entry) < 2) return
    const view = this.view
    const at = this.first[flow] ?? 0
    const total = this.total[flow] ?? 0
    const isTcp = this.kind[flow] === TCP
    const isV6 = ipv4.version(view, at) === 6
    const ipLen = isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN
    const l4 = at + ipLen
    const sumAt = isTcp ? TCP_SUM_AT : UDP_SUM_AT
    this.save(entry, at, l4, isV6, sumAt)
    if (isV6) {
      view.setUint16(at + 4, total - ipLen)
    } else {
      ipv4.setTotalLen(view, at, total)
      ipv4.finishChecksum(view, at)
    }
    const headersLen = this.saved[entry * SAVED + SAVED_HEADERS] ?? 0
    if (isTcp) {
      const last = (this.lastFlags[flow] ?? 0) & (tcp.FIN | tcp.PSH)
      view.setUint16(l4 + 12, view.getUint16(l4 + 12) | last)
    } else {
      view.setUint16(l4 + 4, total - ipLen)
    }
    const protocol = isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP
    const pseudo = isV6
      ? pseudo6(view, at + 8, at + 24, protocol, total - ipLen)
      : pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, total - ipLen)
    view.setUint16(l4 + sumAt, pseudo)
    const gso = isTcp ? (isV6 ? vnethdr.GSO_TCPV6 : vnethdr.GSO_TCPV4) : vnethdr.GSO_UDP_L4
    vnethdr.write(
      view,
      this.vnetBase + entry * VNET_SLOT,
      vnethdr.NEEDS_CSUM,
      gso,
      headersLen,
      this.size[flow] ?? 0,
      ipLen,
      sumAt,
    )
  }

  private save(entry: number, at: number, l4: number, isV6: boolean, sumAt: number): void {
    const s = entry * SAVED
    const view = this.view
    this.saved[s + SAVED_LEN] = isV6 ? view.getUint16(at + 4) : ipv4.totalLen(view, at)
    this.saved[s + SAVED_IP_SUM] = isV6 ? 0 : ipv4.checksum(view, at)
    this.saved[s + SAVED_SUM_AT] = sumAt
    this.saved[s + SAVED_SUM] = view.getUint16(l4 + sumAt)
    this.saved[s + SAVED_WORD] = view.getUint16(l4 + (sumAt === TCP_SUM_AT ? 12 : 4))
  }
}

/** Flags that may differ within a super-packet, in the header's fourth word: FIN and PSH. */
const TCP_MAY_DIFFER = 0x0009_0000

// Values kept per entry.
const SAVED = 6
const SAVED_LEN = 0
const SAVED_IP_SUM = 1
const SAVED_SUM_AT = 2
const SAVED_SUM = 3
const SAVED_WORD = 4
const SAVED_HEADERS = 5
