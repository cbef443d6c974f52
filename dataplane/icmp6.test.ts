/**
 * ICMPv6 errors: what each drop earns, to whom, quoting what, compared with messages put together by
 * hand; and the packets that earn none (RFC 4443 §2.4).
 */
import t from 'tap'
import { EGRESS, ICMP_LIMITED, ICMP_SENT, INGRESS, SENT_IN_FRAGMENTS } from './counters.js'
import * as flow from './flow-fixture.js'
import {
  createTestHost,
  UDP_ENCAPS,
  PORT,
  PUBLIC6_B,
  PUBLIC_B,
  SUBNET6_A,
  type TestHost,
  type TestHostOptions,
} from './host-fixture.js'
import { addressBytes6 } from './address.js'
import { endpoint4, endpoint6 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'

const { HOST_A6, HOST_B6 } = flow
const OTHER = [...HOST_B6.slice(0, 3), 3, ...HOST_B6.slice(4)]
const NO_IPV6 = [...HOST_B6.slice(0, 3), 4, ...HOST_B6.slice(4)]
const NO_IPV6_SUBNET = Uint8Array.from([...NO_IPV6.slice(0, 8), 0, 0, 0, 0, 0, 0, 0, 0])
const PEER = endpoint4(PUBLIC_B, PORT)
const UNREACHABLE = 1
const TOO_BIG = 2
const TIME_EXCEEDED = 3
const EHOSTUNREACH = 113

function create(options: TestHostOptions = {}): TestHost {
  const host = createTestHost({ hasIpv6: true, ...options })
  host.fib.writer.insert6(NO_IPV6_SUBNET, 64, host.fib.hops.addNoIpv6())
  return host
}

const packet = (spec: flow.PacketSpec): Uint8Array =>
  flow.createPacket({ protocol: flow.UDP, payload: [1, 2, 3], ttl: 63, ...spec })
const toPeer = (spec: flow.PacketSpec = {}): Uint8Array =>
  packet({ from: HOST_A6, to: HOST_B6, ...spec })

/** An error as RFC 4443 wants it, word by word, from our subnet's base address. */
function error(type: number, code: number, rest: number, about: Uint8Array, to: number[]): string {
  const quote = about.subarray(0, 1280 - 48)
  const head = [0x60, 0, 0, 0, (8 + quote.length) >> 8, (8 + quote.length) & 0xff, 58, 64]
  const message = [type, code, 0, 0, 0, 0, rest >> 8, rest & 0xff, ...quote]
  const pseudo = [
    ...SUBNET6_A,
    ...to,
    0,
    0,
    message.length >> 8,
    message.length & 0xff,
    0,
    0,
    0,
    58,
  ]
  const sum = 0xffff - flow.slowSum([...pseudo, ...message])
  message.splice(2, 2, sum >> 8, sum & 0xff)
  return Buffer.from([...head, ...SUBNET6_A, ...to, ...message]).toString('hex')
}

const errors = (host: TestHost): string[] =>
  host.raw.drain().map(({ bytes }) => Buffer.from(bytes).toString('hex'))

const lower = (bytes: Uint8Array): Uint8Array => {
  const copy = bytes.slice()
  copy[7] = (copy[7] ?? 0) - 1
  return copy
}

const long = flow.createPayload(1400)
const cases: readonly {
  readonly name: string
  readonly bytes: Uint8Array
  readonly want: number
  readonly type: number
  readonly code: number
}[] = [
  {
    name: 'nobody has it',
    bytes: toPeer({ to: OTHER }),
    want: verdict.DROP_NO_ROUTE,
    type: 1,
    code: 0,
  },
  {
    name: 'long',
    bytes: toPeer({ to: OTHER, payload: long }),
    want: verdict.DROP_NO_ROUTE,
    type: 1,
    code: 0,
  },
  {
    name: 'the peer takes no IPv6',
    bytes: toPeer({ to: NO_IPV6 }),
    want: verdict.DROP_PEER_NO_IPV6,
    type: 1,
    code: 3,
  },
  { name: 'the last hop', bytes: toPeer({ ttl: 1 }), want: verdict.DROP_TTL, type: 3, code: 0 },
]
for (const { name, bytes, want, type, code } of cases) {
  t.test(`egress, ${name}: ${verdict.verdictName(want)} earns ${type}/${code}`, async (t) => {
    const host = create()
    host.inside.inject(bytes)
    host.engine.breath()
    t.equal(host.counters.packets(EGRESS, want), 1)
    const sent = host.raw.drain()
    t.same(
      sent.map((one) => Buffer.from(one.bytes).toString('hex')),
      [error(type, code, 0, bytes, [...HOST_A6])],
    )
    t.same(sent[0]?.to, endpoint6(Uint8Array.from(HOST_A6), 0))
    t.equal(host.counters.gaugeValue(ICMP_SENT), 1)
  })
}

t.test('ingress: the last hop, told to the sender behind the peer', async (t) => {
  const host = create()
  const bytes = packet({ from: HOST_B6, to: HOST_A6, ttl: 1 })
  host.outside.inject(bytes, PEER)
  host.engine.breath()
  t.equal(host.counters.packets(INGRESS, verdict.DROP_TTL), 1)
  t.same(errors(host), [error(TIME_EXCEEDED, 0, 0, bytes, [...HOST_B6])])
})

t.test('a peer that cannot be reached', async (t) => {
  const host = create()
  host.outside.refuseNext(EHOSTUNREACH)
  host.inside.inject(toPeer())
  host.engine.breath()
  t.same(errors(host), [error(UNREACHABLE, 3, 0, lower(toPeer()), [...HOST_A6])])
})

for (const encap of UDP_ENCAPS) {
  for (const outer of [4, 6] as const) {
    t.test(`${encap} over IPv${outer}: too big for the path`, async (t) => {
      const before = encap === 'udp' ? 0 : 22
      const peer = outer === 4 ? PEER : endpoint6(addressBytes6(PUBLIC6_B), PORT)
      const host = create({ encap, outer })
      host.outside.narrowPath(peer, 1350 + before)
      const bytes = toPeer({ payload: flow.createPayload(1351 - 48) })
      host.inside.inject(bytes)
      host.engine.breath()
      t.equal(host.counters.packets(EGRESS, verdict.DROP_TOO_BIG), 1)
      const about = encap === 'udp' ? lower(bytes) : bytes
      t.same(errors(host), [error(TOO_BIG, 0, 1350, about, [...HOST_A6])])
    })
    t.test(
      `${encap} over IPv${outer}: 1280 bytes pass a narrower path, in fragments`,
      async (t) => {
        const peer = outer === 4 ? PEER : endpoint6(addressBytes6(PUBLIC6_B), PORT)
        const host = create({ encap, outer })
        host.outside.narrowPath(peer, 1000)
        for (const length of [1280, 1281, 999, 1001]) {
          host.inside.inject(toPeer({ payload: flow.createPayload(length - 48) }))
        }
        host.engine.breath()
        t.equal(host.counters.packets(EGRESS, verdict.DROP_TOO_BIG), 1)
        t.equal(host.counters.packets(EGRESS, verdict.FORWARD), 3)
        t.equal(host.counters.gaugeValue(SENT_IN_FRAGMENTS), encap === 'udp' ? 2 : 3)
        t.equal(host.outside.drain().length, 3)
        const [one, ...more] = errors(host)
        t.same(more, [])
        t.match(one?.slice(80, 96), /^0200....00000500$/, 'never less than 1280')
      },
    )
  }
}

const icmp = (...bytes: number[]): flow.PacketSpec => ({
  // As an extension header's worth of bytes: the fixture knows UDP and TCP alone.
  nextHeader: 58,
  options: bytes,
})
const silent: readonly [string, flow.PacketSpec][] = [
  ['an ICMPv6 error', icmp(1, 0, 0, 0, 0, 0, 0, 0)],
  ['an unknown ICMPv6 error', icmp(127, 0, 0, 0, 0, 0, 0, 0)],
  ['a redirect', icmp(137, 0, 0, 0, 0, 0, 0, 0)],
  ['an error behind options', { nextHeader: 60, options: [58, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0] }],
  ['headers that lead out of the packet', { nextHeader: 60, options: [17, 200, 1, 4, 0, 0, 0, 0] }],
  ['a later fragment of ICMPv6', { nextHeader: 44, options: [58, 0, 0, 8, 0, 0, 0, 1] }],
  ['no source', { from: new Array<number>(16).fill(0) }],
  ['loopback', { from: [...new Array<number>(15).fill(0), 1] }],
  ['a multicast source', { from: [0xff, 2, ...new Array<number>(13).fill(0), 1] }],
  ['a link-local source', { from: [0xfe, 0x80, ...new Array<number>(13).fill(0), 1] }],
  ['a multicast destination', { to: [0xff, 5, ...new Array<number>(13).fill(0), 1] }],
]
for (const [name, spec] of silent) {
  t.test(`none about ${name}`, async (t) => {
    const host = create()
    host.inside.inject(toPeer({ to: OTHER, ...spec }))
    host.engine.breath()
    t.equal(host.counters.packets(EGRESS, verdict.DROP_NO_ROUTE), 1)
    t.same(errors(host), [])
  })
}
const told: readonly [string, flow.PacketSpec][] = [
  ['an echo request', icmp(128, 0, 0, 0, 0, 0, 0, 0)],
  ['a later fragment of UDP', { nextHeader: 44, options: [17, 0, 0, 8, 0, 0, 0, 1] }],
  ['options', { nextHeader: 60, options: [17, 0, 1, 4, 0, 0, 0, 0] }],
]
for (const [name, spec] of told) {
  t.test(`one about ${name}`, async (t) => {
    const host = create()
    const bytes = toPeer({ to: OTHER, ...spec })
    host.inside.inject(bytes)
    host.engine.breath()
    t.same(errors(host), [error(UNREACHABLE, 0, 0, bytes, [...HOST_A6])])
  })
}

t.test('ten at once for a sender, one more each 100 ms, and others have their own', async (t) => {
  const host = create()
  const from = (last: number): number[] => [...HOST_A6.slice(0, 15), last]
  const send = (last: number, count: number): number => {
    for (let i = 0; i < count; i++) host.inside.inject(toPeer({ from: from(last), to: OTHER }))
    while (host.engine.breath() > 0);
    return errors(host).length
  }
  t.equal(send(7, 25), 10)
  t.equal(host.counters.gaugeValue(ICMP_LIMITED), 15)
  t.equal(send(8, 3), 3)
  host.advance(200)
  t.equal(send(7, 25), 2)
})

t.test('a network without IPv6 tells nobody anything', async (t) => {
  const host = createTestHost()
  host.inside.inject(toPeer({ to: OTHER }))
  host.engine.breath()
  t.equal(host.counters.packets(EGRESS, verdict.DROP_IPV6_UNSUPPORTED), 1)
  t.same(errors(host), [])
})
