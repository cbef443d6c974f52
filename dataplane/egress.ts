/**
 * Egress: inside → outside. A packet that the kernel routed to the TUN device is checked, gets its
 * next hop from the FIB, loses one TTL if the backend says so, and is staged for the socket.
 *
 * The methods stand in the order in which a packet meets them. Nothing here allocates or throws;
 * what does not go on is counted under its verdict.
 */
import { EGRESS, type Counters } from './counters.js'
import type { Encap } from './encap/encap.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { IcmpErrors } from './icmp.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'
import {
  DROP_IPV6_UNSUPPORTED,
  DROP_LOOP,
  DROP_NO_ROUTE,
  DROP_NOT_IP,
  DROP_TTL,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'

export class Egress {
  private readonly fib: FibReader
  private readonly hops: HopTable
  private readonly encap: Encap
  private readonly icmp: IcmpErrors
  private readonly counters: Counters
  private hop = 0

  constructor(fib: FibReader, hops: HopTable, encap: Encap, icmp: IcmpErrors, counters: Counters) {
    this.fib = fib
    this.hops = hops
    this.encap = encap
    this.icmp = icmp
    this.counters = counters
  }

  /** Stages every packet of a batch that goes on. Borrows the packets until `out` was sent. */
  run(batch: Batch, out: Entries): void {
    const view = batch.arena.view
    for (let row = 0; row < batch.count; row++) {
      const at = batch.at(row)
      const len = batch.len(row)
      let verdict = this.classify(view, at, len)
      if (verdict === FORWARD) verdict = this.route(view, at)
      if (verdict === FORWARD) verdict = this.age(view, at)
      if (verdict === FORWARD) this.stage(view, at, out)
      else this.counters.add(EGRESS, verdict, 1, len)
    }
  }

  /** Is it a packet that this backend carries? The only check on the way out; later reads rely on it. */
  private classify(view: DataView, at: number, len: number): Verdict {
    if (len === 0) return DROP_NOT_IP
    const version = ipv4.version(view, at)
    if (version === 6) return DROP_IPV6_UNSUPPORTED
    return ipv4.check(view, at, len)
  }

  /** Where to? Leaves the next hop in `this.hop`. */
  private route(view: DataView, at: number): Verdict {
    const hop = this.fib.lookup4(ipv4.dst(view, at))
    this.hop = hop
    if (hop === 0) {
      this.icmp.about(DROP_NO_ROUTE, at)
      return DROP_NO_ROUTE
    }
    return this.hops.isLocal(hop) ? DROP_LOOP : FORWARD
  }

  /** flannel's proxy takes one TTL at each end; a packet whose last it would take ends here. */
  private age(view: DataView, at: number): Verdict {
    if (!this.encap.lowersTtl) return FORWARD
    if (ipv4.ttl(view, at) <= 1) return DROP_TTL
    ipv4.decrementTtl(view, at)
    return FORWARD
  }

  /** Encapsulates in the headroom and hands the packet to the socket's next send. */
  private stage(view: DataView, at: number, out: Entries): void {
    const len = ipv4.totalLen(view, at)
    const header = this.encap.headerLen
    this.encap.push(view, at, this.hop)
    out.add(at - header, len + header, this.hops.name(this.hop), len)
  }
}
