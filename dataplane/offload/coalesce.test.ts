/**
 * Coalescing: what must be joined, what must not, and that the kernel's cutting gives back what came
 * in, by a slow segmenter on plain byte arrays (flow-fixture.ts).
 */
import fc from 'fast-check'
import t from 'tap'
import * as flow from '../flow-fixture.js'
import { ACK, CWR, DF, ECE, FIN, HOST_A6, HOST_B6, PSH, UDP, URG } from '../flow-fixture.js'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { Entries } from '../packet/entries.js'
import { createCoalescer, MAX_JOINED, PIECES_PER_ENTRY, vnetBytes } from './coalesce.js'

const ENTRIES = 512
const VNET_AT = 8 << 20
const arena = createArena(new ArrayBuffer(VNET_AT + vnetBytes(ENTRIES)))

interface Written {
  readonly vnet: Uint8Array
  readonly packet: Uint8Array
}

interface Options {
  readonly hasVnet?: boolean
  readonly canTcp?: boolean
  readonly canUdp?: boolean
  /** Whether the packets' sums are told. */
  readonly isSummed?: boolean
}

/** Joins packets that came in one batch, and leaves the coalescer and its entries as they are then. */
function run(packets: readonly Uint8Array[], options: Options = {}) {
  const { hasVnet = true, canTcp = true, canUdp = true, isSummed = true } = options
  const out = new Entries(ENTRIES, PIECES_PER_ENTRY)
  arena.bytes.fill(0xaa, VNET_AT)
  const coalescer = createCoalescer(arena, out, VNET_AT, hasVnet, canTcp, canUdp)
  let at = 64
  for (const packet of packets) {
    arena.bytes.set(packet, at)
    const sum = isSummed ? native.checksum(arena.bytes, at, packet.length) : 0
    coalescer.add(at, packet.length, sum)
    at += (packet.length + 67) & ~63
  }
  coalescer.flush()
  return { coalescer, out }
}

/** The bytes of every entry. */
function gather(out: Entries, vnetLen = 10): Written[] {
  return Array.from({ length: out.count }, (_, i) => {
    const first = out.firstPiece(i)
    const bytes = Array.from({ length: out.pieceTotal(i) }, (_, n) =>
      arena.bytes.slice(out.pieceAt(first + n), out.pieceAt(first + n) + out.pieceLen(first + n)),
    )
    const whole = new Uint8Array(Buffer.concat(bytes))
    return { vnet: whole.slice(0, vnetLen), packet: whole.slice(vnetLen) }
  })
}

/** Packets per entry. */
const shape = (out: Entries): number[] =>
  Array.from({ length: out.count }, (_, i) => out.packets(i))

/** What the kernel makes of all entries. */
const received = (out: Entries): Uint8Array[] =>
  gather(out).flatMap(({ vnet, packet }) => flow.createWritten(vnet, packet))

const hexes = (packets: readonly Uint8Array[]): string[] =>
  packets.map((packet) => Buffer.from(packet).toString('hex'))

const SIZE = 100
/** Consecutive packets of one flow, ids and sequence numbers going on. */
function series(spec: flow.PacketSpec, ...more: (flow.PacketSpec & { len?: number })[]) {
  let seq = spec.seq ?? 1000
  let id = spec.id ?? 7
  return more.map((own) => {
    const payload = flow.createPayload(own.len ?? SIZE, seq)
    const packet = flow.createPacket({ ...spec, seq: seq >>> 0, id: id & 0xffff, payload, ...own })
    seq += payload.length
    id++
    return packet
  })
}

const V6 = { from: HOST_B6, to: HOST_A6, fragment: 0x12345 }
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const SACK = [1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const NO_DF = { fragment: 0 }
const TO_UDP = { protocol: UDP }
const LAST = { flags: ACK | PSH }

/** Name, the packets, and how many go into each entry. */
type Case = readonly [string, readonly Uint8Array[], readonly number[]]

const joined: readonly Case[] = [
  ['three of TCP', series({}, {}, {}, {}), [3]],
  ['TCP over IPv6', series(V6, {}, {}, {}), [3]],
  ['three of UDP', series(TO_UDP, {}, {}, {}), [3]],
  ['UDP over IPv6', series({ ...V6, ...TO_UDP }, {}, {}, {}), [3]],
  ['a shorter last one', series({}, {}, {}, { len: 1 }), [3]],
  ['a shorter last one of UDP', series(TO_UDP, {}, { len: 1 }), [2]],
  ['odd lengths', series({}, { len: 99 }, { len: 99 }, { len: 31 }), [3]],
  ['timestamps', series({ tcpOptions: TIMESTAMPS }, {}, {}), [2]],
  ['PSH on the last', series({}, {}, {}, LAST), [3]],
  ['FIN on the last', series({}, {}, {}, { flags: ACK | FIN | PSH }), [3]],
  ['ECE on all', series({ flags: ACK | ECE }, {}, {}), [2]],
  ['a class', series({ tos: 0xb8 }, {}, {}), [2]],
  ['an urgent pointer without URG', series({ urgent: 5 }, {}, {}), [2]],
  ['DF and any ids', series({}, { id: 5 }, { id: 4 }, { id: 4000 }), [3]],
  ['no DF and consecutive ids', series(NO_DF, {}, {}, {}), [3]],
  ['ids that wrap', series({ ...NO_DF, id: 0xfffe }, {}, {}, {}), [3]],
  ['no DF, UDP', series({ ...NO_DF, ...TO_UDP }, {}, {}, {}), [3]],
  ['a sequence that wraps', series({ seq: 0xffff_ff80 }, {}, {}, {}), [3]],
  ['a sequence beyond 2^31', series({ seq: 0x7fff_ff80 }, {}, {}, {}), [3]],
]

const apart: readonly Case[] = [
  ['one packet', series({}, {}), [1]],
  ['a longer second one', series({}, {}, { len: SIZE + 1 }), [1, 1]],
  ['one behind a shorter one', series({}, {}, { len: 99 }, {}), [2, 1]],
  ['PSH in the middle', series({}, {}, LAST, {}, {}), [2, 2]],
  ['FIN in the middle', series({}, { flags: ACK | FIN }, {}), [1, 1]],
  ['PSH on the first', series({}, LAST, {}, {}), [1, 2]],
  ['a gap in the sequence', series({}, {}, { seq: 1101 }), [1, 1]],
  ['an overlap', series({}, {}, { seq: 1099 }), [1, 1]],
  ['the same packet twice', series({}, { seq: 9 }, { seq: 9 }), [1, 1]],
  ['the wrong order', [...series({}, {}, {})].reverse(), [1, 1]],
  ['another acknowledgment', series({}, {}, { ack: 2001 }), [1, 1]],
  ['another window', series({}, {}, { window: 501 }), [1, 1]],
  ['another urgent pointer', series({}, {}, { urgent: 1 }), [1, 1]],
  ['ECE on one', series({}, {}, { flags: ACK | ECE }), [1, 1]],
  ['CWR', series({ flags: ACK | CWR }, {}, {}), [1, 1]],
  ['CWR on the first', series({}, { flags: ACK | CWR }, {}, {}), [1, 2]],
  ['URG', series({ flags: ACK | URG }, {}, {}), [1, 1]],
  ['SYN with data', series({ flags: ACK | 2 }, {}, {}), [1, 1]],
  ['RST with data', series({ flags: ACK | 4 }, {}, {}), [1, 1]],
  ['no ACK', series({ flags: 0 }, {}, {}), [1, 1]],
  ['no payload', series({}, { len: 0 }, { len: 0 }), [1, 1]],
  ['no payload in UDP', series(TO_UDP, { len: 0 }, { len: 0 }), [1, 1]],
  ['an acknowledgment between', series({}, {}, { len: 0 }, {}), [1, 1, 1]],
  ['other timestamps', series({}, { tcpOptions: TIMESTAMPS }, { tcpOptions: SACK }), [1, 1]],
  ['options on one', series({}, {}, { tcpOptions: TIMESTAMPS }), [1, 1]],
  ['another class', series({}, {}, { tos: 4 }), [1, 1]],
  ['congestion experienced', series({ tos: 2 }, {}, { tos: 3 }), [1, 1]],
  ['another class, IPv6', series(V6, {}, { tos: 4 }), [1, 1]],
  ['another label', series(V6, {}, { fragment: 0x12344 }), [1, 1]],
  ['another TTL', series({}, {}, { ttl: 62 }), [1, 1]],
  ['another hop limit', series(V6, {}, { ttl: 62 }), [1, 1]],
  ['DF on one', series({}, {}, NO_DF), [1, 1]],
  ['the reserved bit on one', series({}, {}, { fragment: DF | 0x8000 }), [1, 1]],
  ['no DF and a gap in the ids', series(NO_DF, { id: 1 }, { id: 3 }), [1, 1]],
  ['no DF and equal ids', series({ ...NO_DF, ...TO_UDP }, { id: 1 }, { id: 1 }), [1, 1]],
  ['no DF and falling ids', series({ ...NO_DF, ...TO_UDP }, { id: 2 }, { id: 1 }), [1, 1]],
  ['a first fragment', series({ fragment: 0x2000 }, {}, {}), [1, 1]],
  ['a later fragment', series({ fragment: 1 }, {}, {}), [1, 1]],
  ['a fragment between', series({}, {}, { fragment: 0x2000 }, { seq: 1100 }), [1, 1, 1]],
  ['a later fragment between', series({}, {}, { fragment: 9 }, { seq: 1100 }), [1, 1, 1]],
  ['IPv4 options', series({ options: [148, 4, 0, 0] }, {}, {}), [1, 1]],
  ['IPv4 options between', series({}, {}, { options: [148, 4, 0, 0] }, { seq: 1100 }), [1, 1, 1]],
  [
    'IPv6 extension headers',
    series({ ...V6, options: [6, 0, 1, 4, 0, 0, 0, 0], nextHeader: 60 }, {}, {}),
    [1, 1],
  ],
  ['UDP without checksums', series({ ...TO_UDP, isUnsummed: true }, {}, {}), [1, 1]],
  ['UDP without a checksum between', series(TO_UDP, {}, { isUnsummed: true }, {}), [1, 1, 1]],
  ['TCP and UDP of the same ports', series({}, {}, TO_UDP, {}), [1, 1, 1]],
  ['another port', series({}, {}, { ports: [4660, 22137] }), [1, 1]],
  ['another source', series({}, {}, { from: [10, 5, 2, 8] }), [1, 1]],
  ['another destination', series({}, {}, { to: [10, 5, 1, 8] }), [1, 1]],
  ['the other direction', series({}, {}, { from: flow.HOST_A, to: flow.HOST_B }), [1, 1]],
]

for (const [name, packets, want] of [...joined, ...apart]) {
  t.test(`${joined.some(([n]) => n === name) ? 'joined' : 'apart'}: ${name}`, async (t) => {
    const { out } = run(packets)
    t.strictSame(shape(out), want)
    t.strictSame(received(out).map(flow.describeBytes), packets.map(flow.describeBytes))
    for (let i = 0; i < out.count; i++) t.ok(out.bytes(i) > 0)
    const total = shape(out).reduce((sum, _, i) => sum + out.bytes(i), 0)
    t.equal(
      total,
      packets.reduce((sum, packet) => sum + packet.length, 0),
    )
  })
}

function patched(packet: Uint8Array, patches: Readonly<Record<number, number>>): Uint8Array {
  const copy = packet.slice()
  for (const [at, byte] of Object.entries(patches)) copy[Number(at)] = byte
  return copy
}

t.test('a wrong checksum goes on unchanged, alone, in its place', async (t) => {
  for (const spec of [{}, TO_UDP, V6, { ...V6, ...TO_UDP }]) {
    const packets = series(spec, {}, {}, {}, {}, {})
    const third = packets[2]!
    packets[2] = patched(third, { [third.length - 1]: third.at(-1)! ^ 1 })
    const { out } = run(packets)
    t.strictSame(shape(out), [2, 1, 2])
    t.strictSame(hexes(received(out).slice(2, 3)), hexes([packets[2]]))
    t.strictSame(received(out).map(flow.describeBytes), packets.map(flow.describeBytes))
  }
})

t.test('every bit counts', async () => {
  const packets = series(NO_DF, {}, {}, {})
  const bits = packets[1]!.length * 8
  for (let bit = 0; bit < bits; bit++) {
    const at = bit >> 3
    // The IPv4 header's checksum is looked at before; the first byte decides what the rest means.
    if (at < 20) continue
    const flipped = patched(packets[1]!, { [at]: packets[1]![at]! ^ (1 << (bit & 7)) })
    const { out } = run([packets[0]!, flipped, packets[2]!])
    if (hexes(received(out)).join() !== hexes([packets[0]!, flipped, packets[2]!]).join()) {
      throw new Error(`bit ${bit}`)
    }
  }
})

t.test('a checksum that is right but not the one that is computed', async (t) => {
  // A sum of zero: complement of what two more payload bytes must bring.
  const [bare] = series({}, { len: 2, payload: [0, 0] })
  const payload = [bare![36]!, bare![37]!]
  const [zero, next] = series({}, { payload, len: 2 }, { seq: 1002, len: 2 })
  t.strictSame([zero![36], zero![37]], [0, 0])
  t.strictSame(shape(run([zero!, next!]).out), [2], '0 is what a sender computes')
  const stale = patched(zero!, { 36: 0xff, 37: 0xff })
  const { out } = run([stale, next!])
  t.strictSame(shape(out), [1, 1])
  t.strictSame(hexes(received(out)), hexes([stale, next!]))
})

t.test('a UDP checksum that is missing where it would be right', async (t) => {
  // Two bytes that bring the sum to 0: the field would be 0xffff, and 0 verifies as well.
  const [bare] = series(TO_UDP, { len: 2, payload: [0, 0] })
  const payload = [bare![26]!, bare![27]!]
  const [full, next] = series(TO_UDP, { payload, len: 2 }, { len: 2 })
  t.strictSame([full![26], full![27]], [0xff, 0xff])
  t.strictSame(shape(run([full!, next!]).out), [2])
  const missing = patched(full!, { 26: 0, 27: 0 })
  const { out } = run([missing, next!])
  t.strictSame(shape(out), [1, 1])
  t.strictSame(hexes(received(out)), hexes([missing, next!]))
})

t.test('a wrong UDP length that the checksum makes up for', async (t) => {
  const packets = series(TO_UDP, {}, {})
  const [first] = packets
  // The length is one less, so the checksum is one more.
  const short = patched(first!, { 25: first![25]! - 1, 27: first![27]! + 1 })
  const { out } = run([short, packets[1]!])
  t.strictSame(shape(out), [1, 1])
  t.strictSame(hexes(received(out)), hexes([short, packets[1]!]))
})

t.test('lengths that lie', async (t) => {
  const [tcp, udp] = [series({}, {}, {}), series(TO_UDP, {}, {})]
  const cases: readonly [string, Uint8Array][] = [
    ['TCP header of 4 words', patched(tcp[0]!, { 32: 0x40 })],
    ['TCP header beyond the end', patched(tcp[0]!.slice(0, 50), { 3: 50, 32: 0xf0 })],
    ['TCP header cut', patched(tcp[0]!.slice(0, 39), { 3: 39 })],
    ['no TCP header at all', patched(tcp[0]!.slice(0, 20), { 3: 20 })],
    ['UDP length short', patched(udp[0]!, { 25: 20 })],
    ['UDP length long', patched(udp[0]!, { 24: 1 })],
    ['UDP header cut', patched(udp[0]!.slice(0, 27), { 3: 27 })],
  ]
  for (const [name, packet] of cases) {
    const { out } = run([packet, packet, packet])
    t.strictSame(shape(out), [1, 1, 1], name)
    t.strictSame(hexes(received(out)), hexes([packet, packet, packet]), name)
  }
})

t.test('limits', async (t) => {
  const many = (count: number, len: number, spec: flow.PacketSpec = {}) =>
    series(spec, ...new Array<{ len: number }>(count).fill({ len }))
  t.strictSame(shape(run(many(150, 20)).out), [MAX_JOINED, MAX_JOINED, 22])
  // 40 bytes of headers and 45 × 1448 of payload are 65200; one more is too many.
  t.strictSame(shape(run(many(50, 1448)).out), [45, 5])
  // To the byte: 20 + 20 + 5 × 13099 = 65535.
  t.strictSame(shape(run(many(5, 13099)).out), [5])
  t.strictSame(
    shape(run([...many(4, 13099), ...series({ seq: 53396 }, { len: 13100 })]).out),
    [4, 1],
  )
  t.strictSame(shape(run(many(5, 13100)).out), [4, 1])
  // One byte more: 40 + 4 × 16374 = 65536.
  t.strictSame(shape(run(many(4, 16374)).out), [3, 1])
  for (const packets of [many(150, 20), many(50, 1448), many(5, 13099), many(60, 1432, V6)]) {
    const { out } = run(packets)
    t.ok(gather(out).every(({ packet }) => packet.length <= 65535))
    t.strictSame(received(out).map(flow.describeBytes), packets.map(flow.describeBytes))
  }
})

t.test('what is not joined when the device cannot', async (t) => {
  const packets = [...series({}, {}, {}), ...series(TO_UDP, {}, {})]
  t.strictSame(shape(run(packets).out), [2, 2])
  t.strictSame(shape(run(packets, { canUdp: false }).out), [2, 1, 1])
  t.strictSame(shape(run(packets, { canTcp: false }).out), [1, 1, 2])
  t.strictSame(shape(run(packets, { isSummed: false }).out), [1, 1, 1, 1])
  const plain = run(packets, { hasVnet: false })
  t.strictSame(shape(plain.out), [1, 1, 1, 1])
  t.notOk(plain.coalescer.isOn())
  t.strictSame(
    hexes(gather(plain.out, 0).map(({ packet }) => packet)),
    hexes(packets),
    'without virtio-net headers',
  )
  const given = run(packets)
  t.ok(given.coalescer.isOn())
  given.coalescer.disable()
  given.out.clear()
  given.coalescer.add(64, packets[0]!.length, 1)
  t.notOk(given.coalescer.isOn())
  t.strictSame(shape(given.out), [1])
})

t.test('flows side by side', async (t) => {
  const flows = Array.from({ length: 12 }, (_, n) =>
    series({ ports: [1000 + n, 80] }, ...new Array<object>(10).fill({})),
  )
  const mixed = flows[0]!.flatMap((_, k) => flows.map((packets) => packets[k]!))
  const { out } = run(mixed)
  t.strictSame(flow.describeFlows(received(out)), flow.describeFlows(mixed))
  t.ok(out.count < 40, `${out.count} entries for 12 flows of 10 packets`)
})

/** Random packets of twelve flows: mostly such as can be joined, some of every kind that cannot. */
const anyFlow = fc.record({
  spec: fc.constantFrom<flow.PacketSpec>({}, NO_DF, TO_UDP, V6, { ...V6, ...TO_UDP }),
  packets: fc.array(
    fc.oneof(
      { weight: 12, arbitrary: fc.constant({}) },
      {
        weight: 6,
        arbitrary: fc.constantFrom<flow.PacketSpec & { len?: number }>(
          LAST,
          { len: 40 },
          { len: 0 },
          { len: 101 },
          { tos: 3 },
          { ttl: 9 },
          { window: 3 },
          { flags: ACK | FIN },
          { flags: ACK | CWR },
          { seq: 5 },
          { id: 5 },
          { isUnsummed: true },
          { tcpOptions: TIMESTAMPS },
        ),
      },
    ),
    { maxLength: 20 },
  ),
  damage: fc.nat(60),
})

t.test('order within a flow, whatever is mixed with it', async () => {
  fc.assert(
    fc.property(
      fc.array(anyFlow, { minLength: 12, maxLength: 12 }),
      fc.array(fc.nat(11), { maxLength: 250 }),
      (flows, picks) => {
        const queues = flows.map(({ spec, packets, damage }, n) => {
          const made = series({ ...spec, ports: [1000 + n, 80], seq: n * 2 ** 28 }, ...packets)
          const hit = made[damage]
          if (hit !== undefined) made[damage] = patched(hit, { [hit.length - 1]: hit.at(-1)! ^ 4 })
          return made
        })
        const mixed: Uint8Array[] = []
        for (const n of picks) mixed.push(...queues[n]!.splice(0, 1))
        mixed.push(...queues.flat())
        const { out } = run(mixed)
        const got = JSON.stringify(flow.describeFlows(received(out)))
        return got === JSON.stringify(flow.describeFlows(mixed))
      },
    ),
    { numRuns: 150 },
  )
})

t.test('a refused super-packet comes apart into what came in, bit for bit', async (t) => {
  const into = new Entries(MAX_JOINED, 2)
  for (const [name, packets] of joined) {
    const { coalescer, out } = run(packets)
    t.ok(coalescer.isJoined(0))
    coalescer.split(0, into)
    const got = gather(into)
    t.strictSame(hexes(got.map(({ packet }) => packet)), hexes(packets), name)
    t.ok(got.every(({ vnet }) => vnet.every((byte) => byte === 0)))
    t.strictSame(
      shape(into),
      packets.map(() => 1),
    )
    t.strictSame(
      packets.map((_, i) => into.bytes(i)),
      packets.map((packet) => packet.length),
    )
    t.equal(out.count, 1)
  }
})
