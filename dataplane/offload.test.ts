/**
 * The engine with offloads, on devices in memory: super-packets in, trains in, whatever is wrong with
 * them, and devices that refuse what they were found able to take.
 */
import t from 'tap'
import { describeCounters, EGRESS, INGRESS, JOINS_LOST, READ, RUNS_LOST } from './counters.js'
import * as flow from './flow-fixture.js'
import { ACK, FIN, HOST_A, HOST_B, PSH, UDP } from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createTestHost,
  PORT,
  PUBLIC_B,
  type TestHost,
  type TestHostOptions,
} from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'
import { AVOID_MS } from './offload/runs.js'

const EIO = 5
const EINVAL = 22
const EMSGSIZE = 90
const OUT = { from: HOST_A, to: HOST_B }
const IN = { from: HOST_B, to: HOST_A }
const PEER = endpoint4(PUBLIC_B, PORT)

const create = (options: TestHostOptions = {}): TestHost =>
  createTestHost({ offload: ALL_OFFLOADS, queueLen: 100_000, ...options })
const hexes = (packets: readonly Uint8Array[]): string[] =>
  packets.map((packet) => Buffer.from(packet).toString('hex'))
const breathe = (host: TestHost): void => {
  while (host.engine.breath() > 0);
}

/** Counters that are not 0. */
function counted(host: TestHost): Record<string, number> {
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
const aged = (spec: flow.PacketSpec): Uint8Array => flow.createPacket({ ...spec, ttl: 62 })

/** Injects a super-packet as the kernel would. */
function injectSuper(
  host: TestHost,
  spec: flow.PacketSpec,
  size: number,
  extraType = 0,
): Uint8Array {
  const packet = flow.createUnfinished(flow.createPacket(spec))
  host.inside.inject(packet, flow.createVnet(packet, size, extraType))
  return packet
}

const supers: readonly { name: string; spec: flow.PacketSpec; size: number; ecn?: boolean }[] = [
  { name: 'TCP', spec: { ...OUT, payload: flow.createPayload(60_000) }, size: 1432 },
  { name: 'UDP', spec: { ...OUT, protocol: UDP, payload: flow.createPayload(60_000) }, size: 1444 },
  {
    name: 'TCP with ECN',
    spec: { ...OUT, flags: 0xd8, payload: flow.createPayload(9000) },
    size: 1432,
    ecn: true,
  },
  { name: 'one segment', spec: { ...OUT, payload: flow.createPayload(900) }, size: 1432 },
  { name: 'tiny segments', spec: { ...OUT, payload: flow.createPayload(65_000) }, size: 8 },
]
for (const { name, spec, size, ecn = false } of supers) {
  t.test(`a super-packet is cut: ${name}`, async (t) => {
    const host = create()
    injectSuper(host, spec, size, ecn ? 0x80 : 0)
    t.equal(host.engine.breath(), 1)
    const want = flow.createSegments(aged(spec), size)
    const sent = host.outside.drain()
    t.strictSame(hexes(sent.map(({ bytes }) => bytes)), hexes(want))
    t.ok(sent.every(({ to }) => JSON.stringify(to) === JSON.stringify(PEER)))
    t.strictSame(counted(host), { 'egress forward': want.length })
    t.equal(
      host.counters.bytes(EGRESS, verdict.FORWARD),
      want.reduce((sum, { length }) => sum + length, 0),
    )
  })
}

t.test('a batch of more segments than there is room for', async (t) => {
  const host = create()
  const specs = Array.from({ length: 64 }, (_, n) => ({
    ...OUT,
    ports: [1000 + n, 80] as const,
    payload: flow.createPayload(15_000, n),
  }))
  for (const spec of specs) injectSuper(host, spec, 300)
  t.equal(host.engine.breath(), 64)
  const want = specs.flatMap((spec) => flow.createSegments(aged(spec), 300))
  t.strictSame(hexes(host.outside.drain().map(({ bytes }) => bytes)), hexes(want))
  t.strictSame(counted(host), { 'egress forward': 64 * 50 })
})

t.test('single packets between super-packets keep their places', async (t) => {
  const host = create()
  const single = { ...OUT, payload: flow.createPayload(700) }
  const long = { ...OUT, payload: flow.createPayload(5000) }
  host.inside.inject(flow.createPacket(single))
  injectSuper(host, long, 1432)
  host.inside.inject(flow.createPacket(single))
  host.engine.breath()
  const want = [aged(single), ...flow.createSegments(aged(long), 1432), aged(single)]
  t.strictSame(hexes(host.outside.drain().map(({ bytes }) => bytes)), hexes(want))
})

t.test('what is open at the end of a batch is closed', async (t) => {
  const host = create()
  const packets = segmentsIn(6, 100)
  for (const half of [packets.slice(0, 3), packets.slice(3)]) {
    for (const packet of half) host.outside.inject(packet, PEER)
    for (let n = 0; n < 3; n++) host.inside.inject(flow.createPacket({ ...OUT, id: n }))
    host.engine.breath()
    t.equal(host.inside.drainWithHeaders().length, 1)
    t.equal(host.outside.drain().length, 3)
  }
  t.strictSame(counted(host), { 'egress forward': 6, 'ingress forward': 6 })
})

t.test('an unfinished checksum is finished', async (t) => {
  const host = create()
  const specs = [
    { ...OUT, payload: flow.createPayload(99) },
    { ...OUT, protocol: UDP, payload: flow.createPayload(98) },
    { ...OUT, options: [148, 4, 0, 0], payload: [1] },
  ]
  for (const spec of specs) injectSuper(host, spec, 0)
  // Bytes behind the packet's end belong to no sum and are not sent.
  const padded = flow.createUnfinished(flow.createPacket(specs[0]))
  const tail = Uint8Array.from([...padded, 1, 2, 3])
  host.inside.inject(tail, flow.createVnet(padded, 0))
  host.engine.breath()
  t.strictSame(
    hexes(host.outside.drain().map(({ bytes }) => bytes)),
    hexes([...specs, specs[0]!].map(aged)),
  )
})

const sound = flow.createPacket({ ...OUT, payload: flow.createPayload(1000) })
const vnetOf = (patches: Readonly<Record<number, number>>): Uint8Array => {
  const vnet = flow.createVnet(sound, 500)
  for (const [at, byte] of Object.entries(patches)) vnet[Number(at)] = byte
  return vnet
}
const strange: readonly { name: string; vnet: Uint8Array; packet?: Uint8Array }[] = [
  { name: 'a size of 0', vnet: vnetOf({ 4: 0, 5: 0 }) },
  { name: 'TCP over IPv6 that is IPv4', vnet: vnetOf({ 1: 4 }) },
  { name: 'UDP that is TCP', vnet: vnetOf({ 1: 5 }) },
  { name: 'UDP fragments', vnet: vnetOf({ 1: 3 }) },
  { name: 'an unknown type', vnet: vnetOf({ 1: 0x47 }) },
  { name: 'a checksum behind the end', vnet: vnetOf({ 1: 0, 6: 0xff, 7: 0xff }) },
  {
    name: 'a checksum field across the end',
    vnet: vnetOf({ 1: 0, 6: 1039 - 256 * 4, 7: 4, 8: 0 }),
  },
  {
    name: 'a TCP header beyond the end',
    vnet: vnetOf({}),
    packet: flow.createPacket({ ...OUT, tcpOptions: new Array<number>(40).fill(1) }),
  },
]
for (const { name, vnet, packet = sound } of strange) {
  t.test(`drop_gso_malformed: ${name}`, async (t) => {
    const host = create()
    host.inside.inject(packet, vnet)
    host.engine.breath()
    t.strictSame(host.outside.drain(), [])
    t.strictSame(counted(host), { 'egress drop_gso_malformed': 1 })
    injectSuper(host, { ...OUT, payload: flow.createPayload(3000) }, 1000)
    host.engine.breath()
    t.equal(host.outside.drain().length, 3, 'the next one is cut')
  })
}

t.test('a checksum at an odd place harms nothing but its packet', async (t) => {
  const host = create()
  host.inside.inject(sound, vnetOf({ 1: 0, 6: 21, 8: 15 }))
  host.inside.inject(sound)
  host.engine.breath()
  const [odd, next] = host.outside.drain()
  t.equal(odd?.bytes.length, sound.length)
  t.equal(hexes([next!.bytes])[0], hexes([aged({ ...OUT, payload: flow.createPayload(1000) })])[0])
})

t.test('a super-packet of IPv6 is one packet that is not carried', async (t) => {
  const host = create()
  const v6 = { from: flow.HOST_A6, to: flow.HOST_B6, fragment: 0 }
  injectSuper(host, { ...v6, payload: flow.createPayload(5000) }, 1000)
  host.engine.breath()
  t.strictSame(counted(host), { 'egress drop_ipv6_unsupported': 1 })
})

t.test('a super-packet that is dropped counts as one', async (t) => {
  const host = create()
  injectSuper(host, { ...OUT, ttl: 1, payload: flow.createPayload(5000) }, 1000)
  injectSuper(host, { ...OUT, to: HOST_A, payload: flow.createPayload(5000) }, 1000)
  host.engine.breath()
  t.strictSame(counted(host), { 'egress drop_ttl': 1, 'egress drop_loop': 1 })
})

t.test('an ICMP error about a super-packet quotes its first segment', async (t) => {
  const lost = { ...OUT, to: [10, 5, 3, 9], flags: ACK | PSH | FIN }
  const quoteOf = (spec: flow.PacketSpec, size: number): Uint8Array => {
    const host = create()
    injectSuper(host, spec, size)
    host.engine.breath()
    t.match(counted(host), { 'egress drop_no_route': 1 })
    const [error, ...more] = host.raw.drain()
    t.strictSame(more, [])
    t.strictSame(error?.to, endpoint4(0x0a050107, 0))
    return error!.bytes.slice(28)
  }
  for (const [len, size] of [
    [60_000, 1432],
    [1000, 200],
  ] as const) {
    const spec = { ...lost, payload: flow.createPayload(len) }
    const [first] = flow.createSegments(flow.createPacket(spec), size)
    t.strictSame(hexes([quoteOf(spec, size)]), hexes([first!.slice(0, 548)]))
  }
  const single = { ...lost, protocol: UDP, payload: flow.createPayload(300) }
  t.strictSame(
    hexes([quoteOf(single, 0)]),
    hexes([flow.createPacket(single)]),
    'and a finished checksum',
  )
})

/** Datagrams of one flow, each the inner packet as it is. */
function segmentsIn(count: number, size: number, spec: flow.PacketSpec = {}): Uint8Array[] {
  const payload = flow.createPayload(count * size, size)
  return flow.createSegments(flow.createPacket({ ...IN, ...spec, payload }), size)
}
const train = (packets: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(packets))
const delivered = (host: TestHost): Uint8Array[] =>
  host.inside.drainWithHeaders().flatMap(({ vnet, packet }) => flow.createWritten(vnet, packet))
const older = (packets: readonly Uint8Array[]): string[] =>
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

t.test('a train is joined into one super-packet', async (t) => {
  const host = create()
  const packets = segmentsIn(40, 1432)
  host.outside.inject(train(packets), PEER, packets[0]!.length)
  t.equal(host.engine.breath(), 1)
  const written = host.inside.drainWithHeaders()
  t.equal(written.length, 1)
  t.strictSame(
    written.flatMap((w) => flow.createWritten(w.vnet, w.packet)).map(flow.describeBytes),
    older(packets),
  )
  t.strictSame(counted(host), { 'ingress forward': 40 })
})

t.test('packets that came one by one are joined across slots', async (t) => {
  const host = create()
  const packets = segmentsIn(40, 1432, { protocol: UDP })
  for (const packet of packets) host.outside.inject(packet, PEER)
  t.equal(host.engine.breath(), 40)
  const written = host.inside.drainWithHeaders()
  t.equal(written.length, 1)
  t.strictSame(
    written.flatMap((w) => flow.createWritten(w.vnet, w.packet)).map(flow.describeBytes),
    older(packets),
  )
})

t.test('a train of more datagrams than there is room for', async (t) => {
  // 40 bytes each, no two of one flow in a row: 1638 entries, where 512 fit.
  const host = create()
  const packets = Array.from({ length: 1638 }, (_, n) =>
    flow.createPacket({ ...IN, ports: [1000 + n, 80] }),
  )
  host.outside.inject(train(packets), PEER, 40)
  host.outside.inject(packets[0]!, PEER)
  t.equal(host.engine.breath(), 2)
  t.strictSame(delivered(host).map(flow.describeBytes), older([...packets, packets[0]!]))
  t.strictSame(counted(host), { 'ingress forward': 1639 })
})

t.test('a train of single bytes is counted, byte by byte', async (t) => {
  const host = create()
  host.outside.inject(new Uint8Array(60_000).fill(0x45), PEER, 1)
  const packets = segmentsIn(3, 100)
  for (const packet of packets) host.outside.inject(packet, PEER)
  t.equal(host.engine.breath(), 4)
  t.strictSame(delivered(host).map(flow.describeBytes), older(packets))
  t.strictSame(counted(host), { 'ingress drop_ipv4_truncated': 60_000, 'ingress forward': 3 })
})

t.test('rows that are dropped whole do not shift the sums of those behind them', async (t) => {
  const host = create()
  const packets = segmentsIn(20, 1000)
  host.outside.inject(new Uint8Array(0), PEER)
  host.outside.inject(new Uint8Array(70_000).fill(0x45), PEER, 900)
  host.outside.inject(Uint8Array.of(0x45), PEER)
  host.outside.inject(train(packets), PEER, packets[0]!.length)
  t.equal(host.engine.breath(), 4)
  const written = host.inside.drainWithHeaders()
  t.equal(written.length, 1, 'joined, so the sums were theirs')
  t.equal(written[0]!.packet.length, 40 + 20_000)
  t.strictSame(counted(host), {
    'ingress drop_not_ip': 1,
    'ingress drop_oversize': 1,
    'ingress drop_ipv4_truncated': 1,
    'ingress forward': 20,
  })
})

t.test('a datagram with bytes behind its packet goes on alone', async (t) => {
  const host = create()
  const packets = segmentsIn(3, 100)
  const padded = train([packets[1]!, Uint8Array.of(1, 2, 3)])
  host.outside.inject(packets[0]!, PEER)
  host.outside.inject(padded, PEER)
  host.outside.inject(packets[2]!, PEER)
  host.engine.breath()
  t.equal(host.inside.drainWithHeaders().length, 3)
})

t.test('bytes behind a packet do not make up for a wrong checksum', async (t) => {
  const host = create()
  const packets = segmentsIn(2, 100)
  const damaged = packets[0]!.slice()
  // The last word is 1 less, and a word behind the end brings it back.
  damaged[138] = damaged[138]! - 1
  host.outside.inject(train([damaged, Uint8Array.of(1, 0)]), PEER)
  host.outside.inject(packets[1]!, PEER)
  host.engine.breath()
  t.equal(host.inside.drainWithHeaders().length, 2)
})

/** Sends super-packets and single packets, and returns what left. */
function sendMixed(host: TestHost): { got: string[]; want: string[] } {
  const long = { ...OUT, payload: flow.createPayload(20_000) }
  const single = { ...OUT, ports: [5, 6] as const, payload: flow.createPayload(50) }
  injectSuper(host, long, 1432)
  host.inside.inject(flow.createPacket(single))
  breathe(host)
  return {
    got: hexes(host.outside.drain().map(({ bytes }) => bytes)).sort(),
    want: hexes([...flow.createSegments(aged(long), 1432), aged(single)]).sort(),
  }
}

for (const errno of [EINVAL, EIO]) {
  t.test(`runs that are refused with errno ${errno} go plainly, from then on`, async (t) => {
    const host = create()
    host.outside.refuseRuns(errno)
    const first = sendMixed(host)
    t.strictSame(first.got, first.want)
    t.equal(host.counters.gaugeValue(RUNS_LOST), 1)
    host.outside.refuseRuns(errno, 1000)
    const later = sendMixed(host)
    t.strictSame(later.got, later.want, 'no run is tried any more')
    t.equal(host.counters.gaugeValue(RUNS_LOST), 1)
    t.strictSame(counted(host), { 'egress forward': first.want.length * 2 })
  })

  t.test(
    `super-packets that are refused with errno ${errno} go plainly, from then on`,
    async (t) => {
      const host = create()
      const packets = segmentsIn(40, 1000)
      const send = (): string[] => {
        host.outside.inject(train(packets), PEER, packets[0]!.length)
        breathe(host)
        return delivered(host).map(flow.describeBytes)
      }
      t.strictSame(send(), older(packets), 'joined at first')
      host.inside.refuseJoined(errno)
      t.strictSame(send(), older(packets), 'the same packets, one by one')
      t.equal(host.counters.gaugeValue(JOINS_LOST), 1)
      host.inside.refuseJoined(errno, 1000)
      t.strictSame(send(), older(packets), 'no super-packet is tried any more')
      t.equal(host.counters.gaugeValue(JOINS_LOST), 1)
      t.strictSame(counted(host), { 'ingress forward': 120 })
      t.equal(host.counters.gaugeValue(READ + INGRESS), 120)
    },
  )
}

t.test('many refused in one batch are given up once', async (t) => {
  const host = create()
  host.outside.refuseRuns(EIO, 1000)
  host.inside.refuseJoined(EIO, 1000)
  for (let n = 0; n < 20; n++) {
    injectSuper(host, { ...OUT, payload: flow.createPayload(60_000, n) }, 1432)
    const packets = segmentsIn(40, 1000, { ports: [n, n] })
    host.outside.inject(train(packets), PEER, packets[0]!.length)
  }
  breathe(host)
  t.equal(host.counters.gaugeValue(RUNS_LOST), 1)
  t.equal(host.counters.gaugeValue(JOINS_LOST), 1)
  t.strictSame(counted(host), { 'egress forward': 20 * 42, 'ingress forward': 800 })
  t.equal(host.outside.drain().length, 20 * 42)
  t.equal(host.inside.drain().length, 800)
})

t.test('a run that does not fit the path goes plainly, to that peer, for a while', async (t) => {
  const host = create()
  host.outside.refuseRuns(EMSGSIZE)
  const first = sendMixed(host)
  t.strictSame(first.got, first.want)
  host.outside.refuseRuns(EIO, 1000)
  const second = sendMixed(host)
  t.strictSame(second.got, second.want, 'no run to that peer')
  t.equal(host.counters.gaugeValue(RUNS_LOST), 0)
  host.advance(AVOID_MS)
  const third = sendMixed(host)
  t.strictSame(third.got, third.want)
  t.equal(host.counters.gaugeValue(RUNS_LOST), 1, 'runs were tried again')
})

t.test('other errors of a run count for all its packets', async (t) => {
  const host = create()
  host.outside.refuseRuns(111)
  injectSuper(host, { ...OUT, payload: flow.createPayload(10_000) }, 1000)
  host.engine.breath()
  t.strictSame(counted(host), { 'egress drop_tx_unreachable': 10 })
  host.inside.refuseJoined(11)
  host.outside.inject(train(segmentsIn(10, 1000)), PEER, 1040)
  host.engine.breath()
  t.match(counted(host), { 'ingress drop_tun_busy': 10 })
  t.equal(host.counters.gaugeValue(RUNS_LOST) + host.counters.gaugeValue(JOINS_LOST), 0)
})
