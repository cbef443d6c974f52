/**
 * Twins: the engine with offloads and the plain engine must give the same inner packets, per flow and
 * in the same order, for the same traffic. Random traffic and recorded one; a failure prints the seed.
 *
 * The plain engine sees what the slow segmenter of flow-fixture.ts makes of each super-packet; what
 * the engine with offloads delivers is cut by it likewise.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { describeCounters, DIRECTIONS } from './counters.js'
import * as flow from './flow-fixture.js'
import {
  ACK,
  CWR,
  DF,
  ECE,
  FIN,
  HOST_A,
  HOST_A6,
  HOST_B,
  HOST_B6,
  PSH,
  UDP,
  URG,
} from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createPrefix,
  createTestHost,
  type EncapName,
  ENCAPS,
  MTU,
  PORT,
  PUBLIC_A,
  type TestHost,
} from './host-fixture.js'
import { datagramOf, packetOf } from './io/capture-frame.js'
import { endpoint4 } from './io/endpoint.js'
import { loadPcap } from './io/pcap.js'
import { alone, KERNELS, mergeTrains } from './offload-fixture.js'
import type { OffloadOptions } from './offload/offload.js'
import { createRootPath } from './wire/packet-fixture.js'
import { VXLAN_PORT } from './encap/vxlan.js'

t.setTimeout(120_000)

const QUEUE = 100_000
const FROM_A = endpoint4(PUBLIC_A, PORT)

/** What the kernel of host A hands over: a packet, or a super-packet with its segment size. */
interface Given {
  readonly packet: Uint8Array
  readonly size: number
}

const breathe = (host: TestHost): void => {
  while (host.engine.breath() > 0);
}

/** What host A sends when its kernel hands over these, whole or cut beforehand. */
function sendFromA(given: readonly Given[], encap: EncapName, offload?: OffloadOptions) {
  const host = createTestHost({
    encap,
    hasIpv6: encap !== 'ipip',
    queueLen: QUEUE,
    ...(offload === undefined ? {} : { offload }),
  })
  for (const { packet, size } of given) {
    // Dropped in one piece by one twin, and segment by segment by the other.
    if (encap === 'ipip' && (packet[0] ?? 0) >> 4 === 6) continue
    const pieces = size === 0 ? [packet] : flow.createSegments(packet, size)
    if (offload === undefined) for (const piece of pieces) host.inside.inject(piece)
    else if (size === 0) host.inside.inject(packet)
    else host.inside.inject(flow.createUnfinished(packet), flow.createVnet(packet, size))
  }
  breathe(host)
  return {
    datagrams: host.outside.drain().map(({ bytes }) => bytes),
    icmp: host.raw.drain().map(({ bytes }) => Buffer.from(bytes).toString('hex')),
    host,
  }
}

/** What a host delivers of datagrams, merged into trains or not. */
function deliver(
  datagrams: readonly Uint8Array[],
  isB: boolean,
  encap: EncapName,
  offload?: OffloadOptions,
  cuts: readonly number[] = [],
) {
  const host = createTestHost({
    encap,
    isB,
    hasIpv6: encap !== 'ipip',
    queueLen: QUEUE,
    ...(offload === undefined ? {} : { offload }),
  })
  const trains =
    offload?.hasTrains === true && encap !== 'ipip'
      ? mergeTrains(datagrams, cuts)
      : datagrams.map(alone)
  for (const { bytes, segment } of trains) host.outside.inject(bytes, FROM_A, segment)
  breathe(host)
  const written = host.inside.drainWithHeaders()
  return {
    packets: written.flatMap(({ vnet, packet }) => flow.createWritten(vnet, packet)),
    written: written.length,
    host,
  }
}

/** Verdicts of both directions; both engines must have counted the same. */
function verdicts(host: TestHost): string {
  const report = describeCounters([host.counters])
  for (const direction of DIRECTIONS) {
    const sum = Object.values(report[direction].verdicts).reduce((n, { packets }) => n + packets, 0)
    if (sum !== report[direction].read) throw new Error(`${direction}: ${sum} counted`)
  }
  return JSON.stringify(
    DIRECTIONS.map((direction) =>
      Object.entries(report[direction].verdicts).map(([name, { packets }]) => [name, packets]),
    ),
  )
}

const flows = (packets: readonly Uint8Array[]): string =>
  JSON.stringify(flow.describeFlows(packets))
const bytes = (packets: readonly Uint8Array[]): string =>
  JSON.stringify(packets.map((packet) => Buffer.from(packet).toString('hex')))

/** Throws where the twins differ. Super-packets must all be carried: dropped ones count otherwise. */
function compare(
  given: readonly Given[],
  encap: EncapName,
  offload: OffloadOptions,
  cuts: readonly number[],
): void {
  const plainA = sendFromA(given, encap)
  const fastA = sendFromA(given, encap, offload)
  if (bytes(fastA.datagrams) !== bytes(plainA.datagrams)) throw new Error('host A sent other bytes')
  if (verdicts(fastA.host) !== verdicts(plainA.host)) throw new Error('host A counted otherwise')
  compareDelivery(plainA.datagrams, encap, offload, cuts)
}

function compareDelivery(
  datagrams: readonly Uint8Array[],
  encap: EncapName,
  offload: OffloadOptions,
  cuts: readonly number[],
  isB = true,
): number {
  const plain = deliver(datagrams, isB, encap)
  const fast = deliver(datagrams, isB, encap, offload, cuts)
  if (flows(fast.packets) !== flows(plain.packets)) throw new Error('delivered otherwise')
  if (verdicts(fast.host) !== verdicts(plain.host)) throw new Error('counted otherwise')
  return fast.written
}

const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const SACK = [1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 8]

/** A hop-by-hop header before TCP: a PadN option of 4 bytes (RFC 8200 §4.2). */
const PADDED = { nextHeader: 0, options: [6, 0, 1, 4, 0, 0, 0, 0] }
const IPV6 = { from: HOST_A6, to: HOST_B6, fragment: 0x12345 }

/** Ten flows, each with habits of its own. */
const habits: readonly flow.PacketSpec[] = [
  { ports: [1001, 80] },
  { ports: [1002, 80], tcpOptions: TIMESTAMPS, fragment: 0, tos: 2 },
  { ports: [1003, 53], protocol: UDP },
  { ports: [1004, 53], protocol: UDP, fragment: 0, id: 0xfff0 },
  { ports: [1001, 80], protocol: UDP },
  { ports: [1005, 80], options: [148, 4, 0, 0], seq: 0xffff_f000 },
  { ...IPV6, ports: [1001, 80] },
  { ...IPV6, ports: [1002, 80], tcpOptions: TIMESTAMPS, tos: 2 },
  { ...IPV6, ports: [1003, 53], protocol: UDP },
  { ...IPV6, ...PADDED, ports: [1004, 80] },
]

/** What happens on a flow: mostly data, in packets of one or of many segments. */
const step = fc.record({
  flow: fc.nat(habits.length - 1),
  size: fc.constantFrom(1, 7, 100, 100, 576, 1400, 1400, 1400),
  len: fc.oneof(fc.nat(1400), fc.nat(20_000), fc.constantFrom(0, 1, 1400, 2800, 14_000, 60_000)),
  odd: fc.oneof(
    { weight: 8, arbitrary: fc.constant<flow.PacketSpec>({}) },
    {
      weight: 4,
      arbitrary: fc.constantFrom<flow.PacketSpec>(
        { flags: ACK | PSH },
        { flags: ACK | FIN | PSH },
        { flags: ACK | CWR | ECE },
        { flags: ACK | ECE },
        { flags: ACK | URG, urgent: 3 },
        { tos: 3 },
        { ttl: 2 },
        { ttl: 3 },
        { window: 77 },
        { ack: 5 },
        { tcpOptions: SACK },
        { isUnsummed: true },
        { fragment: DF | 0x8000 },
      ),
    },
  ),
  /** Which byte of a single packet is damaged on the way, if any. */
  damage: fc.option(fc.nat(1500), { freq: 8 }),
})
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

function createTraffic(steps: readonly Step[]): Given[] {
  const seq = habits.map((habit) => habit.seq ?? 1000)
  const id = habits.map((habit) => habit.id ?? 1)
  return steps.map(({ flow: n, size, len, odd, damage }) => {
    const habit = habits[n] ?? {}
    // At most what a super-packet of its size can be, and a single one what the MTU lets through.
    const isSuper = len > size && odd.isUnsummed !== true && len / size < 300
    const payload = flow.createPayload(isSuper ? len : Math.min(len, 1400), seq[n])
    const spec = { from: HOST_A, to: HOST_B, ...habit, ...odd, seq: seq[n]!, id: id[n]!, payload }
    seq[n] = (seq[n]! + payload.length) >>> 0
    id[n] = (id[n]! + (isSuper ? Math.ceil(len / size) : 1)) & 0xffff
    const packet = flow.createPacket(spec)
    // The header's own checksum is not verified on the way out, and the first bytes make it a packet.
    if (!isSuper && damage !== null && damage >= headerLen(packet) && damage < packet.length) {
      packet[damage] = (packet[damage] ?? 0) ^ 0x10
    }
    return { packet, size: isSuper ? size : 0 }
  })
}

/** Of the IP header, whose addresses must stay. */
const headerLen = (packet: Uint8Array): number => ((packet[0] ?? 0) >> 4 === 6 ? 40 : 20)

t.test('random traffic', async (t) => {
  const params = fc.sample(fc.integer(), 1)
  const seed = Number(process.env['FC_SEED'] ?? params[0])
  t.comment(`FC_SEED=${seed}`)
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 60 }),
      fc.constantFrom(...ENCAPS),
      fc.constantFrom(...KERNELS),
      fc.array(fc.nat(200), { maxLength: 10 }),
      (steps, encap, offload, cuts) => {
        compare(createTraffic(steps), encap, offload, cuts)
      },
    ),
    { seed, numRuns: 160 },
  )
})

for (const [family, first, count] of [
  ['IPv4', 0, 4],
  ['IPv6', 6, 3],
] as const) {
  t.test(`bulk flows of ${family}, interleaved`, async (t) => {
    const steps = Array.from({ length: 64 }, (_, n): Step => ({
      flow: first + (n % count),
      size: 1400,
      len: 14_000 + n,
      odd: n % 9 === 8 ? { flags: ACK | PSH } : {},
      damage: null,
    }))
    for (const encap of ENCAPS) {
      for (const offload of KERNELS) compare(createTraffic(steps), encap, offload, [])
      if (encap === 'ipip' && family === 'IPv6') continue
      const { datagrams } = sendFromA(createTraffic(steps), encap)
      const written = compareDelivery(datagrams, encap, ALL_OFFLOADS, [])
      t.ok(written < datagrams.length / 5, `${encap}: ${written} writes of ${datagrams.length}`)
    }
  })
}

/** VXLAN and inner Ethernet header. Source: RFC 7348 §5 */
const VXLAN_HEADERS = 22

/** All IP packets of a capture whose outer headers, if any, are taken off. */
async function recorded(path: string, isOuter: boolean): Promise<Uint8Array[]> {
  if (!existsSync(path)) return []
  const { header, records } = await loadPcap(path)
  return [...records].flatMap(({ bytes }) => {
    const packet = packetOf(header.linkType, bytes)
    if ('reason' in packet) return []
    if (!isOuter) return [packet.found]
    const datagram = datagramOf(packet.found, PORT, VXLAN_PORT)
    if ('reason' in datagram) return []
    const { payload, to } = datagram.found
    return [to.port === VXLAN_PORT ? payload.subarray(VXLAN_HEADERS) : payload]
  })
}

/** Inner packets as the other host's datagrams. */
function wrapped(packets: readonly Uint8Array[], encap: EncapName, fromB: boolean): Uint8Array[] {
  const prefix = createPrefix(encap, fromB)
  return packets.map((packet) => new Uint8Array(Buffer.concat([prefix, packet])))
}

const cases = createRootPath('fixtures', 'cases')
for (const name of readdirSync(cases).filter((entry) => /^\d/.test(entry))) {
  for (const encap of ENCAPS) {
    t.test(`recorded: ${name}, ${encap}`, async (t) => {
      const out = await recorded(join(cases, name, 'tun-in.pcap'), false)
      const into = await recorded(join(cases, name, 'udp-in.pcap'), true)
      t.ok(out.length + into.length > 10)
      for (const offload of KERNELS) {
        const given = out.map((packet) => ({ packet, size: 0 }))
        compare(given, encap, offload, [])
        t.strictSame(sendFromA(given, encap, offload).icmp, sendFromA(given, encap).icmp)
        for (const cuts of [[], [1, 2, 3], [5, 9, 11]]) {
          for (const isB of [true, false]) {
            compareDelivery(wrapped(into, encap, !isB), encap, offload, cuts, isB)
          }
        }
      }
    })
  }
}

t.test('the largest single packet', async () => {
  const payload = flow.createPayload(MTU - 40)
  const packet = flow.createPacket({ from: HOST_A, to: HOST_B, payload })
  for (const encap of ENCAPS) {
    for (const offload of KERNELS) compare([{ packet, size: 0 }], encap, offload, [])
  }
})
