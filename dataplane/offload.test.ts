/**
 * The engine with offloads, on devices in memory: super-packets in, trains in, and whatever is wrong
 * with them.
 */
import t, { type Test } from 'tap'
import { EGRESS } from './counters.js'
import * as flow from './flow-fixture.js'
import { ACK, FIN, HOST_A, PSH, UDP } from './flow-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import {
  aged,
  counted,
  create,
  delivered,
  hexes,
  IN,
  injectSuper,
  older,
  OUT,
  PEER,
  segmentsIn,
  train,
} from './offload-fixture.js'
import * as verdict from './packet/verdict.js'

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
  const cases = [
    { verdict: 'drop_no_route', lost: { ...OUT, to: [10, 5, 3, 9], flags: ACK | PSH | FIN } },
    { verdict: 'drop_ttl', lost: { ...OUT, ttl: 1, flags: ACK | PSH | FIN } },
  ]
  for (const { verdict, lost } of cases) checkQuotes(t, verdict, lost)
})

function checkQuotes(t: Test, verdict: string, lost: flow.PacketSpec): void {
  const quoteOf = (spec: flow.PacketSpec, size: number): Uint8Array => {
    const host = create()
    injectSuper(host, spec, size)
    host.engine.breath()
    t.match(counted(host), { [`egress ${verdict}`]: 1 })
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
