/**
 * Answers to peers that ask for our tunnel endpoint's MAC address through the tunnel. flannel tells its
 * kernel devices of each other's addresses; one that nobody has told asks, by ARP (RFC 826) for IPv4 or
 * by neighbour solicitation (RFC 4861 §4.3) for IPv6.
 *
 * Who asks about the base address of our own subnet and holds a lease is answered, at the address that
 * it asked from. Nothing is learned from what it says, and how many are answered is limited.
 */
import { ANSWERS_FAILED, type Counters } from './counters.js'
import { VXLAN_HEADER_LEN } from './encap/vxlan.js'
import { NAME_SIZE } from './fib/nexthop.js'
import type { IngressCheck } from './ingress-check.js'
import type { OutsidePort } from './io/device.js'
import type { Mac } from './mac.js'
import type { Arena } from './packet/arena.js'
import { Entries } from './packet/entries.js'
import {
  DROP_NEIGHBOUR_LIMITED,
  DROP_SOURCE_UNKNOWN,
  DROP_VXLAN_ETHERTYPE,
  DROP_VXLAN_GROUP,
  FORWARD,
  NEIGHBOUR_ANSWERED,
  type Verdict,
} from './packet/verdict.js'
import * as arp from './wire/arp.js'
import { pseudo6 } from './wire/checksum.js'
import * as ethernet from './wire/ethernet.js'
import * as icmpv6 from './wire/icmpv6.js'
import * as ipv6 from './wire/ipv6.js'
import * as vxlan from './wire/vxlan.js'

/** Answers built between two flushes; more than that are counted as limited. */
const SLOTS = 8
/** An advertisement's option with the MAC address (RFC 4861 §4.6.1), and the message with it. */
const OPTION_LEN = 8
const OPTION_TARGET_MAC = 2
const ADVERTISEMENT_LEN = icmpv6.HEADER_LEN + ipv6.ADDRESS_LEN + OPTION_LEN
/** Solicited, and to override what the asker has (RFC 4861 §4.4). */
const FLAGS = 0x6000_0000
/** A neighbour's message has crossed no router (RFC 4861 §7.1.1). */
export const HOP_LIMIT = 255
const SLOT_BYTES = 96
/** Bytes of arena that the answers take. */
export const NEIGHBOURS_ARENA_BYTES = SLOTS * SLOT_BYTES

/** Answers at once, chosen by us: so many peers may start at a time. */
const BURST = 64
/** One more after this many milliseconds. */
const REFILL_MS = 10

/** The own tunnel endpoint, as others see it. */
export interface Vtep {
  readonly vni: number
  readonly mac: Mac
  /** UDP port at which tunnel endpoints listen. */
  readonly port: number
}

export interface NeighbourParts {
  readonly arena: Arena
  /** Offset in the arena of NEIGHBOURS_ARENA_BYTES that belong to the answers. */
  readonly base: number
  readonly vtep: Vtep
  /** Base address of the own IPv4 subnet, address bits; null = there is none. */
  readonly ipv4: number | null
  /** Likewise for IPv6, 16 bytes. */
  readonly ipv6: Uint8Array | null
  readonly check: IngressCheck
  readonly port: OutsidePort
  readonly counters: Counters
}

export class NeighbourAnswers {
  private readonly view: DataView
  private readonly base: number
  private readonly vtep: Vtep
  private readonly ipv4: number | null
  private readonly ipv6: DataView | null
  private readonly check: IngressCheck
  private readonly port: OutsidePort
  private readonly counters: Counters
  private readonly out = new Entries(SLOTS)
  private readonly names = new Uint8Array(SLOTS * NAME_SIZE)
  private tokens = BURST
  private refilledAt = 0

  constructor({ arena, base, vtep, ipv4, ipv6, check, port, counters }: NeighbourParts) {
    this.view = arena.view
    this.base = base
    this.vtep = vtep
    this.ipv4 = ipv4
    this.ipv6 = ipv6 === null ? null : new DataView(ipv6.buffer, ipv6.byteOffset)
    this.check = check
    this.port = port
    this.counters = counters
  }

  /** Sets the time that the limit goes by, once a breath. */
  tick(nowMs: number): void {
    const refill = Math.floor((nowMs - this.refilledAt) / REFILL_MS)
    if (refill <= 0) return
    this.tokens = Math.min(BURST, this.tokens + refill)
    this.refilledAt = nowMs
  }

  /**
   * Answers a frame, if it asks for us: one that the encapsulation has refused, or IPv6 for our MAC, as
   * a kernel sends it that makes sure of what it knows (RFC 4861 §7.3.3).
   * @param verdict  what would become of it otherwise
   * @param at       first byte of the datagram, which the check has taken up
   * @returns        the verdict about it
   */
  verdict(verdict: Verdict, at: number, len: number): Verdict {
    const mayAsk =
      verdict === FORWARD || verdict === DROP_VXLAN_GROUP || verdict === DROP_VXLAN_ETHERTYPE
    if (!mayAsk) return verdict
    const type = ethernet.etherType(this.view, at + vxlan.HEADER_LEN)
    const packet = at + VXLAN_HEADER_LEN
    const left = len - VXLAN_HEADER_LEN
    const isArp = type === ethernet.TYPE_ARP
    if (isArp ? !this.isRequest(packet, left) : !this.isSolicitation(type, packet, left)) {
      return verdict
    }
    if (!this.check.isHostKnown()) return DROP_SOURCE_UNKNOWN
    if (this.tokens === 0 || this.out.isFull()) return DROP_NEIGHBOUR_LIMITED
    this.tokens--
    this.build(at + vxlan.HEADER_LEN, packet, isArp)
    return NEIGHBOUR_ANSWERED
  }

  /** Sends what was built. */
  flush(): void {
    const { out, names, port, counters } = this
    if (out.count === 0) return
    for (let done = 0; done < out.count;) done = port.send(out, names, done)
    for (let i = 0; i < out.count; i++) if (out.result(i) !== 0) counters.gauge(ANSWERS_FAILED, 1)
    out.clear()
  }

  private isRequest(at: number, len: number): boolean {
    const { view } = this
    return (
      arp.check(view, at, len) === arp.OK &&
      arp.operation(view, at) === arp.REQUEST &&
      arp.target(view, at) === this.ipv4
    )
  }

  /** By RFC 4861 §7.1.1. Who has no address yet (§7.2.4) does not ask for ours. */
  private isSolicitation(type: number, at: number, len: number): boolean {
    const { view } = this
    const message = at + ipv6.HEADER_LEN
    if (type !== ethernet.TYPE_IPV6 || ipv6.check(view, at, len) !== ipv6.OK) return false
    const messageLen = ipv6.payloadLen(view, at)
    return (
      ipv6.nextHeader(view, at) === icmpv6.PROTO_ICMPV6 &&
      ipv6.hopLimit(view, at) === HOP_LIMIT &&
      messageLen >= icmpv6.HEADER_LEN + ipv6.ADDRESS_LEN &&
      icmpv6.type(view, message) === icmpv6.NEIGHBOR_SOLICITATION &&
      icmpv6.code(view, message) === 0 &&
      this.isOwn6(message + icmpv6.TARGET_AT) &&
      !isUnspecified(view, at + ipv6.SRC_AT) &&
      icmpv6.isChecksumRight(view, message, messageLen, this.pseudo(at, messageLen))
    )
  }

  private isOwn6(at: number): boolean {
    const own = this.ipv6
    if (own === null) return false
    for (let i = 0; i < ipv6.ADDRESS_LEN; i += 4) {
      if (this.view.getInt32(at + i) !== own.getInt32(i)) return false
    }
    return true
  }

  private pseudo(at: number, len: number): number {
    return pseudo6(this.view, at + ipv6.SRC_AT, at + ipv6.DST_AT, icmpv6.PROTO_ICMPV6, len)
  }

  /** @param frame  the asker's frame, @param packet  and what is in it */
  private build(frame: number, packet: number, isArp: boolean): void {
    const { view, out, vtep } = this
    const to = this.base + out.count * SLOT_BYTES
    const high = ethernet.srcHigh(view, frame)
    const low = ethernet.srcLow(view, frame)
    const { mac } = vtep
    const type = isArp ? ethernet.TYPE_ARP : ethernet.TYPE_IPV6
    vxlan.write(view, to, vtep.vni)
    ethernet.write(view, to + vxlan.HEADER_LEN, high, low, mac.high, mac.low, type)
    const answer = to + VXLAN_HEADER_LEN
    const len = isArp ? this.reply(answer, packet) : this.advertise(answer, packet)
    const name = out.count * NAME_SIZE
    this.check.writeHost(this.names, name, vtep.port)
    out.add(to, VXLAN_HEADER_LEN + len, name, len)
  }

  private reply(to: number, request: number): number {
    const { view } = this
    const { mac } = this.vtep
    const high = arp.senderHigh(view, request)
    const low = arp.senderLow(view, request)
    const asker = arp.sender(view, request)
    arp.write(view, to, arp.REPLY, mac.high, mac.low, this.ipv4 ?? 0, high, low, asker)
    return arp.HEADER_LEN
  }

  private advertise(to: number, solicitation: number): number {
    const { view } = this
    const { mac } = this.vtep
    const target = solicitation + ipv6.HEADER_LEN + icmpv6.TARGET_AT
    const asker = solicitation + ipv6.SRC_AT
    const { PROTO_ICMPV6 } = icmpv6
    ipv6.write(
      view,
      to,
      ADVERTISEMENT_LEN,
      0,
      0,
      PROTO_ICMPV6,
      HOP_LIMIT,
      view,
      target,
      view,
      asker,
    )
    const message = to + ipv6.HEADER_LEN
    icmpv6.write(view, message, icmpv6.NEIGHBOR_ADVERTISEMENT, 0, FLAGS)
    ipv6.copyAddress(view, message + icmpv6.TARGET_AT, view, target)
    const option = message + icmpv6.TARGET_AT + ipv6.ADDRESS_LEN
    view.setUint8(option, OPTION_TARGET_MAC)
    view.setUint8(option + 1, OPTION_LEN / 8)
    view.setUint16(option + 2, mac.high)
    view.setInt32(option + 4, mac.low)
    const pseudo = this.pseudo(to, ADVERTISEMENT_LEN)
    icmpv6.finishChecksum(view, message, ADVERTISEMENT_LEN, pseudo)
    return ipv6.HEADER_LEN + ADVERTISEMENT_LEN
  }
}

function isUnspecified(view: DataView, at: number): boolean {
  for (let i = 0; i < ipv6.ADDRESS_LEN; i += 4) if (view.getInt32(at + i) !== 0) return false
  return true
}
