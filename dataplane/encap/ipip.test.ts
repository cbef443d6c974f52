/**
 * Protocol 4 before and around a packet: the header written, field by field, and each thing that can be
 * odd about one that arrives. The table of ECN is RFC 6040's, as Linux has it.
 */
import t from 'tap'
import * as flow from '../flow-fixture.js'
import { DF, UDP } from '../flow-fixture.js'
import { createPrefix, createTestHost, PUBLIC_A, PUBLIC_B, type TestHost } from '../host-fixture.js'
import { endpoint4 } from '../io/endpoint.js'
import { counted } from '../offload-fixture.js'
import * as ipv4 from '../wire/ipv4.js'

const FROM_A = { from: flow.HOST_A, to: flow.HOST_B, protocol: UDP, payload: [1, 2, 3] }
const FROM_B = { ...FROM_A, from: flow.HOST_B, to: flow.HOST_A }

/** What leaves host A for a packet. */
function sent(spec: flow.PacketSpec): Buffer {
  const host = createTestHost({ encap: 'ipip' })
  host.inside.inject(flow.createPacket({ ...FROM_A, ...spec }))
  host.engine.breath()
  const [datagram] = host.outside.drain()
  t.same(datagram!.to, endpoint4(PUBLIC_B, 0))
  return Buffer.from(datagram!.bytes)
}

const outgoing: readonly (readonly [spec: flow.PacketSpec, outer: string])[] = [
  // Class, length 20 + 31, identification, flags, TTL, protocol.
  [{ ttl: 64, fragment: DF }, '45000033 0000 4000 40 04'],
  [{ ttl: 1, fragment: 0 }, '45000033 0000 0000 01 04'],
  [{ tos: 0xb9, ttl: 9, fragment: 0x2000 }, '45010033 0000 0000 09 04'],
  [{ tos: 2, ttl: 255, fragment: DF }, '45020033 0000 4000 ff 04'],
  [{ tos: 3, ttl: 64, fragment: DF | 0x8000 }, '45020033 0000 4000 40 04'],
]

for (const [spec, outer] of outgoing) {
  t.test(`out: ${JSON.stringify(spec)}`, async (t) => {
    const bytes = sent(spec)
    t.equal(bytes.toString('hex', 0, 10), outer.replaceAll(' ', ''))
    t.equal(bytes.readUInt32BE(12), 0, 'the source is left to the kernel')
    t.equal(bytes.readInt32BE(16), PUBLIC_B | 0)
    const inner = flow.createPacket({ ...FROM_A, ...spec })
    t.equal(flow.describeBytes(bytes.subarray(20)), flow.describeBytes(inner))
  })
}

function deliver(datagram: Uint8Array): { host: TestHost; packets: string[] } {
  const host = createTestHost({ encap: 'ipip' })
  host.outside.inject(datagram, endpoint4(PUBLIC_B, 0))
  host.engine.breath()
  return { host, packets: host.inside.drain().map(flow.describeBytes) }
}

/** From host B, with bytes of the outer header replaced and options put behind it. */
function fromB(inner: Uint8Array, changes: Record<number, number> = {}, options = 0): Uint8Array {
  const outer = createPrefix('ipip', true)
  const bytes = Buffer.concat([outer, new Uint8Array(options).fill(1), inner])
  bytes.writeUInt8(0x45 + options / 4, 0)
  bytes.writeUInt16BE(bytes.length, 2)
  for (const [at, value] of Object.entries(changes)) bytes.writeUInt8(value, Number(at))
  return bytes
}

const plain = flow.createPacket(FROM_B)
const incoming: readonly (readonly [name: string, datagram: Uint8Array, verdict: string])[] = [
  ['as a kernel sends it', fromB(plain), 'forward'],
  ['a DSCP outside, which stays there', fromB(plain, { 1: 0xb8 }), 'forward'],
  ['4 bytes of options', fromB(plain, {}, 4), 'forward'],
  ['40 bytes of options', fromB(plain, {}, 40), 'forward'],
  ['another protocol', fromB(plain, { 9: 41 }), 'drop_ipip_malformed'],
  ['IPv6 outside', fromB(plain, { 0: 0x65 }), 'drop_ipip_malformed'],
  ['a header of 4 words', fromB(plain, { 0: 0x44 }), 'drop_ipip_malformed'],
  ['longer than it is', fromB(plain, { 2: 0xff }), 'drop_ipip_malformed'],
  ['cut in the outer header', fromB(plain).subarray(0, 19), 'drop_ipip_malformed'],
  ['nothing inside', fromB(new Uint8Array(0)), 'drop_not_ip'],
  ['congested, and nothing inside', fromB(new Uint8Array(0), { 1: 3 }), 'drop_not_ip'],
  [
    'congested, and the inner header cut',
    fromB(plain.subarray(0, 19), { 1: 3 }),
    'drop_ipv4_truncated',
  ],
  ['IPv6 inside', fromB(Uint8Array.of(0x60, ...new Uint8Array(60))), 'drop_ipv6_unsupported'],
  [
    'for another host',
    fromB(flow.createPacket({ ...FROM_B, to: [10, 5, 9, 1] })),
    'drop_not_our_subnet',
  ],
]

for (const [name, datagram, verdict] of incoming) {
  t.test(`in: ${name}`, async (t) => {
    const { host, packets } = deliver(datagram)
    t.same(counted(host), { [`ingress ${verdict}`]: 1 })
    t.same(packets, verdict === 'forward' ? [flow.describeBytes(plain)] : [])
  })
}

/** By inner and outer field: what comes out, null = nothing. Source: RFC 6040 §4.2; of two ECTs the inner one stays, as in Linux. */
const ecn: readonly (readonly (number | null)[])[] = [
  [0, 0, 0, null],
  [1, 1, 1, 3],
  [2, 2, 2, 3],
  [3, 3, 3, 3],
]

t.test('in: ECN', async (t) => {
  for (const [inner, row] of ecn.entries()) {
    for (const [outer, wanted] of row.entries()) {
      const { host, packets } = deliver(
        fromB(flow.createPacket({ ...FROM_B, tos: 0xb8 | inner }), { 1: outer }),
      )
      const name = `inner ${inner}, outer ${outer}`
      if (wanted === null) {
        t.same(counted(host), { 'ingress drop_ipip_congested': 1 }, name)
        continue
      }
      const want = flow.createPacket({ ...FROM_B, tos: 0xb8 | wanted })
      t.same(packets, [flow.describeBytes(want)], name)
      t.ok(ipv4.isChecksumRight(new DataView(want.buffer), 0), 'and the sum with it')
    }
  }
})

t.test('from a host that holds no lease', async (t) => {
  const host = createTestHost({ encap: 'ipip' })
  host.outside.inject(fromB(plain), endpoint4(PUBLIC_A, 0))
  host.engine.breath()
  t.same(counted(host), { 'ingress drop_source_unknown': 1 })
})
