/**
 * IPv6 through the engine on devices in memory: the same path as IPv4 with the same verdicts, both
 * backends; what differs is the header.
 */
import t from 'tap'
import { EGRESS, INGRESS, SENT_IN_FRAGMENTS } from './counters.js'
import * as flow from './flow-fixture.js'
import {
  createAddress,
  createTestHost,
  UDP_ENCAPS,
  PORT,
  PUBLIC_B,
  type TestHost,
} from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'

const STRANGER = createAddress('172.30.0.66')
const { HOST_A6, HOST_B6 } = flow
const OTHER = [...HOST_B6.slice(0, 3), 3, ...HOST_B6.slice(4)]

const packet = (spec: flow.PacketSpec): Uint8Array =>
  flow.createPacket({ protocol: flow.UDP, payload: [1, 2, 3], ttl: 63, ...spec })
const toPeer = (spec: flow.PacketSpec = {}): Uint8Array =>
  packet({ from: HOST_A6, to: HOST_B6, ...spec })
const toUs = (spec: flow.PacketSpec = {}): Uint8Array =>
  packet({ from: HOST_B6, to: HOST_A6, ...spec })

/** The packet with another hop limit; nothing sums over it. */
function aged(bytes: Uint8Array, hopLimit: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[7] = hopLimit
  return copy
}

function breathe(host: TestHost): void {
  host.engine.breath()
}

for (const encap of UDP_ENCAPS) {
  t.test(`${encap}: out and in, hop limit as the backend has it`, async (t) => {
    const a = createTestHost({ encap, hasIpv6: true })
    a.inside.inject(toPeer())
    breathe(a)
    const [sent] = a.outside.drain()
    t.same(sent?.to, endpoint4(PUBLIC_B, PORT))
    const hopLimit = encap === 'udp' ? 62 : 63
    const inner = Buffer.from(sent?.bytes ?? []).subarray(encap === 'udp' ? 0 : 22)
    t.same(inner, aged(toPeer(), hopLimit))
    if (encap === 'vxlan') t.same(Buffer.from(sent?.bytes ?? []).readUInt16BE(20), 0x86dd)

    const b = createTestHost({ encap, isB: true, hasIpv6: true })
    b.outside.inject(
      sent?.bytes ?? new Uint8Array(0),
      endpoint4(createAddress('172.30.0.11'), PORT),
    )
    breathe(b)
    t.same(b.inside.drain().map(Buffer.from), [aged(toPeer(), encap === 'udp' ? 61 : 63)])
  })
}

const cut = (bytes: Uint8Array, by: number): Uint8Array => bytes.slice(0, bytes.length - by)

const egress: readonly [string, Uint8Array, number][] = [
  ['a byte is missing', cut(toPeer(), 1), verdict.DROP_IPV6_TRUNCATED],
  ['half a header', toPeer().slice(0, 20), verdict.DROP_IPV6_TRUNCATED],
  ['nobody has it', toPeer({ to: OTHER }), verdict.DROP_NO_ROUTE],
  ['it is ours', toPeer({ to: HOST_A6 }), verdict.DROP_LOOP],
  ['the last hop', toPeer({ ttl: 1 }), verdict.DROP_TTL],
  ['no hop at all', toPeer({ ttl: 0 }), verdict.DROP_TTL],
]
const ingress: readonly [string, Uint8Array, number, number?][] = [
  ['a byte is missing', cut(toUs(), 1), verdict.DROP_IPV6_TRUNCATED],
  ['one byte', Uint8Array.of(0x60), verdict.DROP_IPV6_TRUNCATED],
  ['longer than the MTU', toUs({ payload: new Uint8Array(1500) }), verdict.DROP_OVERSIZE],
  ['not for us', toUs({ to: OTHER }), verdict.DROP_NOT_OUR_SUBNET],
  ['the last hop', toUs({ ttl: 1 }), verdict.DROP_TTL],
  ['from our own pod', toUs({ from: HOST_A6 }), verdict.DROP_SOURCE_FORGED],
  ['from a stranger', toUs(), verdict.DROP_SOURCE_UNKNOWN, STRANGER],
  ['of no lease, from a peer', toUs({ from: OTHER }), verdict.FORWARD],
]

for (const [name, bytes, want] of egress) {
  t.test(`egress: ${name}: ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost({ hasIpv6: true })
    host.inside.inject(bytes)
    breathe(host)
    t.equal(host.counters.packets(EGRESS, want), 1)
    t.same(host.outside.drain(), [])
  })
}
for (const [name, bytes, want, from = PUBLIC_B] of ingress) {
  t.test(`ingress: ${name}: ${verdict.verdictName(want)}`, async (t) => {
    const host = createTestHost({ hasIpv6: true })
    host.outside.inject(bytes, endpoint4(from, PORT))
    breathe(host)
    t.equal(host.counters.packets(INGRESS, want), 1)
    t.equal(host.inside.drain().length, want === verdict.FORWARD ? 1 : 0)
  })
}

t.test('a network without IPv6 carries none, either way', async (t) => {
  const host = createTestHost()
  host.inside.inject(toPeer())
  host.outside.inject(toUs(), endpoint4(PUBLIC_B, PORT))
  breathe(host)
  for (const direction of [EGRESS, INGRESS]) {
    t.equal(host.counters.packets(direction, verdict.DROP_IPV6_UNSUPPORTED), 1)
  }
})

t.test('neighbours of both families are judged each by its own source', async (t) => {
  const host = createTestHost({ hasIpv6: true })
  const four = (from: readonly number[]): Uint8Array => packet({ from, to: flow.HOST_A })
  const own = [10, 5, 1, 7]
  for (const bytes of [toUs(), four(own), toUs({ from: HOST_A6 }), four(flow.HOST_B), toUs()]) {
    host.outside.inject(bytes, endpoint4(PUBLIC_B, PORT))
  }
  breathe(host)
  t.equal(host.counters.packets(INGRESS, verdict.FORWARD), 3)
  t.equal(host.counters.packets(INGRESS, verdict.DROP_SOURCE_FORGED), 2)
})

t.test('longer than the path and than 1280 bytes: never sent in fragments', async (t) => {
  // Next header TCP: read as IPv4's flags it would say that fragments are welcome.
  const host = createTestHost({ hasIpv6: true })
  host.outside.narrowPath(endpoint4(PUBLIC_B, PORT), 1280)
  host.inside.inject(toPeer({ protocol: flow.TCP, payload: flow.createPayload(1300) }))
  breathe(host)
  t.equal(host.counters.packets(EGRESS, verdict.DROP_TOO_BIG), 1)
  t.equal(host.counters.gaugeValue(SENT_IN_FRAGMENTS), 0)
  t.same(host.outside.drain(), [])
})
