/**
 * The engine on in-memory devices: every verdict, both directions, with bytes written by hand, and
 * the invariant that each packet read is exactly one of sent, delivered or one named verdict.
 */
import fc from 'fast-check'
import t from 'tap'
import { type Counters, describeCounters, EGRESS, INGRESS, READ } from './counters.js'
import { BATCH_SIZE } from './packet/intake.js'
import {
  createAddress,
  createTestHost,
  MTU,
  PORT,
  PUBLIC_A,
  PUBLIC_B,
  type TestHost,
  SUBNET_B as PEER_SUBNET,
} from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'

const hex = (text: string): Uint8Array =>
  Uint8Array.from(text.trim().split(/\s+/), (byte) => parseInt(byte, 16))

// An UDP packet of 29 bytes from 10.5.1.7:4660 to 10.5.2.9:22136, payload "H", TTL 63, UDP sum 0.
// Header sum by RFC 1071: 4500+001d+0001+0000+3f11+0a05+0107+0a05+0209 = 9b49, inverted 64b6.
const TO_PEER = hex(`
  45 00 00 1d 00 01 00 00 3f 11 64 b6 0a 05 01 07 0a 05 02 09
  12 34 56 78 00 09 00 00 48`)
/** The same one TTL lower: the TTL's word is 0100 less, so the sum is 0100 more (RFC 1624). */
const TO_PEER_AGED = hex(`
  45 00 00 1d 00 01 00 00 3e 11 65 b6 0a 05 01 07 0a 05 02 09
  12 34 56 78 00 09 00 00 48`)
/** The way back, from 10.5.2.9 to 10.5.1.7: addresses swapped, so the sum is the same. */
const TO_US = hex(`
  45 00 00 1d 00 01 00 00 3f 11 64 b6 0a 05 02 09 0a 05 01 07
  56 78 12 34 00 09 00 00 48`)
const TO_US_AGED = hex(`
  45 00 00 1d 00 01 00 00 3e 11 65 b6 0a 05 02 09 0a 05 01 07
  56 78 12 34 00 09 00 00 48`)

const PEER = PUBLIC_B

/** A copy with some bytes replaced; the header sum is left as it is. */
function patched(packet: Uint8Array, patches: Readonly<Record<number, number>>): Uint8Array {
  const copy = packet.slice()
  for (const [at, byte] of Object.entries(patches)) copy[Number(at)] = byte
  return copy
}

/** The packet with a right header sum, by RFC 1071. */
function withHeaderSum(packet: Uint8Array): Uint8Array {
  const view = new DataView(packet.buffer, packet.byteOffset)
  view.setUint16(10, 0)
  let sum = 0
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at)
  view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)))
  return packet
}

t.test('egress sends the packet, one TTL lower, to the peer of its subnet', async (t) => {
  const host = createTestHost()
  host.inside.inject(TO_PEER)
  t.equal(host.engine.breath(), 1)
  t.same(host.outside.drain(), [{ bytes: Buffer.from(TO_PEER_AGED), to: endpoint4(PEER, PORT) }])
  t.equal(host.counters.packets(EGRESS, verdict.FORWARD), 1)
  t.equal(host.counters.bytes(EGRESS, verdict.FORWARD), 29)
})

t.test('ingress delivers the packet, one TTL lower', async (t) => {
  const host = createTestHost()
  host.outside.inject(TO_US, endpoint4(PEER, PORT))
  t.equal(host.engine.breath(), 1)
  t.same(host.inside.drain().map(Buffer.from), [Buffer.from(TO_US_AGED)])
  t.equal(host.counters.packets(INGRESS, verdict.FORWARD), 1)
})

t.test('bytes behind the packet are not passed on', async (t) => {
  const host = createTestHost()
  host.inside.inject(Uint8Array.from([...TO_PEER, 1, 2, 3]))
  host.outside.inject(Uint8Array.from([...TO_US, 1, 2, 3]), endpoint4(PEER, PORT))
  host.engine.breath()
  t.equal(host.outside.drain()[0]?.bytes.length, 29)
  t.equal(host.inside.drain()[0]?.length, 29)
})

const egressDrops: readonly { name: string; packet: Uint8Array; want: number }[] = [
  { name: 'nothing', packet: hex('00').slice(1), want: verdict.DROP_NOT_IP },
  { name: 'version 5', packet: patched(TO_PEER, { 0: 0x55 }), want: verdict.DROP_NOT_IP },
  {
    name: 'a router solicitation of the kernel',
    packet: hex(`60 00 00 00 00 08 3a ff fe 80 00 00 00 00 00 00 00 00 00 00 00 00 00 01
                 ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 02 85 00 7d 38 00 00 00 00`),
    want: verdict.DROP_IPV6_UNSUPPORTED,
  },
  { name: '19 bytes', packet: TO_PEER.slice(0, 19), want: verdict.DROP_IPV4_TRUNCATED },
  { name: 'cut short', packet: TO_PEER.slice(0, 28), want: verdict.DROP_IPV4_TRUNCATED },
  { name: 'IHL 4', packet: patched(TO_PEER, { 0: 0x44 }), want: verdict.DROP_IPV4_MALFORMED },
  {
    name: 'total length below the header',
    packet: patched(TO_PEER, { 3: 19 }),
    want: verdict.DROP_IPV4_MALFORMED,
  },
  { name: 'no route', packet: patched(TO_PEER, { 18: 3 }), want: verdict.DROP_NO_ROUTE },
  { name: 'own subnet', packet: patched(TO_PEER, { 18: 1 }), want: verdict.DROP_LOOP },
  { name: 'TTL 1', packet: patched(TO_PEER, { 8: 1 }), want: verdict.DROP_TTL },
  { name: 'TTL 0', packet: patched(TO_PEER, { 8: 0 }), want: verdict.DROP_TTL },
]
for (const { name, packet, want } of egressDrops) {
  t.test(`egress drops ${name} as ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost()
    host.inside.inject(packet)
    host.engine.breath()
    t.equal(host.counters.packets(EGRESS, want), 1)
    t.same(host.outside.drain(), [])
  })
}

const long = new Uint8Array(MTU + 1).fill(0xaa)
long.set(patched(TO_US, { 2: (MTU + 1) >> 8, 3: (MTU + 1) & 0xff }))
const ingressDrops: readonly { name: string; packet: Uint8Array; want: number }[] = [
  { name: 'an empty datagram', packet: hex('00').slice(1), want: verdict.DROP_NOT_IP },
  { name: 'version 0', packet: patched(TO_US, { 0: 0x05 }), want: verdict.DROP_NOT_IP },
  { name: 'IPv6', packet: patched(TO_US, { 0: 0x60 }), want: verdict.DROP_IPV6_UNSUPPORTED },
  { name: '19 bytes', packet: TO_US.slice(0, 19), want: verdict.DROP_IPV4_TRUNCATED },
  {
    name: 'options beyond the end',
    packet: patched(TO_US, { 0: 0x4f, 3: 60 }),
    want: verdict.DROP_IPV4_TRUNCATED,
  },
  { name: 'IHL 4', packet: patched(TO_US, { 0: 0x44 }), want: verdict.DROP_IPV4_MALFORMED },
  { name: 'one byte more than the MTU', packet: long, want: verdict.DROP_OVERSIZE },
  {
    name: 'a datagram longer than a slot',
    packet: new Uint8Array(9000).fill(0x45),
    want: verdict.DROP_OVERSIZE,
  },
  { name: 'a wrong sum', packet: patched(TO_US, { 11: 0xbd }), want: verdict.DROP_IPV4_CHECKSUM },
  {
    name: "the peer's own subnet",
    // 10.5.1.7 → 10.5.2.8 becomes the destination; the last address byte and the sum follow.
    packet: patched(TO_PEER, {}),
    want: verdict.DROP_NOT_OUR_SUBNET,
  },
  {
    name: 'TTL 1',
    // TTL 3f → 01 takes 3e00 from the word, so the sum grows by 3e00: 64b6 + 3e00 = a2b6.
    packet: patched(TO_US, { 8: 1, 10: 0xa2 }),
    want: verdict.DROP_TTL,
  },
  {
    name: 'TTL 0',
    packet: patched(TO_US, { 8: 0, 10: 0xa3 }),
    want: verdict.DROP_TTL,
  },
]
for (const { name, packet, want } of ingressDrops) {
  t.test(`ingress drops ${name} as ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost()
    host.outside.inject(packet, endpoint4(PEER, PORT))
    host.engine.breath()
    t.equal(host.counters.packets(INGRESS, want), 1, JSON.stringify(nonZero(host.counters)))
    t.same(host.inside.drain(), [])
  })
}

const sendErrors: readonly { errno: number; want: number }[] = [
  { errno: 11, want: verdict.DROP_TX_BUSY },
  { errno: 105, want: verdict.DROP_TX_BUSY },
  { errno: 90, want: verdict.DROP_TOO_BIG },
  { errno: 1, want: verdict.DROP_TX_UNREACHABLE },
  { errno: 101, want: verdict.DROP_TX_UNREACHABLE },
  { errno: 113, want: verdict.DROP_TX_UNREACHABLE },
  { errno: 5, want: verdict.DROP_TX_ERROR },
]
for (const { errno, want } of sendErrors) {
  t.test(`errno ${errno} from the socket counts ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost()
    host.outside.refuseNext(errno)
    host.inside.inject(patched(TO_PEER, { 6: 0x40 }))
    host.inside.inject(TO_PEER)
    host.engine.breath()
    t.equal(host.counters.packets(EGRESS, want), 1)
    t.equal(host.counters.packets(EGRESS, verdict.FORWARD), 1, 'the next packet goes on')
  })
}

for (const { errno, want } of [
  { errno: 11, want: verdict.DROP_TUN_BUSY },
  { errno: 22, want: verdict.DROP_TUN_ERROR },
]) {
  t.test(`errno ${errno} from the TUN counts ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost()
    host.inside.refuseNext(errno)
    host.outside.inject(TO_US, endpoint4(PEER, PORT))
    host.engine.breath()
    t.equal(host.counters.packets(INGRESS, want), 1)
  })
}

t.test('a packet without a route earns ICMP net unreachable', async (t) => {
  const host = createTestHost()
  const lost = patched(TO_PEER, { 18: 3 })
  host.inside.inject(lost)
  host.engine.breath()
  const [error, ...more] = host.raw.drain()
  t.same(more, [])
  t.same(error?.to, endpoint4(createAddress('10.5.1.7'), 0))
  // RFC 792: IPv4 header (tos c0, total 57, id 0, TTL 64, ICMP), type 3 code 0, unused 4 bytes,
  // then the whole offending packet as it was read. Header sum: 45c0+0039+0000+0000+4001+0a05+
  // 0100+0a05+0107 = 9c0b, inverted 63f4. ICMP sum: 0300 + the quoted words 4500+001d+0001+0000+
  // 3f11+64b6+0a05+0107+0a05+0309+1234+5678+0009+0000+4800 = 1b4b4, with the carry b4b5 → 4b4a.
  t.same(
    Buffer.from(error?.bytes ?? []),
    Buffer.from([
      ...hex('45 c0 00 39 00 00 00 00 40 01 63 f4 0a 05 01 00 0a 05 01 07'),
      ...hex('03 00 4b 4a 00 00 00 00'),
      ...lost,
    ]),
  )
})

t.test('a packet whose last TTL is taken here earns ICMP time exceeded', async (t) => {
  // RFC 792: type 11 code 0, from the own subnet's base address. TTL 3f → 01 in the quoted packet.
  // IPv4 header towards 10.5.1.7 as above: 63f4. ICMP sum: 0b00 + 4500+001d+0001+0000+0111+64b6+
  // 0a05+0107+0a05+0209+1234+5678+0009+0000+4800 = 17db4, with the carry 7db5 → 824a.
  // Towards 10.5.2.9 the header sum is 0102 more before the inversion: 62f2; the quoted sum is right
  // there (a2b6, so 3e00 more), and ports are swapped, which changes nothing: bbb5 → 444a.
  const spent = patched(TO_PEER, { 8: 1 })
  const spentOnArrival = patched(TO_US, { 8: 1, 10: 0xa2 })
  const cases = [
    {
      name: 'egress, towards the local sender',
      put: (host: TestHost) => host.inside.inject(spent),
      to: '10.5.1.7',
      bytes: [
        ...hex('45 c0 00 39 00 00 00 00 40 01 63 f4 0a 05 01 00 0a 05 01 07'),
        ...hex('0b 00 82 4a 00 00 00 00'),
        ...spent,
      ],
    },
    {
      name: 'ingress, towards the sender behind the peer',
      put: (host: TestHost) => host.outside.inject(spentOnArrival, endpoint4(PEER, PORT)),
      to: '10.5.2.9',
      bytes: [
        ...hex('45 c0 00 39 00 00 00 00 40 01 62 f2 0a 05 01 00 0a 05 02 09'),
        ...hex('0b 00 44 4a 00 00 00 00'),
        ...spentOnArrival,
      ],
    },
  ]
  for (const { name, put, to, bytes } of cases) {
    const host = createTestHost()
    put(host)
    host.engine.breath()
    const [error, ...more] = host.raw.drain()
    t.same(more, [])
    t.same(error?.to, endpoint4(createAddress(to), 0), name)
    t.same(Buffer.from(error?.bytes ?? []), Buffer.from(bytes), name)
  }
})

t.test('a TTL that runs out on arrival is answered by the same rules', async (t) => {
  const cases = [
    { name: 'an echo request', patches: { 9: 1, 20: 8, 21: 0 }, want: 1 },
    { name: 'an ICMP error', patches: { 9: 1, 20: 11, 21: 0 }, want: 0 },
    { name: 'a later fragment', patches: { 7: 0x10 }, want: 0 },
    { name: 'a source that is no host', patches: { 12: 224 }, want: 0 },
    { name: 'a first fragment', patches: { 6: 0x20 }, want: 1 },
  ]
  for (const { name, patches, want } of cases) {
    const host = createTestHost()
    const packet = withHeaderSum(patched(TO_US, { 8: 1, ...patches }))
    host.outside.inject(packet, endpoint4(PEER, PORT))
    host.engine.breath()
    t.equal(host.counters.packets(INGRESS, verdict.DROP_TTL), 1, name)
    t.equal(host.raw.drain().length, want, name)
  }
})

t.test('two hosts with crossed routes send a packet no further than to each other', async (t) => {
  // Each of them believes that the other has 10.5.3.0/24.
  const [a, b] = [createTestHost(), createTestHost({ isB: true })]
  const third = createAddress('10.5.3.0')
  a.fib.writer.insert4(third, 24, a.fib.hops.addPeer(PUBLIC_B, PORT))
  b.fib.writer.insert4(third, 24, b.fib.hops.addPeer(PUBLIC_A, PORT))
  a.inside.inject(withHeaderSum(patched(TO_PEER, { 18: 3 })))
  for (let round = 0; round < 100; round++) {
    for (const [here, there, from] of [
      [a, b, PUBLIC_A],
      [b, a, PUBLIC_B],
    ] as const) {
      here.engine.breath()
      for (const { bytes } of here.outside.drain())
        there.outside.inject(bytes, endpoint4(from, PORT))
      // The kernel would route what it is given by the TUN back to it.
      for (const packet of here.inside.drain()) here.inside.inject(packet)
    }
  }
  const sent = [a, b].map((host) => host.counters.packets(EGRESS, verdict.FORWARD))
  t.same(sent, [1, 0])
  t.equal(b.counters.packets(INGRESS, verdict.DROP_NOT_OUR_SUBNET), 1)
})

const unanswered: readonly { name: string; packet: Uint8Array }[] = [
  { name: 'a later fragment', packet: patched(TO_PEER, { 18: 3, 7: 0x10 }) },
  { name: 'a multicast destination', packet: patched(TO_PEER, { 16: 224 }) },
  { name: 'broadcast', packet: patched(TO_PEER, { 16: 255, 17: 255, 18: 255, 19: 255 }) },
  { name: 'source 0.0.0.0', packet: patched(TO_PEER, { 12: 0, 13: 0, 14: 0, 15: 0, 18: 3 }) },
  { name: 'a loopback source', packet: patched(TO_PEER, { 12: 127, 18: 3 }) },
  { name: 'an ICMP error', packet: patched(TO_PEER, { 9: 1, 18: 3, 20: 3, 21: 1 }) },
  {
    name: 'an ICMP header that is not there',
    packet: patched(TO_PEER.slice(0, 20), { 3: 20, 9: 1, 18: 3 }),
  },
]
for (const { name, packet } of unanswered) {
  t.test(`no ICMP error about ${name}`, async (t) => {
    const host = createTestHost()
    host.inside.inject(packet)
    host.engine.breath()
    t.equal(host.counters.packets(EGRESS, verdict.DROP_NO_ROUTE), 1)
    t.same(host.raw.drain(), [])
  })
}

t.test('an echo request without a route is answered (RFC 1812, unlike flannel)', async (t) => {
  const host = createTestHost()
  host.inside.inject(patched(TO_PEER, { 9: 1, 18: 3, 20: 8, 21: 0 }))
  host.engine.breath()
  t.equal(host.raw.drain().length, 1)
})

t.test('a long packet is quoted up to 576 bytes of error', async (t) => {
  const host = createTestHost()
  const packet = new Uint8Array(1400).fill(0x77)
  packet.set(patched(TO_PEER, { 2: 1400 >> 8, 3: 1400 & 0xff, 18: 3 }))
  host.inside.inject(packet)
  host.engine.breath()
  t.equal(host.raw.drain()[0]?.bytes.length, 576)
})

t.test('ICMP errors are limited per receiver and the bucket refills', async (t) => {
  const host = createTestHost()
  const lost = patched(TO_PEER, { 18: 3 })
  for (let i = 0; i < 20; i++) host.inside.inject(lost)
  host.engine.breath()
  t.equal(host.raw.drain().length, 10)
  t.equal(describeCounters([host.counters]).gauges['icmp_limited'], 10)
  host.advance(300)
  for (let i = 0; i < 20; i++) host.inside.inject(lost)
  host.engine.breath()
  t.equal(host.raw.drain().length, 3)
})

t.test('one breath moves at most one batch per direction, so neither side starves', async (t) => {
  const host = createTestHost()
  for (let i = 0; i < 3 * BATCH_SIZE; i++) {
    host.inside.inject(TO_PEER)
    host.outside.inject(TO_US, endpoint4(PEER, PORT))
  }
  t.equal(host.engine.breath(), 2 * BATCH_SIZE)
  t.equal(host.outside.drain().length, BATCH_SIZE)
  t.equal(host.inside.drain().length, BATCH_SIZE)
})

t.test('routes that change between breaths are followed', async (t) => {
  const host = createTestHost()
  const other = host.fib.hops.addPeer(createAddress('172.30.0.13'), PORT)
  host.fib.writer.insert4(PEER_SUBNET, 24, other)
  host.inside.inject(TO_PEER)
  host.engine.breath()
  t.same(host.outside.drain()[0]?.to, endpoint4(createAddress('172.30.0.13'), PORT))
  host.fib.writer.remove4(PEER_SUBNET, 24)
  host.inside.inject(TO_PEER)
  host.engine.breath()
  t.same(host.outside.drain(), [])
})

t.test('whatever comes in, every packet read has exactly one verdict', async () => {
  const anyBytes = fc.uint8Array({ maxLength: 120 })
  const nearPacket = fc
    .tuple(
      fc.constantFrom(TO_PEER, TO_US),
      fc.array(fc.tuple(fc.nat(28), fc.nat(255)), { maxLength: 3 }),
      fc.nat(29),
    )
    .map(([packet, patches, cut]) =>
      patched(packet, Object.fromEntries(patches)).slice(0, 29 - (cut > 24 ? cut - 20 : 0)),
    )
  const packets = fc.array(fc.oneof(anyBytes, nearPacket), { minLength: 1, maxLength: 100 })
  fc.assert(
    fc.property(packets, packets, (out, inn) => {
      const host = createTestHost()
      for (const packet of out) host.inside.inject(packet)
      for (const packet of inn) host.outside.inject(packet, endpoint4(PEER, PORT))
      while (host.engine.breath() > 0);
      const c = host.counters
      return (
        c.gaugeValue(READ + EGRESS) === out.length &&
        c.gaugeValue(READ + INGRESS) === inn.length &&
        sumOfVerdicts(c, EGRESS) === out.length &&
        sumOfVerdicts(c, INGRESS) === inn.length &&
        c.packets(EGRESS, verdict.FORWARD) === host.outside.drain().length &&
        c.packets(INGRESS, verdict.FORWARD) === host.inside.drain().length
      )
    }),
  )
})

function sumOfVerdicts(c: Counters, direction: number): number {
  let sum = 0
  for (let v = 0; v < verdict.VERDICT_COUNT; v++) sum += c.packets(direction, v)
  return sum
}

function nonZero(c: Counters): Record<string, number> {
  const all: Record<string, number> = {}
  for (let v = 0; v < verdict.VERDICT_COUNT; v++) {
    all[verdict.verdictName(v)] = c.packets(INGRESS, v)
  }
  return Object.fromEntries(Object.entries(all).filter(([, n]) => n > 0))
}
