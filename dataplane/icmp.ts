/**
 * ICMP errors to the senders of dropped packets: how many a sender gets, and sending them. Which
 * drops earn one, and what it looks like, is each protocol's own matter: icmp4.ts, icmp6.ts.
 *
 * The messages leave by raw sockets, not by the TUN device: a packet with a local source address
 * that arrives on a device is a martian, and the kernel drops it. The kernel routes them: to a local
 * sender at once, to one behind a peer into the TUN device and so through the engine.
 */
import type { Counters } from './counters.js'
import { ICMP_FAILED, ICMP_LIMITED, ICMP_SENT } from './counters.js'
import { NAME_SIZE } from './fib/nexthop.js'
import type { Arena } from './packet/arena.js'
import { Entries } from './packet/entries.js'
import { DROP_TOO_BIG, FORWARD, VERDICT_COUNT, type Verdict } from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'

/** Errors of a protocol built between two flushes; more than that are counted as limited. */
const SLOTS = 32
/** Bytes of the longest error: the least MTU of IPv6. */
const SLOT_BYTES = 1280
/** Bytes of arena that the errors take: the slots of two protocols. */
export const ICMP_ARENA_BYTES = 2 * SLOTS * SLOT_BYTES

/** Token buckets, picked by a hash of the receiver's address: a table of fixed size. */
const BUCKETS = 256
/** Errors a receiver may get at once. */
const BURST = 10
/** One more after this many milliseconds. */
const REFILL_MS = 100
/** Words of a source and a destination, at most. */
const MAX_WORDS = 8

/** Where errors are sent: a raw socket that is handed whole packets, or a test's collector. */
export interface IcmpPort {
  /** Sends every entry to its name; the result of each is in `entries.result(i)`. */
  send(entries: Entries, names: Uint8Array): void
}

/** What the errors about packets of one IP version are. `at` is that of a packet which has passed its `check`. */
export interface IcmpProtocol {
  /** What a drop earns: verdict, type, code. A drop that is not listed earns no error. */
  readonly earned: readonly (readonly [Verdict, number, number])[]
  /** Bytes of an error at most, its headers included. */
  readonly maxLen: number
  /** What stands before the quoted packet, bytes. */
  readonly headersLen: number
  /** The least MTU that a sender is told of. */
  readonly leastMtu: number
  /** Where the source stands in a packet, with the destination behind it, and words of each. */
  readonly srcAt: number
  readonly addressWords: number
  totalLen(v: DataView, at: number): number
  /** Whether the sender of a packet may be told anything. */
  mayAnswer(v: DataView, at: number, verdict: Verdict): boolean
  /**
   * Writes the headers of an error before its quote, and the checksum over both.
   * @param to     first byte of the error
   * @param len    bytes of it, the quote included
   * @param mtu    what a "too big" says, 0 in other errors
   * @param about  the packet that it is about: its sender gets it
   */
  write(
    v: DataView,
    to: number,
    len: number,
    type: number,
    code: number,
    mtu: number,
    about: number,
  ): void
  /** Writes the sender's name, see fib/nexthop.ts. */
  writeReceiver(names: Uint8Array, name: number, v: DataView, about: number): void
}

/** A protocol with the port that its errors leave by. */
export interface IcmpSide {
  readonly protocol: IcmpProtocol
  readonly port: IcmpPort
}

/** What is built of one protocol until it is sent. */
class Outgoing {
  readonly protocol: IcmpProtocol
  readonly out = new Entries(SLOTS)
  readonly names = new Uint8Array(SLOTS * NAME_SIZE)
  readonly maxQuote: number
  private readonly port: IcmpPort
  private readonly base: number
  /** By verdict: type << 8 | code, −1 = no error. */
  private readonly kinds = new Int32Array(VERDICT_COUNT).fill(-1)

  /** @param base  offset in the arena of SLOTS slots */
  constructor({ protocol, port }: IcmpSide, base: number, mtu: number) {
    this.protocol = protocol
    this.port = port
    this.base = base
    this.maxQuote = Math.min(protocol.maxLen, mtu) - protocol.headersLen
    for (const [verdict, type, code] of protocol.earned) this.kinds[verdict] = (type << 8) | code
  }

  kind(verdict: Verdict): number {
    return this.kinds[verdict] ?? -1
  }

  /** Where the next error goes. */
  slot(): number {
    return this.base + this.out.count * SLOT_BYTES
  }

  send(counters: Counters): void {
    const { out } = this
    if (out.count === 0) return
    this.port.send(out, this.names)
    for (let i = 0; i < out.count; i++) {
      counters.gauge(out.result(i) === 0 ? ICMP_SENT : ICMP_FAILED, 1)
    }
    out.clear()
  }
}

export class IcmpErrors {
  private readonly arena: Arena
  private readonly counters: Counters
  private readonly v4: Outgoing | null
  private readonly v6: Outgoing | null
  private readonly tokens = new Int32Array(BUCKETS).fill(BURST)
  private readonly refilledAt = new Float64Array(BUCKETS)
  private nowMs = 0
  // What the last error about an entry in this breath was about: verdict, source and destination.
  private toldVerdict: Verdict = FORWARD
  private toldOut: Outgoing | null = null
  private readonly toldWords = new Int32Array(MAX_WORDS)

  /**
   * @param base  offset in the arena of ICMP_ARENA_BYTES that belong to the errors
   * @param mtu   of the overlay: an error that goes to a peer must fit, too
   * @param v4    for errors about IPv4 packets, null = nobody is told of them; likewise `v6`
   */
  constructor(
    arena: Arena,
    base: number,
    mtu: number,
    v4: IcmpSide | null,
    v6: IcmpSide | null,
    counters: Counters,
  ) {
    this.arena = arena
    this.counters = counters
    this.v4 = v4 === null ? null : new Outgoing(v4, base, mtu)
    this.v6 = v6 === null ? null : new Outgoing(v6, base + SLOTS * SLOT_BYTES, mtu)
  }

  /** Sets the time that the rate limit goes by, once a breath. */
  tick(nowMs: number): void {
    this.nowMs = nowMs
    this.toldVerdict = FORWARD
  }

  /** Builds the error that a dropped packet earns, if it earns one. The packet has passed `ipv4.check` or `ipv6.check`. */
  about(verdict: Verdict, at: number): void {
    const side = this.earns(verdict, at)
    if (side === null || !this.isGranted(side, at)) return
    this.build(side, verdict, at, side.protocol.totalLen(this.arena.view, at), 0, 0)
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
    const side = this.earns(verdict, at)
    if (side === null) return
    if (this.isTold(side, verdict, at)) {
      this.counters.gauge(ICMP_LIMITED, 1)
      return
    }
    if (!this.isGranted(side, at)) return
    let mtu = 0
    if (verdict === DROP_TOO_BIG) {
      mtu = mtuTo(entries.name(i))
      if (mtu === 0) return
      mtu = Math.max(mtu, side.protocol.leastMtu)
      if (mtu >= side.protocol.totalLen(this.arena.view, at)) return
    }
    const rest = entries.pieceTotal(i) > 1 ? entries.pieceAt(first + 1) : 0
    this.build(side, verdict, at, entries.pieceLen(first) - before, rest, mtu)
  }

  /** Sends what was built. */
  flush(): void {
    this.v4?.send(this.counters)
    this.v6?.send(this.counters)
  }

  /** The protocol of the error that a drop earns, null = none. */
  private earns(verdict: Verdict, at: number): Outgoing | null {
    const { view } = this.arena
    const side = ipv4.version(view, at) === 6 ? this.v6 : this.v4
    if (side === null || side.kind(verdict) < 0) return null
    return side.protocol.mayAnswer(view, at, verdict) ? side : null
  }

  /** Whether the last error was about the same; from now on it is. */
  private isTold(side: Outgoing, verdict: Verdict, at: number): boolean {
    const { view } = this.arena
    const { srcAt, addressWords } = side.protocol
    let isSame = this.toldVerdict === verdict && this.toldOut === side
    for (let word = 0; word < 2 * addressWords; word++) {
      const value = view.getInt32(at + srcAt + 4 * word)
      if (value !== this.toldWords[word]) isSame = false
      this.toldWords[word] = value
    }
    this.toldVerdict = verdict
    this.toldOut = side
    return isSame
  }

  /** Whether the sender of a packet may get an error now; one that it may not get is counted. */
  private isGranted(side: Outgoing, at: number): boolean {
    if (!side.out.isFull() && this.takeToken(side.protocol, at)) return true
    this.counters.gauge(ICMP_LIMITED, 1)
    return false
  }

  /**
   * Builds an error about a packet in up to two pieces.
   * @param head  bytes of the packet from `at`
   * @param rest  where its other bytes are, if there are any
   * @param mtu   next-hop MTU of a "too big" (RFC 1191 §4, RFC 4443 §3.2), 0 in other errors
   */
  private build(
    side: Outgoing,
    verdict: Verdict,
    at: number,
    head: number,
    rest: number,
    mtu: number,
  ): void {
    const { view: v, bytes } = this.arena
    const { out, names, protocol } = side
    const to = side.slot()
    const quote = to + protocol.headersLen
    const quoted = Math.min(protocol.totalLen(v, at), side.maxQuote)
    const fromHead = Math.min(quoted, head)
    bytes.copyWithin(quote, at, at + fromHead)
    if (quoted > fromHead) bytes.copyWithin(quote + fromHead, rest, rest + quoted - fromHead)
    const len = protocol.headersLen + quoted
    const kind = side.kind(verdict)
    protocol.write(v, to, len, kind >> 8, kind & 0xff, mtu, at)
    const name = out.count * NAME_SIZE
    protocol.writeReceiver(names, name, v, at)
    out.add(to, len, name, len)
  }

  private takeToken({ srcAt, addressWords }: IcmpProtocol, at: number): boolean {
    let hash = 0
    for (let word = 0; word < addressWords; word++) {
      hash = Math.imul(hash ^ this.arena.view.getInt32(at + srcAt + 4 * word), 0x9e3779b1)
    }
    const bucket = (hash >>> 24) % BUCKETS
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
