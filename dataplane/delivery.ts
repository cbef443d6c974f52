/**
 * Delivery: what was staged is handed to a device, and what became of it is counted.
 *
 * A device may refuse a run or a super-packet that the kernel was found able to take. Its packets
 * then go one by one, before what stands behind them, so that every flow keeps its order. Who is to
 * blame decides what is tried from then on:
 *
 *     too long for the path to the peer        that peer gets single packets for a while
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
  type Counters,
} from './counters.js'
import type { HopTable } from './fib/nexthop.js'
import type { InsideDevice, OutsidePort } from './io/device.js'
import type { Coalescer } from './offload/coalesce.js'
import type { OnGivenUp } from './offload/offload.js'
import { splitRun, type Runs } from './offload/runs.js'
import { Entries } from './packet/entries.js'
import {
  DROP_TOO_BIG,
  DROP_TUN_BUSY,
  DROP_TUN_ERROR,
  DROP_TX_BUSY,
  DROP_TX_ERROR,
  DROP_TX_UNREACHABLE,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'

// Linux errno numbers (asm-generic/errno.h, errno-base.h) that decide a verdict.
const EPERM = 1
const EIO = 5
const EAGAIN = 11
const EACCES = 13
const EINVAL = 22
const EMSGSIZE = 90
const ENOPROTOOPT = 92
const EOPNOTSUPP = 95
const ENETDOWN = 100
const ENETUNREACH = 101
const ENOBUFS = 105
const ECONNREFUSED = 111
const EHOSTDOWN = 112
const EHOSTUNREACH = 113

/** Packets of the longest run. */
const MAX_AGAIN = 256

/** Sends to peers. */
export class Sender {
  private readonly port: OutsidePort
  private readonly hops: HopTable
  private readonly out: Entries
  private readonly runs: Runs
  private readonly counters: Counters
  private readonly onGivenUp: OnGivenUp
  private readonly again = new Entries(MAX_AGAIN, 2)

  /** @param out  what is staged for the port; its runs are those of `runs` */
  constructor(
    port: OutsidePort,
    hops: HopTable,
    out: Entries,
    runs: Runs,
    counters: Counters,
    onGivenUp: OnGivenUp,
  ) {
    this.port = port
    this.hops = hops
    this.out = out
    this.runs = runs
    this.counters = counters
    this.onGivenUp = onGivenUp
  }

  /** Sends what is staged and counts it; then nothing is staged any more. */
  flush(): void {
    const { out, port, hops } = this
    let done = 0
    while (done < out.count) {
      const end = port.send(out, hops.names, done)
      this.settle(done, end)
      done = end
    }
    out.clear()
    this.runs.clear()
  }

  /** Counts what became of some entries; refused runs get another try. */
  private settle(from: number, end: number): void {
    const { out, counters } = this
    let packets = 0
    let bytes = 0
    let runs = 0
    let runPackets = 0
    for (let i = from; i < end; i++) {
      const errno = out.result(i)
      const isRun = out.segment(i) > 0
      if (errno === 0) {
        packets += out.packets(i)
        bytes += out.bytes(i)
        if (isRun) runs++
        if (isRun) runPackets += out.packets(i)
      } else if (!isRun || !this.resend(i, errno)) {
        counters.add(EGRESS, sendVerdict(errno), out.packets(i), out.bytes(i))
      }
    }
    counters.add(EGRESS, FORWARD, packets, bytes)
    counters.gauge(RUNS_SENT, runs)
    counters.gauge(RUN_PACKETS, runPackets)
  }

  /** Sends a refused run packet by packet. @returns false when that would not help */
  private resend(run: number, errno: number): boolean {
    if (errno !== EMSGSIZE && !isOffloadRefused(errno)) return false
    const { out, again, counters } = this
    splitRun(out, run, again)
    this.port.send(again, this.hops.names)
    let taken = 0
    for (let i = 0; i < again.count; i++) {
      const result = again.result(i)
      if (result === 0) taken++
      counters.add(EGRESS, sendVerdict(result), again.packets(i), again.bytes(i))
    }
    counters.gauge(RUNS_RESENT, 1)
    this.blame(run, errno, taken > 0)
    return true
  }

  private blame(run: number, errno: number, isTakenPlainly: boolean): void {
    const { runs, counters } = this
    const hop = this.hops.named(this.out.name(run))
    if (!runs.isOn() || runs.isAvoided(hop)) return
    if (errno === EMSGSIZE || (errno === EINVAL && this.isTooLong(run))) {
      runs.avoid(hop)
      counters.gauge(RUNS_AVOIDED, 1)
    } else if (isTakenPlainly) {
      runs.disable()
      counters.gauge(RUNS_LOST, 1)
      this.onGivenUp('udp-segment', errno)
    }
  }

  /**
   * Whether a run's packets are longer than the path to the peer. Until Linux 6.14, and its stable
   * branches of early 2025, that is an EINVAL (udp_send_skb), the same as of a kernel that cannot
   * cut; and the packets alone say nothing, since the kernel may fragment them.
   */
  private isTooLong(run: number): boolean {
    const room = this.port.pathRoom(this.hops.names, this.out.name(run))
    return room > 0 && this.out.segment(run) > room
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

/** The kernel cannot do what an offload asks (EINVAL, EIO from a device without it, EOPNOTSUPP, ENOPROTOOPT). */
function isOffloadRefused(errno: number): boolean {
  return errno === EINVAL || errno === EIO || errno === EOPNOTSUPP || errno === ENOPROTOOPT
}

/** The verdict about a packet by what the socket said. */
function sendVerdict(errno: number): Verdict {
  switch (errno) {
    case 0:
      return FORWARD
    case EAGAIN:
    case ENOBUFS:
      return DROP_TX_BUSY
    case EMSGSIZE:
      return DROP_TOO_BIG
    case EPERM:
    case EACCES:
    case ENETDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
      return DROP_TX_UNREACHABLE
    default:
      return DROP_TX_ERROR
  }
}

/** The verdict about a packet by what the TUN device said. */
function writeVerdict(errno: number): Verdict {
  switch (errno) {
    case 0:
      return FORWARD
    case EAGAIN:
    case ENOBUFS:
      return DROP_TUN_BUSY
    default:
      return DROP_TUN_ERROR
  }
}
