/**
 * VXLAN before and around a packet: the bytes written, and each thing that can be wrong with those
 * that arrive.
 */
import fc from 'fast-check'
import t from 'tap'
import { createFib } from '../fib/lpm-writer.js'
import { createHopTable } from '../fib/nexthop.js'
import { createPrefix, createTestHost, MAC_A, MAC_B, PORT, PUBLIC_A, VNI } from '../host-fixture.js'
import * as flow from '../flow-fixture.js'
import { endpoint4 } from '../io/endpoint.js'
import { verdictName } from '../packet/verdict.js'
import { counted } from '../offload-fixture.js'
import { createVxlan } from './vxlan.js'

const { shared, hops: writer } = createFib({ readers: 1, reserveBytes: 4 << 20, maxHops: 4 })
const hop = writer.addPeer(1, 8472, MAC_B)
const hops = createHopTable(shared)
const vxlan = createVxlan({ vni: 0xabcdef, mac: MAC_A, hops })

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

t.test('push writes 22 bytes and nothing else', async (t) => {
  for (const [first, type] of [
    [0x45, '0800'],
    [0x60, '86dd'],
  ] as const) {
    const bytes = new Uint8Array(64).fill(0xff)
    bytes[30] = first
    vxlan.push(new DataView(bytes.buffer), 30, hop)
    const rest = 'ff'.repeat(33)
    const first2 = first.toString(16)
    t.equal(
      hex(bytes),
      `${'ff'.repeat(8)}08000000abcdef000e000000000b0e000000000a${type}${first2}${rest}`,
    )
  }
})

/** A datagram for host B, with bytes replaced. */
function datagram(changes: Readonly<Record<number, readonly number[]>> = {}): Uint8Array {
  const packet = flow.createPacket({ from: flow.HOST_A, to: flow.HOST_B, payload: [1, 2, 3] })
  const bytes = new Uint8Array(Buffer.concat([createPrefix('vxlan', false), packet]))
  for (const [at, values] of Object.entries(changes)) bytes.set(values, Number(at))
  return bytes
}

const cases: readonly (readonly [name: string, bytes: Uint8Array, verdict: string])[] = [
  ['as the other host sends it', datagram(), 'forward'],
  ['reserved bits set, which are ignored', datagram({ 0: [0xff, 1, 2, 3], 7: [9] }), 'forward'],
  ['any source MAC', datagram({ 14: [2, 4, 6, 8, 10, 12] }), 'forward'],
  ['no I flag', datagram({ 0: [0xf7] }), 'drop_vxlan_flags'],
  ['another VNI', datagram({ 4: [0, 0, 2] }), 'drop_vxlan_vni'],
  ['a VNI that differs in its highest byte', datagram({ 4: [1] }), 'drop_vxlan_vni'],
  ['broadcast', datagram({ 8: [255, 255, 255, 255, 255, 255] }), 'drop_vxlan_group'],
  ['multicast', datagram({ 8: [0x33, 0x33] }), 'drop_vxlan_group'],
  ['another MAC, low', datagram({ 13: [0x0c] }), 'drop_vxlan_mac'],
  ['another MAC, high', datagram({ 8: [0x0c] }), 'drop_vxlan_mac'],
  ['802.1Q', datagram({ 20: [0x81, 0] }), 'drop_vxlan_vlan'],
  ['802.1ad', datagram({ 20: [0x88, 0xa8] }), 'drop_vxlan_vlan'],
  ['the old provider tag', datagram({ 20: [0x91, 0] }), 'drop_vxlan_vlan'],
  ['ARP to one station', datagram({ 20: [8, 6] }), 'drop_vxlan_ethertype'],
  ['a length for an EtherType', datagram({ 20: [0, 43] }), 'drop_vxlan_ethertype'],
  ['IPv6 that says IPv4', datagram({ 22: [0x60] }), 'drop_vxlan_ethertype'],
  ['IPv4 that says IPv6', datagram({ 20: [0x86, 0xdd] }), 'drop_vxlan_ethertype'],
  ['IPv6', datagram({ 20: [0x86, 0xdd], 22: [0x60] }), 'drop_ipv6_unsupported'],
  ['nothing inside', datagram().subarray(0, 22), 'drop_not_ip'],
  ['cut within the inner header', datagram().subarray(0, 30), 'drop_ipv4_truncated'],
]

/** What host B makes of a datagram. */
function fate(bytes: Uint8Array): { verdict: string; delivered: Uint8Array[] } {
  const host = createTestHost({ isB: true, encap: 'vxlan' })
  host.outside.inject(bytes, endpoint4(PUBLIC_A, PORT))
  host.engine.breath()
  const [name = ''] = Object.keys(counted(host))
  return { verdict: name.replace('ingress ', ''), delivered: host.inside.drain() }
}

for (const [name, bytes, verdict] of cases) {
  t.test(name, async (t) => {
    const { verdict: got, delivered } = fate(bytes)
    t.equal(got, verdict)
    t.same(delivered.map(hex), verdict === 'forward' ? [hex(bytes.subarray(22))] : [])
  })
}

t.test('truncated at every byte of the headers', async (t) => {
  for (let len = 1; len < 22; len++) {
    t.equal(fate(datagram().subarray(0, len)).verdict, 'drop_vxlan_truncated', String(len))
  }
})

t.test('any bytes get a verdict, and only whole packets for us are delivered', async () => {
  const view = new DataView(new ArrayBuffer(256))
  const own = createVxlan({ vni: VNI, mac: MAC_B, hops })
  const mutated = fc
    .array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 })
    .map((changes) => datagram(Object.fromEntries(changes.map(([at, value]) => [at, [value]]))))
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 200 })), fc.nat(200), (bytes, len) => {
      new Uint8Array(view.buffer).fill(0).set(bytes)
      const verdict = own.pull(view, 0, Math.min(len, bytes.length))
      if (verdictName(verdict) === 'verdict_unknown') return false
      const isOurs = hex(bytes.subarray(8, 14)) === '0e000000000b' && bytes[6] === VNI
      return verdict !== 0 || isOurs
    }),
    { numRuns: 5000 },
  )
})

t.test('what a host sends: the TTL is not touched, however low', async (t) => {
  const host = createTestHost({ encap: 'vxlan' })
  const packet = flow.createPacket({ from: flow.HOST_A, to: flow.HOST_B, ttl: 1, payload: [7] })
  host.inside.inject(packet)
  host.engine.breath()
  const [sent] = host.outside.drain()
  t.equal(hex(sent!.bytes), `08000000000001000e000000000b0e000000000a0800${hex(packet)}`)
})
