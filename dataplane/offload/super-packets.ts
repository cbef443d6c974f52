/**
 * The headers of super-packets that go to the TUN: completing them, and putting them back.
 *
 * The first packet's headers become the super-packet's, in place: total length, the flags that the
 * last packet brought, and instead of a checksum the pseudo-header's sum (NEEDS_CSUM). What they
 * were is kept per entry until the flush, for the case that the kernel refuses the super-packet.
 */
import type { Arena } from '../packet/arena.js'
import type { Entries } from '../packet/entries.js'
import { pseudo4, pseudo6 } from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import * as vnethdr from '../wire/vnethdr.js'

const TCP_FLAGS_AT = 13
const TCP_SUM_AT = tcp.CHECKSUM_AT
const UDP_LEN_AT = 4
const UDP_SUM_AT = udp.CHECKSUM_AT

// Values kept per entry: where the packet lies, and its headers' fields as they arrived.
const AT = 0
const HEADERS_LEN = 1
const IS_TCP = 2
const IP_LEN = 3
const IP_SUM = 4
const L4_WORD = 5
const L4_SUM = 6
const KEPT = 7

export class SuperPackets {
  private readonly view: DataView
  private readonly kept: Int32Array

  /** @param entries  how many there may be at a time */
  constructor(arena: Arena, entries: number) {
    this.view = arena.view
    this.kept = new Int32Array(entries * KEPT)
  }

  /** Bytes of the headers that every packet of a completed entry begins with. */
  headersLen(entry: number): number {
    return this.value(entry, HEADERS_LEN)
  }

  /**
   * Turns a packet's headers into those of the super-packet that begins with it.
   * @param at          first byte of the packet; IPv4 without options or IPv6 without extensions
   * @param headersLen  bytes of its headers
   * @param vnet        where the virtio-net header goes
   * @param isTcp       TCP, else UDP
   * @param size        payload bytes of every packet but the last
   * @param total       bytes of the super-packet
   * @param lastFlags   TCP flags of the last packet
   */
  complete(
    entry: number,
    at: number,
    headersLen: number,
    vnet: number,
    isTcp: boolean,
    size: number,
    total: number,
    lastFlags: number,
  ): void {
    const view = this.view
    const isV6 = ipv4.version(view, at) === 6
    const ipLen = isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN
    const l4 = at + ipLen
    const l4Len = total - ipLen
    this.keep(entry, at, headersLen, isTcp, isV6, l4)
    if (isV6) {
      ipv6.setPayloadLen(view, at, l4Len)
    } else {
      ipv4.setTotalLen(view, at, total)
      ipv4.finishChecksum(view, at)
    }
    if (isTcp) tcp.setFlags(view, l4, tcp.flags(view, l4) | (lastFlags & (tcp.FIN | tcp.PSH)))
    else view.setUint16(l4 + UDP_LEN_AT, l4Len)
    const protocol = isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP
    const pseudo = isV6
      ? pseudo6(view, at + ipv6.SRC_AT, at + ipv6.DST_AT, protocol, l4Len)
      : pseudo4(ipv4.src(view, at), ipv4.dst(view, at), protocol, l4Len)
    const sumAt = isTcp ? TCP_SUM_AT : UDP_SUM_AT
    view.setUint16(l4 + sumAt, pseudo)
    const tcpGso = isV6 ? vnethdr.GSO_TCPV6 : vnethdr.GSO_TCPV4
    const gso = isTcp ? tcpGso : vnethdr.GSO_UDP_L4
    vnethdr.write(view, vnet, vnethdr.NEEDS_CSUM, gso, headersLen, size, ipLen, sumAt)
  }

  /** Puts the headers of a completed entry's first packet back as they arrived. */
  restore(entry: number): void {
    const view = this.view
    const at = this.value(entry, AT)
    const isV6 = ipv4.version(view, at) === 6
    const isTcp = this.value(entry, IS_TCP) !== 0
    const l4 = at + (isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN)
    if (isV6) {
      ipv6.setPayloadLen(view, at, this.value(entry, IP_LEN))
    } else {
      ipv4.setTotalLen(view, at, this.value(entry, IP_LEN))
      ipv4.setChecksum(view, at, this.value(entry, IP_SUM))
    }
    if (isTcp) tcp.setFlags(view, l4, this.value(entry, L4_WORD))
    else view.setUint16(l4 + UDP_LEN_AT, this.value(entry, L4_WORD))
    view.setUint16(l4 + (isTcp ? TCP_SUM_AT : UDP_SUM_AT), this.value(entry, L4_SUM))
  }

  private keep(
    entry: number,
    at: number,
    headersLen: number,
    isTcp: boolean,
    isV6: boolean,
    l4: number,
  ): void {
    const view = this.view
    const kept = this.kept
    const k = entry * KEPT
    kept[k + AT] = at
    kept[k + HEADERS_LEN] = headersLen
    kept[k + IS_TCP] = isTcp ? 1 : 0
    kept[k + IP_LEN] = isV6 ? ipv6.payloadLen(view, at) : ipv4.totalLen(view, at)
    kept[k + IP_SUM] = isV6 ? 0 : ipv4.checksum(view, at)
    kept[k + L4_WORD] = isTcp ? view.getUint8(l4 + TCP_FLAGS_AT) : view.getUint16(l4 + UDP_LEN_AT)
    kept[k + L4_SUM] = view.getUint16(l4 + (isTcp ? TCP_SUM_AT : UDP_SUM_AT))
  }

  private value(entry: number, field: number): number {
    return this.kept[entry * KEPT + field] ?? 0
  }
}

/**
 * Makes of a super-packet an entry per packet, into `into`, which is cleared first. The first packet's
 * headers are as they arrived, and every packet still lies whole in its slot.
 * @param headersLen  bytes of the headers of every packet
 * @param vnet        where an empty virtio-net header lies
 */
export function splitJoined(
  out: Entries,
  entry: number,
  headersLen: number,
  vnet: number,
  into: Entries,
): void {
  const first = out.firstPiece(entry) + 1
  into.clear()
  for (let p = first; p < first + out.pieceTotal(entry) - 1; p++) {
    const before = p === first ? 0 : headersLen
    const len = out.pieceLen(p) + before
    const i = into.begin(out.name(entry))
    into.addPiece(i, vnet, vnethdr.HEADER_LEN)
    into.append(i, out.pieceAt(p) - before, len, len)
  }
}
