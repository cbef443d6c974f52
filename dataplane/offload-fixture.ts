/**
 * What the tests of the engine with offloads share: a host that has them all, packets and trains for
 * it, and what it made of them. Test support, used by no other code.
 */
import { describeCounters } from './counters.js'
import * as flow from './flow-fixture.js'
import { HOST_A, HOST_B } from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createTestHost,
  PORT,
  PUBLIC_B,
  type TestHost,
  type TestHostOptions,
} from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import type { OffloadOptions } from './offload/offload.js'

export const OUT = { from: HOST_A, to: HOST_B }
export const IN = { from: HOST_B, to: HOST_A }
export const PEER = endpoint4(PUBLIC_B, PORT)

export const create = (options: TestHostOptions = {}): TestHost =>
  createTestHost({ offload: ALL_OFFLOADS, queueLen: 100_000, ...options })

export const hexes = (packets: readonly Uint8Array[]): string[] =>
  packets.map((packet) => Buffer.from(packet).toString('hex'))

export const breathe = (host: TestHost): void => {
  while (host.engine.breath() > 0);
}

/** Verdicts that are not 0. @throws an error when they are not all that was read */
export function counted(host: TestHost): Record<string, number> {
  const report = describeCounters([host.counters])
  const all: Record<string, number> = {}
  for (const direction of ['egress', 'ingress'] as const) {
    let sum = 0
    for (const [name, { packets }] of Object.entries(report[direction].verdicts)) {
      if (packets > 0) all[`${direction} ${name}`] = packets
      sum += packets
    }
    if (sum !== report[direction].read) throw new Error(`${direction}: ${sum} counted`)
  }
  return all
}

/** A packet one TTL lower. */
export const aged = (spec: flow.PacketSpec): Uint8Array => flow.createPacket({ ...spec, ttl: 62 })

/** Injects a super-packet as the kernel would. */
export function injectSuper(
  host: TestHost,
  spec: flow.PacketSpec,
  size: number,
  extraType = 0,
): Uint8Array {
  const packet = flow.createUnfinished(flow.createPacket(spec))
  host.inside.inject(packet, flow.createVnet(packet, size, extraType))
  return packet
}

/** Datagrams of one flow, each the inner packet as it is. */
export function segmentsIn(count: number, size: number, spec: flow.PacketSpec = {}): Uint8Array[] {
  const payload = flow.createPayload(count * size, size)
  return flow.createSegments(flow.createPacket({ ...IN, ...spec, payload }), size)
}

export const train = (packets: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(Buffer.concat(packets))

/** The packets that the kernel makes of what the host wrote to its device. */
export const delivered = (host: TestHost): Uint8Array[] =>
  host.inside.drainWithHeaders().flatMap(({ vnet, packet }) => flow.createWritten(vnet, packet))

/** Packets one TTL lower, as text. */
export const older = (packets: readonly Uint8Array[]): string[] =>
  packets.map(toOlder).map(flow.describeBytes)

/** One TTL lower: the TTL's word is 0100 less, so the checksum is 0100 more (RFC 1624). */
function toOlder(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  copy[8] = (copy[8] ?? 0) - 1
  copy.set([0, 0], 10)
  const sum = 0xffff - flow.slowSum(Array.from(copy.subarray(0, ((copy[0] ?? 0) & 15) * 4)))
  copy.set([sum >> 8, sum & 0xff], 10)
  return copy
}

/** Which offloads hosts may have: all, or some of them as on older kernels. */
export const KERNELS: readonly OffloadOptions[] = [
  ALL_OFFLOADS,
  { ...ALL_OFFLOADS, canJoinUdp: false, maxRun: 64 },
  { ...ALL_OFFLOADS, maxRun: 1, hasTrains: false },
  { ...ALL_OFFLOADS, canJoinTcp: false, canJoinUdp: false },
]

/** Datagrams as a socket hands them over, merged by UDP GRO or alone. */
export interface Train {
  readonly bytes: Uint8Array
  /** Bytes of each, 0 = one alone. */
  readonly segment: number
}
export const alone = (bytes: Uint8Array): Train => ({ bytes, segment: 0 })

/** Merges neighbours as UDP GRO does: equal sizes, a shorter one last, 64 at most, and here and there fewer. */
export function mergeTrains(datagrams: readonly Uint8Array[], cuts: readonly number[]): Train[] {
  const trains: Uint8Array[][] = []
  let isOpen = false
  for (const [n, datagram] of datagrams.entries()) {
    const last = trains.at(-1)
    const size = last?.[0]?.length ?? 0
    const fits: boolean =
      isOpen &&
      last !== undefined &&
      datagram.length <= size &&
      datagram.length > 0 &&
      last.length < 64 &&
      (last.length + 1) * size < 65507 &&
      !cuts.includes(n)
    if (fits) last?.push(datagram)
    else trains.push([datagram])
    isOpen = !fits || datagram.length === size
  }
  return trains.map((parts) => ({
    bytes: new Uint8Array(Buffer.concat(parts)),
    segment: parts.length > 1 ? (parts[0]?.length ?? 0) : 0,
  }))
}
