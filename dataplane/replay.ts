/**
 * Replay: single packets through the real engine, each with its fate.
 *
 * The engine runs on devices in memory with one packet per breath, so the verdict of a packet is
 * the one counter that moved. Time is what the caller says it is, normally the capture's: the rate
 * limit on ICMP errors then behaves as it would have on the day.
 */
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
import { createMemoryPair, type MemoryPair, type SentDatagram } from './io/memory.js'
import { VERDICT_COUNT, verdictName } from './packet/verdict.js'

/** An IPv4 prefix and the host its packets go to. */
export interface ReplayRoute {
  /** uint32, host order, host bits zero. */
  readonly addr: number
  /** 0..32 */
  readonly len: number
  /** IPv4 address bits of the host, uint32 or int32. */
  readonly peer: number
  /** UDP port of the host, 1..65535. */
  readonly port: number
  /** MAC address of its VTEP, where the encapsulation has them. */
  readonly mac?: Mac
}

export interface ReplayOptions {
  /** The own subnet, as uint32 and length. */
  readonly subnet: { readonly addr: number; readonly len: number }
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
  private readonly counters = new Counters(new ArrayBuffer(COUNTERS_BYTES))
  private readonly engine: Engine
  private nowMs = 0

  /** @throws RangeError for a prefix, port or MTU out of range */
  constructor(options: ReplayOptions) {
    const { subnet, routes, mtu, port, encap: choice = { kind: 'udp' } } = options
    const fib = createFib({ readers: 1, reserveBytes: RESERVE_BYTES, maxHops: MAX_HOPS })
    const hosts = new HostSet(1)
    for (const route of routes) {
      hosts.add(route.peer)
      const hop = fib.hops.addPeer(route.peer, route.port, route.mac)
      fib.writer.insert4(route.addr, route.len, hop)
    }
    fib.writer.insert4(subnet.addr, subnet.len, fib.hops.addLocal())
    const hops = createHopTable(fib.shared)
    const encap = createEncap(choice, hops)
    const arena = createEngineArena(mtu, encap, NO_OFFLOAD)
    this.devices = createMemoryPair(arena)
    this.engine = new Engine({
      arena,
      inside: this.devices.inside,
      outside: this.devices.outside,
      icmp: this.devices.raw,
      fib: attachFibReader(fib.shared, 0),
      hops,
      encap,
      ...(choice.kind === 'vxlan' ? { vtep: { ...choice, port } } : {}),
      hasIpv6: false,
      ingressCheck: {
        mode: options.ingressCheck ?? 'off',
        hosts: attachFibReader(hosts.shared, 0),
        exceptions: [],
      },
      offload: NO_OFFLOAD,
      sums: createPlainSums(),
      counters: this.counters,
      mtu,
      localAddress: subnet.addr | 0,
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
      icmp: this.devices.raw.drain(),
    }
  }

  private packets(direction: number): number[] {
    return Array.from({ length: VERDICT_COUNT }, (_, v) => this.counters.packets(direction, v))
  }
}
