/**
 * Delivery: what was staged is handed to a device, and what became of it is counted.
 *
 * A device may refuse a run or a super-packet that the kernel was found able to take. Its packets
 * then go one by one, before what stands behind them, so that every flow keeps its order. Who is to
 * blame decides what is tried from then on:
 *
 *     too long for the path to the peer        that peer gets no runs of such packets for a while
 *     refused, and its packets alone are not   the offload is given up
 *     refused, and so are its packets          nobody: the packets, the peer or the device are at fault
 */
import {
  EGRESS,
  INGRESS,
  JOINED_PACKETS,
  JOINS_LOST,
  JOINS_RESENT,
  JOINS_WRITTEN,
  RUN_PACKETS,
  RUNS_AVOIDED,
  RUNS_LOST,
  RUNS_RESENT,
  RUNS_SENT,
  SENT_IN_FRAGMENTS,
  type Counters,
} from './counters.js'
import { EINVAL, EMSGSIZE, isOffloadRefused, sendVerdict, writeVerdict } from './device-errors.js'
import type { HopTable } from './fib/nexthop.js'
import type { IcmpErrors } from './icmp.js'
import type { InsideDevice, OutsidePort } from './io/device.js'
import type { Coalescer } from './offload/coalesce.js'
import type { OnGivenUp } from './offload/offload.js'
import { splitRun, type Runs } from './offload/runs.js'
import type { Arena } from './packet/arena.js'
import { Entries } from './packet/entries.js'
import { FORWARD } from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'
import * as ipv6 from './wire/ipv6.js'

/** Packets of the longest run. */
const MAX_AGAIN = 256

export interface SenderParts {
  /** Memory in which the packets lie. */
  readonly arena: Arena
  readonly port: OutsidePort
  readonly hops: HopTable
  /** Bytes of encapsulation before each packet. */
  readonly headerLen: number
  /** What is staged for the port; its runs are those of `runs`. */
  readonly out: Entries
  readonly runs: Runs
  readonly icmp: IcmpErrors
  readonly counters: Counters
  readonly onGivenUp: OnGivenUp
}

/** Sends to peers. */
export class Sender {
  private readonly port: OutsidePort
  private readonly hops: HopTable
  private readonly headerLen: number
  private readonly out: Entries
  private readonly runs: Runs
  private readonly icmp: IcmpErrors
  private readonly counters: Counters
  private readonly onGivenUp: OnGivenUp
  private readonly view: DataView
  private readonly again = new Entries(MAX_AGAIN, 2)
  private readonly lone = new Entries(1, 2)
  /** The largest packet that travels to a destination in one piece, bytes; 0 = not known. */
  private readonly mtuTo = (name: number): number =>
    Math.max(0, this.port.pathRoom(this.hops.names, name) - this.headerLen)

  constructor(parts: SenderParts) {
    this.view = parts.arena.view
    this.port = parts.port
    this.hops = parts.hops
    this.headerLen = parts.headerLen
    this.out = parts.out
    this.runs = parts.runs
    this.icmp = parts.icmp
    this.counters = parts.counters
    this.onGivenUp = parts.onGivenUp
  }

  /** Sends what is staged and counts it; then nothing is staged any more. */
  flush(): void {
    this.sendAll(this.out)
    this.out.clear()
    this.runs.clear()
  }

  /** Sends entries and counts them. @returns packets that were taken as they are */
  private sendAll(entries: Entries): number {
    const { port, hops } = this
    let taken = 0
    for (let done = 0; done < entries.count;) {
      const end = port.send(entries, hops.names, done)
      taken += this.settle(entries, done, end)
      done = end
    }
    return taken
  }

  /** Counts what became of some entries; refused ones may get another try. */
  private settle(entries: Entries, from: number, end: number): number {
    const { counters } = this
    let packets = 0
    let bytes = 0
    let runs = 0
    let runPackets = 0
    for (let i = from; i < end; i++) {
      const errno = entries.result(i)
      if (errno === 0) {
        packets += entries.packets(i)
        bytes += entries.bytes(i)
        if (entries.segment(i) > 0) runs++
        if (entries.segment(i) > 0) runPackets += entries.packets(i)
      } else {
        this.refused(entries, i, errno)
      }
    }
    counters.add(EGRESS, FORWARD, packets, bytes)
    counters.gauge(RUNS_SENT, runs)
    counters.gauge(RUN_PACKETS, runPackets)
    return packets
  }

  private refused(entries: Entries, i: number, errno: number): void {
    if (entries.segment(i) > 0) {
      if (!this.resend(i, errno)) this.loseRun(i, errno)
    } else if (errno !== EMSGSIZE || !this.sendInFragments(entries, i)) {
      this.lose(entries, i, errno)
    }
  }

  /** Sends a refused run packet by packet. @returns false when that would not help */
  private resend(run: number, errno: number): boolean {
    if (errno !== EMSGSIZE && !isOffloadRefused(errno)) return false
    splitRun(this.out, run, this.again)
    const taken = this.sendAll(this.again)
    this.counters.gauge(RUNS_RESENT, 1)
    this.blame(run, errno, taken > 0)
    return true
  }

  /**
   * A router fragments what is longer than the path unless DF forbids it (RFC 791 §2.3), and whatever
   * carries IPv6 has to take packets of 1280 bytes (RFC 8200 §5). Here the outer packet is fragmented,
   * so that the inner one stays whole.
   * @returns  false when it must not be
   */
  private sendInFragments(entries: Entries, i: number): boolean {
    const { view, lone, counters } = this
    const at = entries.pieceAt(entries.firstPiece(i)) + this.headerLen
    if (!mayFragment(view, at)) return false
    copyEntry(entries, i, lone)
    this.port.sendInFragments(lone, this.hops.names)
    if (lone.result(0) !== 0) return false
    counters.add(EGRESS, FORWARD, 1, entries.bytes(i))
    counters.gauge(SENT_IN_FRAGMENTS, 1)
    return true
  }

  /** The packets of a run may have several senders. */
  private loseRun(run: number, errno: number): void {
    splitRun(this.out, run, this.again)
    for (let i = 0; i < this.again.count; i++) this.lose(this.again, i, errno)
  }

  /** Counts a refused packet, and tells its sender where that is earned. */
  private lose(entries: Entries, i: number, errno: number): void {
    const verdict = sendVerdict(errno)
    this.counters.add(EGRESS, verdict, entries.packets(i), entries.bytes(i))
    this.icmp.aboutEntry(verdict, entries, i, this.headerLen, this.mtuTo)
  }

  private blame(run: number, errno: number, isTakenPlainly: boolean): void {
    const { runs, counters } = this
    const name = this.out.name(run)
    const hop = this.hops.named(name)
    const len = this.out.segment(run)
    if (!runs.isOn() || runs.isAvoided(hop, len)) return
    // Until Linux 6.14, and its stable branches of early 2025, packets that are longer than the path
    // are an EINVAL (udp_send_skb), the same as of a kernel that cannot cut.
    const isAboutPath = errno === EMSGSIZE || errno === EINVAL
    const room = isAboutPath ? this.port.pathRoom(this.hops.names, name) : 0
    if (errno === EMSGSIZE || (room > 0 && len > room)) {
      runs.avoid(hop, room)
      counters.gauge(RUNS_AVOIDED, 1)
    } else if (isTakenPlainly) {
      runs.disable()
      counters.gauge(RUNS_LOST, 1)
      this.onGivenUp('udp-segment', errno)
    }
  }
}

function mayFragment(view: DataView, at: number): boolean {
  return ipv4.version(view, at) === 4
    ? !ipv4.hasDontFragment(view, at)
    : ipv6.totalLen(view, at) <= ipv6.LEAST_MTU
}

/** Makes a packet the only entry of `into`. */
function copyEntry(entries: Entries, i: number, into: Entries): void {
  into.clear()
  const lone = into.begin(entries.name(i), entries.socket(i))
  const first = entries.firstPiece(i)
  for (let p = first; p < first + entries.pieceTotal(i); p++) {
    into.addPiece(lone, entries.pieceAt(p), entries.pieceLen(p))
  }
}

/** Writes to the TUN device. */
export class Writer {
  private readonly device: InsideDevice
  private readonly out: Entries
  private readonly coalescer: Coalescer
  private readonly counters: Counters
  private readonly onGivenUp: OnGivenUp
  private readonly again = new Entries(MAX_AGAIN, 2)

  /** @param out  what is staged for the device; its super-packets are those of `coalescer` */
  constructor(
    device: InsideDevice,
    out: Entries,
    coalescer: Coalescer,
    counters: Counters,
    onGivenUp: OnGivenUp,
  ) {
    this.device = device
    this.out = out
    this.coalescer = coalescer
    this.counters = counters
    this.onGivenUp = onGivenUp
  }

  /** Writes what is staged and counts it; then nothing is staged any more. */
  flush(): void {
    const { out, device } = this
    let done = 0
    while (done < out.count) {
      const end = device.write(out, done)
      this.settle(done, end)
      done = end
    }
    out.clear()
  }

  /** Counts what became of some entries; refused super-packets get another try. */
  private settle(from: number, end: number): void {
    const { out, counters } = this
    let packets = 0
    let bytes = 0
    let joins = 0
    let joined = 0
    for (let i = from; i < end; i++) {
      const errno = out.result(i)
      const count = out.packets(i)
      if (errno === 0) {
        packets += count
        bytes += out.bytes(i)
        if (count > 1) joins++
        if (count > 1) joined += count
      } else if (count === 1 || !this.rewrite(i, errno)) {
        counters.add(INGRESS, writeVerdict(errno), count, out.bytes(i))
      }
    }
    counters.add(INGRESS, FORWARD, packets, bytes)
    counters.gauge(JOINS_WRITTEN, joins)
    counters.gauge(JOINED_PACKETS, joined)
  }

  /** Writes a refused super-packet packet by packet. @returns false when that would not help */
  private rewrite(entry: number, errno: number): boolean {
    if (!isOffloadRefused(errno)) return false
    const { again, coalescer, counters } = this
    coalescer.split(entry, again)
    this.device.write(again)
    let taken = 0
    for (let i = 0; i < again.count; i++) {
      const result = again.result(i)
      if (result === 0) taken++
      counters.add(INGRESS, writeVerdict(result), again.packets(i), again.bytes(i))
    }
    counters.gauge(JOINS_RESENT, 1)
    if (taken > 0 && coalescer.isOn()) {
      coalescer.disable()
      counters.gauge(JOINS_LOST, 1)
      this.onGivenUp('tun-gro', errno)
    }
    return true
  }
}
