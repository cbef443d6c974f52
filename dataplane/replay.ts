/**
 * Replay: single packets through the real engine, each with its fate.
 *
 * The engine runs on devices in memory with one packet per breath, so the verdict of a packet is
 * the one counter that moved. Time is what the caller says it is, normally the capture's: the rate
 * limit on ICMP errors then behaves as it would have on the day.
 */
import { addressBytes6 } from './address.js'
import { Counters, COUNTERS_BYTES, describeCounters, EGRESS, INGRESS } from './counters.js'
import type { CountersReport } from './counters.js'
import { createEncap, type EncapChoice } from './encap/choice.js'
import { createEngineArena, Engine } from './engine.js'
import { createFib } from './fib/lpm-writer.js'
import { attachFibReader } from './fib/lpm.js'
import { createHopTable } from './fib/nexthop.js'
import type { Endpoint } from './io/endpoint.js'
import { NO_OFFLOAD } from './offload/offload.js'
import { createPlainSums } from './offload/sums.js'
import { HostSet } from './host-set.js'
import type { IngressCheckMode } from './ingress-check.js'
import type { Mac } from './mac.js'
import { createMemoryPair, MemoryRaw, type MemoryPair, type SentDatagram } from './io/memory.js'
import type { RoutePrefix } from './route-table.js'
import { VERDICT_COUNT, verdictName } from './packet/verdict.js'

/** A prefix and the host its packets go to. */
export type ReplayRoute = RoutePrefix & {
  /** Outer address of the host: IPv4 address bits, uint32 or int32, or the 128 bits of IPv6. */
  readonly peer: number | bigint
  /** UDP port of the host, 1..65535; 0 where the encapsulation has none. */
  readonly port: number
  /** MAC address of its VTEP, where the encapsulation has them. */
  readonly mac?: Mac
}

export interface ReplayOptions {
  /** The own IPv4 subnet, as uint32 and length; null = none. */
  readonly subnet: { readonly addr: number; readonly len: number } | null
  /** The own IPv6 subnet, as 128 bits and length; default none, and then there is no IPv6. */
  readonly subnet6?: { readonly addr: bigint; readonly len: number } | null
  readonly routes: readonly ReplayRoute[]
  /** MTU of the TUN device, bytes. */
  readonly mtu: number
  /** How much the sources of packets from outside are checked, by the routes' peers; default `off`. */
  readonly ingressCheck?: IngressCheckMode
  /** Default: flannel's `udp`. */
  readonly encap?: EncapChoice
  /** UDP port at which the hosts listen: where answers to ARP go. */
  readonly port: number
}

/** What became of one packet. */
export interface Fate {
  readonly direction: 'egress' | 'ingress'
  /** Name of the verdict. */
  readonly verdict: string
  /** Packets written to the TUN device. */
  readonly delivered: readonly Uint8Array[]
  /** Datagrams sent to peers. */
  readonly sent: readonly SentDatagram[]
  /** ICMP errors sent to the sender: whole IP packets. */
  readonly icmp: readonly SentDatagram[]
}

/** Hops kept per table; a replay's tables are small, and every hop index costs 64 bytes. */
const MAX_HOPS = 1 << 16
/** Address space reserved for the table's nodes. */
const RESERVE_BYTES = 64 << 20

export class Replay {
  private readonly devices: MemoryPair
  /** Where ICMPv6 errors go. */
  private readonly raw6: MemoryRaw
  private readonly counters = new Counters(new ArrayBuffer(COUNTERS_BYTES))
  private readonly engine: Engine
  private nowMs = 0

  /** @throws RangeError for a prefix, port or MTU out of range */
  constructor(options: ReplayOptions) {
    const { subnet, subnet6 = null, routes, mtu, port } = options
    const choice = options.encap ?? { kind: 'udp' }
    const fib = createFib({ readers: 1, reserveBytes: RESERVE_BYTES, maxHops: MAX_HOPS })
    const insert = ({ addr, len }: RoutePrefix, hop: number): void => {
      if (typeof addr === 'number') fib.writer.insert4(addr, len, hop)
      else fib.writer.insert6(addressBytes6(addr), len, hop)
    }
    const hosts = new HostSet(1)
    for (const route of routes) {
      const { peer } = route
      hosts.add(peer)
      const outer = typeof peer === 'number' ? peer : addressBytes6(peer)
      insert(route, fib.hops.addPeer(outer, route.port, route.mac))
    }
    const local = fib.hops.addLocal()
    if (subnet !== null) insert(subnet, local)
    if (subnet6 !== null) insert(subnet6, local)
    const hops = createHopTable(fib.shared)
    const encap = createEncap(choice, hops)
    const arena = createEngineArena(mtu, encap, NO_OFFLOAD)
    const hasPorts = choice.kind !== 'ipip'
    this.devices = createMemoryPair(arena, undefined, false, hasPorts)
    this.raw6 = new MemoryRaw(arena)
    this.engine = new Engine({
      arena,
      inside: this.devices.inside,
      outside: this.devices.outside,
      icmp: this.devices.raw,
      ...(subnet6 === null
        ? {}
        : { icmp6: { port: this.raw6, source: addressBytes6(subnet6.addr) } }),
      fib: attachFibReader(fib.shared, 0),
      hops,
      encap,
      ...(choice.kind === 'vxlan' ? { vtep: { ...choice, port } } : {}),
      hasIpv6: subnet6 !== null,
      ingressCheck: {
        mode: options.ingressCheck ?? 'off',
        hosts: attachFibReader(hosts.shared, 0),
        exceptions: [],
      },
      offload: NO_OFFLOAD,
      sums: createPlainSums(),
      counters: this.counters,
      mtu,
      localAddress: subnet === null ? null : subnet.addr | 0,
      now: () => this.nowMs,
    })
  }

  /**
   * A packet that the local kernel routes to the TUN device.
   * @param nowMs  time of day, ms; should not go back
   */
  egress(packet: Uint8Array, nowMs: number): Fate {
    this.devices.inside.inject(packet)
    return this.breathe(EGRESS, nowMs)
  }

  /** A datagram that arrives at the socket. */
  ingress(datagram: Uint8Array, from: Endpoint, nowMs: number): Fate {
    this.devices.outside.inject(datagram, from)
    return this.breathe(INGRESS, nowMs)
  }

  /** The engine's counters since the start. */
  report(): CountersReport {
    return describeCounters([this.counters])
  }

  private breathe(direction: number, nowMs: number): Fate {
    this.nowMs = nowMs
    const before = this.packets(direction)
    this.engine.breath()
    const verdict = this.packets(direction).findIndex((packets, v) => packets !== before[v])
    return {
      direction: direction === EGRESS ? 'egress' : 'ingress',
      verdict: verdictName(verdict),
      delivered: this.devices.inside.drain(),
      sent: this.devices.outside.drain(),
      icmp: [...this.devices.raw.drain(), ...this.raw6.drain()],
    }
  }

  private packets(direction: number): number[] {
    return Array.from({ length: VERDICT_COUNT }, (_, v) => this.counters.packets(direction, v))
  }
}
