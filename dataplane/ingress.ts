/**
 * Ingress: outside → inside. A datagram from the underlay is unwrapped, checked as bytes from the
 * network must be, aged, and staged for the TUN device.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws.
 */
import { INGRESS, type Counters } from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import {
  DROP_IPV4_CHECKSUM,
  DROP_IPV6_UNSUPPORTED,
  DROP_NOT_IP,
  DROP_NOT_OUR_SUBNET,
  DROP_OVERSIZE,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'

/** Name of an entry that has no destination: the TUN device. */
const NO_NAME = -1

export class Ingress {
  private readonly fib: FibReader
  private readonly hops: HopTable
  private readonly encap: Encap
  private readonly counters: Counters
  private readonly mtu: number

  /** @param mtu  MTU of the TUN device; longer inner packets are dropped */
  constructor(fib: FibReader, hops: HopTable, encap: Encap, mtu: number, counters: Counters) {
    this.fib = fib
    this.hops = hops
    this.encap = encap
    this.mtu = mtu
    this.counters = counters
  }

  /** Stages every packet of a batch that goes on. Borrows the packets until `out` was written. */
  run(batch: Batch, out: Entries): void {
    const view = batch.arena.view
    const header = this.encap.headerLen
    for (let row = 0; row < batch.count; row++) {
      const at = batch.at(row) + header
      const len = batch.len(row) - header
      let verdict = this.unwrap(batch, row)
      if (verdict === FORWARD) verdict = this.classify(view, at, len)
      if (verdict === FORWARD) verdict = this.admit(view, at)
      if (verdict === FORWARD) verdict = this.age(view, at)
      if (verdict === FORWARD) {
        const total = ipv4.totalLen(view, at)
        out.add(at, total, NO_NAME, total)
      } else {
        this.counters.add(INGRESS, verdict, 1, Math.max(len, 0))
      }
    }
  }

  /** Did the datagram arrive whole, and is the header before the inner packet right? */
  private unwrap(batch: Batch, row: number): Verdict {
    if (batch.isTruncated(row)) return DROP_OVERSIZE
    return this.encap.pull(batch.arena.view, batch.at(row), batch.len(row))
  }

  /** Is it an IPv4 packet, as long as it says, no longer than our MTU, with a right header checksum? */
  private classify(view: DataView, at: number, len: number): Verdict {
    if (len <= 0) return DROP_NOT_IP
    if (ipv4.version(view, at) === 6) return DROP_IPV6_UNSUPPORTED
    const verdict = ipv4.check(view, at, len)
    if (verdict !== FORWARD) return verdict
    if (ipv4.totalLen(view, at) > this.mtu) return DROP_OVERSIZE
    return ipv4.isChecksumRight(view, at) ? FORWARD : DROP_IPV4_CHECKSUM
  }

  /** Is it for us? Anything else would be routed on by this host's kernel on a stranger's behalf. */
  private admit(view: DataView, at: number): Verdict {
    const hop = this.fib.lookup4(ipv4.dst(view, at))
    return hop !== 0 && this.hops.isLocal(hop) ? FORWARD : DROP_NOT_OUR_SUBNET
  }

  /** The receiving end takes its TTL too. */
  private age(view: DataView, at: number): Verdict {
    if (!this.encap.lowersTtl) return FORWARD
    if (ipv4.ttl(view, at) <= 1) return DROP_TTL
    ipv4.decrementTtl(view, at)
    return FORWARD
  }
}
