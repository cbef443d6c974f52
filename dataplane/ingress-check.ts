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
import { addressWords, mask4 } from './address.js'
import { SOURCES_OUTSIDE, type Counters } from './counters.js'
import type { FibReader } from './fib/fib.js'
import { writeName, type HopTable } from './fib/nexthop.js'
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

/**
 * An outer address that may speak for a prefix although its lease names another. IPv4 addresses are
 * their bits, IPv6 addresses 128 bits.
 */
export interface SourceException {
  readonly addr: number | bigint
  readonly len: number
  readonly from: number | bigint
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
  /** Outer source: one word of address bits for IPv4, four for IPv6, most significant first. */
  readonly from: readonly number[]
  /** Inner source, likewise. */
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
  /** Whether that host holds any lease, whatever the mode. */
  isHostKnown(): boolean
  /** Writes that host's name, see fib/nexthop.ts. @param port  to be sent to there */
  writeHost(names: Uint8Array, at: number, port: number): void
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
    addr: addressWords(addr),
    masks: [0, 32, 64, 96].map((before) => mask4(Math.min(32, Math.max(0, len - before)))),
    from: addressWords(from),
  }))
  let quietUntil = 0
  let now = 0
  /** The sender at hand: its family, its address in words, and as bytes for lookups. */
  let family = 0
  const host = new Int32Array(4)
  const hostBytes = new DataView(new ArrayBuffer(16))
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
    if (isHost(batch, row)) return
    family = batch.family(row)
    for (let word = 0; word < 4; word++) {
      host[word] = batch.source(row, word)
      hostBytes.setInt32(4 * word, batch.source(row, word))
    }
    forget()
  }

  function isHost(batch: Batch, row: number): boolean {
    return (
      batch.source(row, 0) === host[0] &&
      batch.family(row) === family &&
      (family === 4 ||
        (batch.source(row, 3) === host[3] &&
          batch.source(row, 2) === host[2] &&
          batch.source(row, 1) === host[1]))
    )
  }

  function forget(): void {
    isFound = false
    isFound6 = false
  }

  function verdict4(at: number): Verdict {
    if (mode === 'off') return FORWARD
    const src = ipv4.src(view, at)
    if (!isFound || src !== source) {
      source = src
      judge(fib.lookup4(src), exceptions.length > 0 && isExcepted(at + ipv4.SRC_AT, 1))
      isFound = true
      isFound6 = false
    }
    return answer()
  }

  function verdict6(at: number): Verdict {
    if (mode === 'off') return FORWARD
    if (!isFound6 || !isSource6(at)) {
      judge(
        fib.lookup6(view, at + ipv6.SRC_AT),
        exceptions.length > 0 && isExcepted(at + ipv6.SRC_AT, 4),
      )
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
    } else if (!isHostKnown()) {
      found = DROP_SOURCE_UNKNOWN
    } else if (hop !== 0) {
      found = DROP_SOURCE_FORGED
    } else {
      isOutside = mode !== 'strict'
      found = isOutside ? FORWARD : DROP_SOURCE_OUTSIDE
    }
  }

  function isHostKnown(): boolean {
    return (family === 4 ? hosts.lookup4(host[0] ?? 0) : hosts.lookup6(hostBytes, 0)) !== 0
  }

  /** Whether the hop is that of the host at hand. */
  function isOwn(hop: number): boolean {
    if (hop === 0 || hops.family(hop) !== family) return false
    for (let word = family === 4 ? 0 : 3; word >= 0; word--) {
      if (hops.addressWord(hop, word) !== host[word]) return false
    }
    return true
  }

  /** @param at  where the source address of so many words stands */
  function isExcepted(at: number, words: number): boolean {
    for (const { addr, masks, from } of exceptions) {
      if (addr.length === words && isWithin(at, addr, masks) && isFrom(from)) return true
    }
    return false
  }

  function isWithin(at: number, addr: readonly number[], masks: readonly number[]): boolean {
    for (let word = 0; word < addr.length; word++) {
      if ((view.getInt32(at + 4 * word) & (masks[word] ?? 0)) !== addr[word]) return false
    }
    return true
  }

  function isFrom(from: readonly number[]): boolean {
    if (from.length !== (family === 4 ? 1 : 4)) return false
    for (let word = 0; word < from.length; word++) if (from[word] !== host[word]) return false
    return true
  }

  function tell(): void {
    quietUntil = now + QUIET_MS
    onRefused({
      verdict: found,
      from: family === 4 ? [host[0] ?? 0] : [...host],
      source: isFound6 ? [...source6] : [source],
    })
  }

  function writeHost(names: Uint8Array, at: number, port: number): void {
    writeName(names, at, family, host[0] ?? 0, host[1] ?? 0, host[2] ?? 0, host[3] ?? 0, port)
  }

  return { tick, take, verdict4, verdict6, isHostKnown, writeHost }
}

/** Every packet is taken from everybody. */
export const NO_INGRESS_CHECK: IngressCheckOptions = {
  mode: 'off',
  hosts: { enter: () => undefined, leave: () => undefined, lookup4: () => 0, lookup6: () => 0 },
  exceptions: [],
}
