/**
 * ICMP errors to the senders of dropped packets: which drops earn one, how many a sender gets, and
 * building them.
 *
 * The rules are RFC 1812 §4.3.2: never about an ICMP error, a later fragment, a multicast or
 * broadcast destination or a source that is no single host (§4.3.2.7); as much of the packet as
 * fits 576 bytes is quoted (§4.3.2.3); precedence 6 (§4.3.2.5); rate-limited (§4.3.2.8).
 *
 * The messages leave by a raw socket, not by the TUN device: a packet with a local source address
 * that arrives on a device is a martian, and the kernel drops it. The kernel routes them: to a local
 * sender at once, to one behind a peer into the TUN device and so through the engine.
 */
import type { Counters } from './counters.js'
import { ICMP_FAILED, ICMP_LIMITED, ICMP_SENT } from './counters.js'
import { NAME_SIZE, writeName } from './fib/nexthop.js'
import type { Arena } from './packet/arena.js'
import { Entries } from './packet/entries.js'
import {
  DROP_NO_ROUTE,
  DROP_TOO_BIG,
  DROP_TTL,
  DROP_TX_UNREACHABLE,
  FORWARD,
  VERDICT_COUNT,
  type Verdict,
} from './packet/verdict.js'
import * as icmpv4 from './wire/icmpv4.js'
import * as ipv4 from './wire/ipv4.js'

/** RFC 1812 §4.3.2.3: an ICMP error is at most 576 bytes long. */
const MAX_ERROR_LEN = 576
/** What stands before the quoted packet, bytes. */
const HEADERS = ipv4.HEADER_LEN + icmpv4.HEADER_LEN
/** Errors built between two flushes; more than that are counted as limited. */
const SLOTS = 32
/** Bytes of arena that the errors take. */
export const ICMP_ARENA_BYTES = SLOTS * MAX_ERROR_LEN

/** Type of service of an error: precedence 6, internetwork control (RFC 1812 §4.3.2.5). */
const TOS = 0xc0
const TTL = 64

/** Token buckets, picked by a hash of the receiver's address: a table of fixed size. */
const BUCKETS = 256
/** Errors a receiver may get at once. */
const BURST = 10
/** One more after this many milliseconds. */
const REFILL_MS = 100

/** What a drop earns: verdict, type, code. A drop that is not listed earns no error. */
const EARNED: readonly (readonly [Verdict, number, number])[] = [
  [DROP_NO_ROUTE, icmpv4.UNREACHABLE, icmpv4.NET_UNREACHABLE],
  [DROP_TX_UNREACHABLE, icmpv4.UNREACHABLE, icmpv4.HOST_UNREACHABLE],
  [DROP_TOO_BIG, icmpv4.UNREACHABLE, icmpv4.FRAGMENTATION_NEEDED],
  [DROP_TTL, icmpv4.TIME_EXCEEDED, icmpv4.TTL_IN_TRANSIT],
]
/** By verdict: type << 8 | code, −1 = no error. */
const KIND_OF = new Int32Array(VERDICT_COUNT).fill(-1)
for (const [verdict, type, code] of EARNED) KIND_OF[verdict] = (type << 8) | code

/** Where errors are sent: a raw IPv4 socket with IP_HDRINCL, or a test's collector. */
export interface IcmpPort {
  /** Sends every entry to its name; the result of each is in `entries.result(i)`. */
  send(entries: Entries, names: Uint8Array): void
}

export class IcmpErrors {
  private readonly arena: Arena
  private readonly base: number
  private readonly maxQuote: number
  private readonly source: number
  private readonly port: IcmpPort
  private readonly counters: Counters
  private readonly out = new Entries(SLOTS)
  private readonly names = new Uint8Array(SLOTS * NAME_SIZE)
  private readonly tokens = new Int32Array(BUCKETS).fill(BURST)
  private readonly refilledAt = new Float64Array(BUCKETS)
  private nowMs = 0
  // What the last error about an entry in this breath was about: verdict, source and destination.
  private toldVerdict: Verdict = FORWARD
  private toldSrc = 0
  private toldDst = 0

  /**
   * @param base    offset in the arena of ICMP_ARENA_BYTES that belong to the errors
   * @param mtu     of the overlay: an error that goes to a peer must fit, too
   * @param source  address bits the errors come from: the own subnet's base address
   */
  constructor(
    arena: Arena,
    base: number,
    mtu: number,
    source: number,
    port: IcmpPort,
    counters: Counters,
  ) {
    this.arena = arena
    this.base = base
    this.maxQuote = Math.min(MAX_ERROR_LEN, mtu) - HEADERS
    this.source = source
    this.port = port
    this.counters = counters
  }

  /** Sets the time that the rate limit goes by, once a breath. */
  tick(nowMs: number): void {
    this.nowMs = nowMs
    this.toldVerdict = FORWARD
  }

  /** Builds the error that a dropped packet earns, if it earns one. The packet has passed `ipv4.check` or `ipv6.check`. */
  about(verdict: Verdict, at: number): void {
    if (!this.isEarned(verdict, at) || !this.isGranted(at)) return
    this.build(verdict, at, ipv4.totalLen(this.arena.view, at), 0, 0)
  }

  /**
   * The same about a packet that a device refused, an entry of one piece or two: headers and payload.
   * Neighbours of equal source and destination, such as the segments of a super-packet, are told of
   * once a breath.
   * @param before  bytes of encapsulation before the packet
   * @param mtuTo   asked for the largest packet that fits the path to a name, 0 = not known, if the
   *                error has to say it; an MTU that the packet fits would be nonsense, and is not sent
   */
  aboutEntry(
    verdict: Verdict,
    entries: Entries,
    i: number,
    before: number,
    mtuTo: (name: number) => number,
  ): void {
    const first = entries.firstPiece(i)
    const at = entries.pieceAt(first) + before
    if (!this.isEarned(verdict, at)) return
    if (this.isTold(verdict, at)) {
      this.counters.gauge(ICMP_LIMITED, 1)
      return
    }
    if (!this.isGranted(at)) return
    let mtu = 0
    if (verdict === DROP_TOO_BIG) {
      mtu = mtuTo(entries.name(i))
      if (mtu === 0 || mtu >= ipv4.totalLen(this.arena.view, at)) return
    }
    const rest = entries.pieceTotal(i) > 1 ? entries.pieceAt(first + 1) : 0
    this.build(verdict, at, entries.pieceLen(first) - before, rest, mtu)
  }

  /** Sends what was built. */
  flush(): void {
    const out = this.out
    if (out.count === 0) return
    this.port.send(out, this.names)
    for (let i = 0; i < out.count; i++) {
      this.counters.gauge(out.result(i) === 0 ? ICMP_SENT : ICMP_FAILED, 1)
    }
    out.clear()
  }

  private isEarned(verdict: Verdict, at: number): boolean {
    return (KIND_OF[verdict] ?? -1) >= 0 && this.mayAnswer(at)
  }

  /** Whether the last error was about the same; from now on it is. */
  private isTold(verdict: Verdict, at: number): boolean {
    const src = ipv4.src(this.arena.view, at)
    const dst = ipv4.dst(this.arena.view, at)
    if (this.toldVerdict === verdict && this.toldSrc === src && this.toldDst === dst) return true
    this.toldVerdict = verdict
    this.toldSrc = src
    this.toldDst = dst
    return false
  }

  /** Whether the sender of a packet may get an error now; one that it may not get is counted. */
  private isGranted(at: number): boolean {
    if (!this.out.isFull() && this.takeToken(ipv4.src(this.arena.view, at))) return true
    this.counters.gauge(ICMP_LIMITED, 1)
    return false
  }

  /** RFC 1812 §4.3.2.7. About IPv6 there are no errors yet: they are another protocol (RFC 4443). */
  private mayAnswer(at: number): boolean {
    const v = this.arena.view
    if (ipv4.version(v, at) !== 4) return false
    if (ipv4.isLaterFragment(v, at)) return false
    if (!isSingleHost(ipv4.src(v, at)) || !isUnicast(ipv4.dst(v, at))) return false
    if (ipv4.protocol(v, at) !== ipv4.PROTO_ICMP) return true
    const headerLen = ipv4.headerLen(v, at)
    return ipv4.totalLen(v, at) > headerLen && !icmpv4.isError(v, at + headerLen)
  }

  /**
   * Builds an error about a packet in up to two pieces.
   * @param head  bytes of the packet from `at`
   * @param rest  where its other bytes are, if there are any
   * @param mtu   next-hop MTU of a fragmentation needed (RFC 1191 §4), 0 in other errors
   */
  private build(verdict: Verdict, at: number, head: number, rest: number, mtu: number): void {
    const { view: v, bytes } = this.arena
    const slot = this.out.count
    const to = this.base + slot * MAX_ERROR_LEN
    const quote = to + HEADERS
    const quoted = Math.min(ipv4.totalLen(v, at), this.maxQuote)
    const fromHead = Math.min(quoted, head)
    bytes.copyWithin(quote, at, at + fromHead)
    if (quoted > fromHead) bytes.copyWithin(quote + fromHead, rest, rest + quoted - fromHead)
    const icmpLen = icmpv4.HEADER_LEN + quoted
    const len = ipv4.HEADER_LEN + icmpLen
    const kind = KIND_OF[verdict] ?? 0
    const receiver = ipv4.src(v, at)
    ipv4.write(v, to, len, TOS, 0, 0, TTL, ipv4.PROTO_ICMP, this.source, receiver)
    icmpv4.writeError(v, to + ipv4.HEADER_LEN, kind >> 8, kind & 0xff, mtu, icmpLen)
    const name = slot * NAME_SIZE
    writeName(this.names, name, 4, receiver, 0, 0, 0, 0)
    this.out.add(to, len, name, len)
  }

  private takeToken(receiver: number): boolean {
    const bucket = (Math.imul(receiver, 0x9e3779b1) >>> 24) % BUCKETS
    const last = this.refilledAt[bucket] ?? 0
    const refill = Math.floor((this.nowMs - last) / REFILL_MS)
    let tokens = this.tokens[bucket] ?? 0
    if (refill > 0) {
      tokens = Math.min(BURST, tokens + refill)
      this.refilledAt[bucket] = this.nowMs
    }
    this.tokens[bucket] = tokens > 0 ? tokens - 1 : 0
    return tokens > 0
  }
}

/** Neither 0/8, 127/8, multicast, class E nor broadcast. */
function isSingleHost(bits: number): boolean {
  const top = bits >>> 24
  return top !== 0 && top !== 127 && top < 224
}

function isUnicast(bits: number): boolean {
  return bits >>> 24 < 224
}
