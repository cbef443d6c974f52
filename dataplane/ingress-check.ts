/**
 * Ingress check: may the host that sent a datagram speak for the source of the packet inside?
 *
 * An overlay without it lets any machine that reaches the port send as any pod. The leases already
 * say who may: a source inside a lease must come from that lease's host. What no lease covers, such
 * as a service in a host's own network or a routed site, is taken from any host that holds a lease,
 * and counted; or, when the check is strict, from nobody. Nothing is learned from packets, and a
 * refused one is never answered.
 *
 *     inner source in      from its host   from another leased host   from any other host
 *     a peer's lease       forward         drop_source_forged         drop_source_unknown
 *     our own lease        –               drop_source_forged         drop_source_unknown
 *     no lease             forward, or drop_source_outside if strict  drop_source_unknown
 *
 * An exception allows one more outer address to speak for a prefix: a host behind a NAT.
 */
import { SOURCES_OUTSIDE, type Counters } from './counters.js'
import type { FibReader } from './fib/fib.js'
import type { HopTable } from './fib/nexthop.js'
import type { Arena } from './packet/arena.js'
import type { Batch } from './packet/batch.js'
import {
  DROP_SOURCE_FORGED,
  DROP_SOURCE_OUTSIDE,
  DROP_SOURCE_UNKNOWN,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'
import * as ipv4 from './wire/ipv4.js'
import * as ipv6 from './wire/ipv6.js'

/** How much is checked. */
export const INGRESS_CHECKS = ['leases', 'strict', 'off'] as const
export type IngressCheckMode = (typeof INGRESS_CHECKS)[number]

/** An outer address that may speak for a prefix although its lease names another. IPv4 address bits. */
export interface SourceException {
  readonly addr: number
  readonly len: number
  readonly from: number
}

/** What a check goes by. */
export interface IngressCheckOptions {
  readonly mode: IngressCheckMode
  /** Outer addresses of all leased hosts and exceptions; any hop will do. */
  readonly hosts: FibReader
  readonly exceptions: readonly SourceException[]
}

/** A packet that was refused, for the log. */
export interface Refusal {
  readonly verdict: Verdict
  /** Outer source, IPv4 address bits. */
  readonly from: number
  /** Inner source: one word of address bits for IPv4, four for IPv6, most significant first. */
  readonly source: readonly number[]
}

/** Told of a refused packet now and then, never of each. */
export type OnRefused = (refusal: Refusal) => void

/** At most one refusal is told of in this time, ms. */
const QUIET_MS = 10_000

export interface IngressCheck {
  /** Sets the time, once a breath. The tables may have changed since the last. */
  tick(nowMs: number): void
  /** Takes up a row: what comes next was sent by one host. */
  take(batch: Batch, row: number): void
  /** Whether that host may send an IPv4 packet, which has passed `ipv4.check`. */
  verdict4(at: number): Verdict
  /** The same for an IPv6 packet, which has passed `ipv6.check`. */
  verdict6(at: number): Verdict
}

export interface IngressCheckParts {
  readonly arena: Arena
  readonly fib: FibReader
  readonly hops: HopTable
  readonly counters: Counters
  readonly options: IngressCheckOptions
  readonly onRefused: OnRefused
}

/** A closure and not a class, as ingress is, of which it is a part. */
export function createIngressCheck(parts: IngressCheckParts): IngressCheck {
  const { fib, hops, counters, onRefused } = parts
  const { mode, hosts } = parts.options
  const { view } = parts.arena
  const exceptions = parts.options.exceptions.map(({ addr, len, from }) => ({
    addr: addr | 0,
    mask: len === 0 ? 0 : -1 << (32 - len),
    from: from | 0,
  }))
  let quietUntil = 0
  let now = 0
  let host = 0
  /** Whether `found` is about `source` and `host`: neighbours share theirs. */
  let isFound = false
  let source = 0
  const source6 = new Int32Array(4)
  let isFound6 = false
  let found: Verdict = FORWARD
  let isOutside = false

  function tick(nowMs: number): void {
    now = nowMs
    forget()
  }

  function take(batch: Batch, row: number): void {
    const from = batch.source(row, 0)
    if (from === host) return
    host = from
    forget()
  }

  function forget(): void {
    isFound = false
    isFound6 = false
  }

  function verdict4(at: number): Verdict {
    if (mode === 'off') return FORWARD
    const src = ipv4.src(view, at)
    if (!isFound || src !== source) {
      judge(fib.lookup4(src), isExcepted(src))
      isFound = true
      isFound6 = false
      source = src
    }
    return answer()
  }

  function verdict6(at: number): Verdict {
    if (mode === 'off') return FORWARD
    if (!isFound6 || !isSource6(at)) {
      judge(fib.lookup6(view, at + ipv6.SRC_AT), false)
      isFound6 = true
      isFound = false
      for (let word = 0; word < 4; word++) source6[word] = ipv6.srcWord(view, at, word)
    }
    return answer()
  }

  function isSource6(at: number): boolean {
    // The last words differ most.
    return (
      ipv6.srcWord(view, at, 3) === source6[3] &&
      ipv6.srcWord(view, at, 2) === source6[2] &&
      ipv6.srcWord(view, at, 1) === source6[1] &&
      ipv6.srcWord(view, at, 0) === source6[0]
    )
  }

  function answer(): Verdict {
    if (isOutside) counters.gauge(SOURCES_OUTSIDE, 1)
    if (found !== FORWARD && now >= quietUntil) tell()
    return found
  }

  /** Leaves the verdict in `found`. @param hop  of the route back to the source */
  function judge(hop: number, isAllowed: boolean): void {
    isOutside = false
    if (isOwn(hop) || isAllowed) {
      found = FORWARD
    } else if (hosts.lookup4(host) === 0) {
      found = DROP_SOURCE_UNKNOWN
    } else if (hop !== 0) {
      found = DROP_SOURCE_FORGED
    } else {
      isOutside = mode !== 'strict'
      found = isOutside ? FORWARD : DROP_SOURCE_OUTSIDE
    }
  }

  /** Whether the hop is that of the host at hand. */
  function isOwn(hop: number): boolean {
    return hop !== 0 && hops.family(hop) === 4 && hops.addressWord(hop, 0) === host
  }

  function isExcepted(src: number): boolean {
    for (const { addr, mask, from } of exceptions) {
      if (from === host && (src & mask) === addr) return true
    }
    return false
  }

  function tell(): void {
    quietUntil = now + QUIET_MS
    onRefused({ verdict: found, from: host, source: isFound6 ? [...source6] : [source] })
  }

  return { tick, take, verdict4, verdict6 }
}

/** Every packet is taken from everybody. */
export const NO_INGRESS_CHECK: IngressCheckOptions = {
  mode: 'off',
  hosts: { enter: () => undefined, leave: () => undefined, lookup4: () => 0, lookup6: () => 0 },
  exceptions: [],
}
