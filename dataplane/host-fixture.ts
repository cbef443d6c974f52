/**
 * A host for the engine's tests: the real engine and table on devices in memory. Host A has the
 * subnet 10.5.1.0/24 and knows host B, which has 10.5.2.0/24; or the other way round. Test support,
 * used by no other code.
 */
import { addressBytes6, parseAddress4 } from './address.js'
import { Counters, COUNTERS_BYTES } from './counters.js'
import { createEncap } from './encap/choice.js'
import { createEngineArena, Engine } from './engine.js'
import { createFib, type Fib } from './fib/lpm-writer.js'
import { attachFibReader } from './fib/lpm.js'
import { createHopTable } from './fib/nexthop.js'
import { HostSet } from './host-set.js'
import type { IngressCheckOptions, OnRefused } from './ingress-check.js'
import type { Mac } from './mac.js'
import { createMemoryPair, type MemoryPair } from './io/memory.js'
import { native } from './native/native.js'
import { NO_OFFLOAD, type OffloadOptions, type OnGivenUp } from './offload/offload.js'
import { type Arena, createArena } from './packet/arena.js'
import * as ipv4 from './wire/ipv4.js'

/** Address bits of text that is an address. */
export function createAddress(text: string): number {
  const bits = parseAddress4(text)
  if (bits === null) throw new RangeError(text)
  return bits
}

export const MTU = 1472
export const PORT = 8285
export const SUBNET_A = createAddress('10.5.1.0')
export const SUBNET_B = createAddress('10.5.2.0')
/** fd05:0:1::/64 and fd05:0:2::/64. */
export const SUBNET6_A = Uint8Array.of(0xfd, 5, 0, 1, ...new Uint8Array(12))
export const SUBNET6_B = Uint8Array.of(0xfd, 5, 0, 2, ...new Uint8Array(12))
export const PUBLIC_A = createAddress('172.30.0.11')
export const PUBLIC_B = createAddress('172.30.0.12')
/** The hosts on an underlay of IPv6, 128 bits. */
export const PUBLIC6_A = 0xfd30_0000_0000_0000_0000_0000_0000_0011n
export const PUBLIC6_B = 0xfd30_0000_0000_0000_0000_0000_0000_0012n
export const MAC_A: Mac = { high: 0x0e00, low: 0x0000_000a }
export const MAC_B: Mac = { high: 0x0e00, low: 0x0000_000b }
export const VNI = 1

/** The encapsulations over UDP, which take IPv6 as well, and all that an engine may have. */
export const UDP_ENCAPS = ['udp', 'vxlan'] as const
export const ENCAPS = [...UDP_ENCAPS, 'ipip'] as const
export type UdpEncapName = (typeof UDP_ENCAPS)[number]
export type EncapName = (typeof ENCAPS)[number]

/** What host A, or host B, puts before an IPv4 packet for the other one. */
export function createPrefix(name: EncapName, fromB: boolean): Uint8Array {
  if (name === 'udp') return new Uint8Array(0)
  if (name === 'ipip') return createOuter(fromB)
  const [from, to] = fromB ? [0x0b, 0x0a] : [0x0a, 0x0b]
  const macs = [0x0e, 0, 0, 0, 0, to, 0x0e, 0, 0, 0, 0, from]
  return Uint8Array.from([8, 0, 0, 0, 0, 0, VNI, 0, ...macs, 8, 0])
}

/** An outer header of `ipip` as a raw socket hands it over, with a length that fits any packet of the tests. */
function createOuter(fromB: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(ipv4.HEADER_LEN))
  const [from, to] = fromB ? [PUBLIC_B, PUBLIC_A] : [PUBLIC_A, PUBLIC_B]
  ipv4.write(view, 0, ipv4.HEADER_LEN, 0, 0, 0, 64, ipv4.PROTO_IPIP, from, to)
  return new Uint8Array(view.buffer)
}

/** Everything that a new kernel can do for devices in memory. */
export const ALL_OFFLOADS: OffloadOptions = {
  hasVnet: true,
  maxRun: 128,
  canJoinTcp: true,
  canJoinUdp: true,
  hasTrains: true,
  hasRing: false,
}

/** Bytes of the arena behind everything that the engine was given. */
export const GUARD_BYTES = 4096

export interface TestHost extends MemoryPair {
  /** The engine's memory, and {@link GUARD_BYTES} behind it that nobody may touch. */
  readonly arena: Arena
  readonly fib: Fib
  readonly hosts: HostSet
  readonly engine: Engine
  readonly counters: Counters
  /** Lets time pass. */
  advance(ms: number): void
}

export interface TestHostOptions {
  /** Host B instead of host A. */
  readonly isB?: boolean
  readonly encap?: EncapName
  readonly offload?: OffloadOptions
  /** Default false; the routes for IPv6 are there all the same. */
  readonly hasIpv6?: boolean
  /** IP version of the underlay, default 4. */
  readonly outer?: 4 | 6
  readonly mtu?: number
  /** Packets that each device's queue holds. */
  readonly queueLen?: number
  readonly onGivenUp?: OnGivenUp
  /** Sockets that flows are spread over, default 1. */
  readonly sockets?: number
  /** Default: by leases. */
  readonly ingressCheck?: Partial<Pick<IngressCheckOptions, 'mode' | 'exceptions'>>
  readonly onRefused?: OnRefused
}

export function createTestHost(options: TestHostOptions = {}): TestHost {
  const {
    isB = false,
    encap: backend = 'udp',
    offload = NO_OFFLOAD,
    mtu = MTU,
    queueLen = 500,
  } = options
  const [own, other] = isB ? [SUBNET_B, SUBNET_A] : [SUBNET_A, SUBNET_B]
  const fib = createFib({ readers: 1, reserveBytes: 4 << 20, maxHops: 1 << 10 })
  const hops = createHopTable(fib.shared)
  const encap = createEncap({ kind: backend, vni: VNI, mac: isB ? MAC_B : MAC_A }, hops)
  const { bytes } = createEngineArena(mtu, encap, offload)
  const arena = createArena(new ArrayBuffer(bytes.length + GUARD_BYTES))
  const devices = createMemoryPair(arena, queueLen, offload.hasVnet, backend !== 'ipip')
  const counters = new Counters(new ArrayBuffer(COUNTERS_BYTES))
  fib.writer.insert4(own, 24, fib.hops.addLocal())
  const [public4, public6] = isB ? [PUBLIC_A, PUBLIC6_A] : [PUBLIC_B, PUBLIC6_B]
  const isOuter6 = options.outer === 6
  const outer = isOuter6 ? addressBytes6(public6) : public4
  const peer = fib.hops.addPeer(outer, backend === 'ipip' ? 0 : PORT, isB ? MAC_A : MAC_B)
  fib.writer.insert4(other, 24, peer)
  const [own6, other6] = isB ? [SUBNET6_B, SUBNET6_A] : [SUBNET6_A, SUBNET6_B]
  fib.writer.insert6(own6, 64, fib.hops.addLocal())
  fib.writer.insert6(other6, 64, peer)
  const hosts = new HostSet(1, 4 << 20)
  hosts.add(isOuter6 ? public6 : public4)
  const exceptions = options.ingressCheck?.exceptions ?? []
  for (const { from } of exceptions) hosts.add(from)
  let nowMs = 1000
  const engine = new Engine({
    arena,
    inside: devices.inside,
    outside: devices.outside,
    icmp: devices.raw,
    fib: attachFibReader(fib.shared, 0),
    hops,
    encap,
    hasIpv6: options.hasIpv6 ?? false,
    sockets: options.sockets ?? 1,
    ingressCheck: {
      mode: options.ingressCheck?.mode ?? 'leases',
      hosts: attachFibReader(hosts.shared, 0),
      exceptions,
    },
    offload,
    sums: native,
    counters,
    mtu,
    localAddress: own,
    icmp6: { port: devices.raw, source: own6 },
    ...(backend === 'vxlan' ? { vtep: { vni: VNI, mac: isB ? MAC_B : MAC_A, port: PORT } } : {}),
    now: () => nowMs,
    ...(options.onGivenUp === undefined ? {} : { onGivenUp: options.onGivenUp }),
    ...(options.onRefused === undefined ? {} : { onRefused: options.onRefused }),
  })
  return {
    ...devices,
    arena,
    fib,
    hosts,
    engine,
    counters,
    advance: (ms: number) => {
      nowMs += ms
    },
  }
}
