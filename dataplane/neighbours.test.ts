/**
 * Questions for our MAC address through the tunnel: which are answered, to whom, with which bytes, and
 * how many.
 */
import t from 'tap'
import { ANSWERS_FAILED } from './counters.js'
import {
  createTestHost,
  MAC_A,
  PORT,
  PUBLIC6_A,
  PUBLIC_A,
  PUBLIC_B,
  SUBNET6_A,
  SUBNET6_B,
  VNI,
  type TestHost,
} from './host-fixture.js'
import { endpoint4, endpoint6 } from './io/endpoint.js'
import { counted } from './offload-fixture.js'
import { addressBytes6 } from './address.js'
import { slowSum } from './flow-fixture.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const VXLAN = [8, 0, 0, 0, 0, 0, VNI, 0]
const A = [0x0e, 0, 0, 0, 0, 0x0a]
const B = [0x0e, 0, 0, 0, 0, 0x0b]
const ALL = [255, 255, 255, 255, 255, 255]
const ZERO = [0, 0, 0, 0, 0, 0]
const [BASE_A, BASE_B] = [
  [10, 5, 1, 0],
  [10, 5, 2, 0],
]
/** A peer's source port is any; it listens at the one that is known. */
const FROM_A = endpoint4(PUBLIC_A, 51_234)

type Bytes = readonly number[]
/** What host A's kernel asks: who has the base address of host B? */
const request = ({ to = ALL, operation = 1, target = BASE_B, kind = 1 } = {}): number[] => [
  ...[...VXLAN, ...to, ...A, 8, 6],
  ...[0, kind, 8, 0, 6, 4, 0, operation, ...A, ...BASE_A, ...ZERO, ...target],
]

/** An ICMPv6 message in its frame; the checksum is right. */
function message6(
  { to, from, hops = 255 }: { to: Bytes; from: Bytes; hops?: number },
  src: Bytes,
  dst: Bytes,
  icmp: Bytes,
): number[] {
  const sum = 0xffff ^ slowSum([...src, ...dst, 0, 0, 0, icmp.length, 0, 0, 0, 58, ...icmp])
  const checked = [icmp[0]!, icmp[1]!, sum >> 8, sum & 255, ...icmp.slice(4)]
  const header = [0x60, 0, 0, 0, 0, icmp.length, 58, hops, ...src, ...dst]
  return [...VXLAN, ...to, ...from, 0x86, 0xdd, ...header, ...checked]
}
const OWN6 = [...SUBNET6_B]
const PEER6 = [...SUBNET6_A]
const GROUP6 = [0xff, 2, ...new Array<number>(9).fill(0), 1, 0xff, 0, 0, 0]
const GROUP_MAC = [0x33, 0x33, 0xff, 0, 0, 0]
const solicitation = ({
  to = GROUP_MAC,
  dst = GROUP6,
  src = PEER6,
  target = OWN6,
  hops = 255,
  type = 135,
} = {}): number[] =>
  message6({ to, from: A, hops }, src, dst, [
    ...[type, 0, 0, 0, 0, 0, 0, 0, ...target],
    ...[1, 1, ...A],
  ])

function ask(bytes: Bytes, from = FROM_A, host: TestHost = createHost()) {
  host.outside.inject(Uint8Array.from(bytes), from)
  host.engine.breath()
  const [name = ''] = Object.keys(counted(host))
  return { verdict: name.replace('ingress ', ''), sent: host.outside.drain() }
}
const createHost = (): TestHost => createTestHost({ isB: true, encap: 'vxlan', hasIpv6: true })

t.test('an ARP request is answered, to all or to us', async (t) => {
  for (const to of [ALL, B]) {
    const { verdict, sent } = ask(request({ to }))
    t.equal(verdict, 'neighbour_answered')
    const reply = [0, 1, 8, 0, 6, 4, 0, 2, ...B, ...BASE_B, ...A, ...BASE_A]
    const bytes = Uint8Array.from([...VXLAN, ...A, ...B, 8, 6, ...reply])
    t.same(
      sent.map(({ bytes, to }) => [hex(bytes), to]),
      [[hex(bytes), endpoint4(PUBLIC_A, PORT)]],
    )
  }
})

t.test('a neighbour solicitation is answered, to all or to us', async (t) => {
  const linkLocal = [0xfe, 0x80, ...new Array<number>(13).fill(0), 1]
  for (const [question, asker] of [
    [solicitation(), PEER6],
    [solicitation({ to: B, dst: OWN6 }), PEER6],
    [solicitation({ to: B, dst: OWN6, src: linkLocal }), linkLocal],
  ] as const) {
    const { verdict, sent } = ask(question)
    t.equal(verdict, 'neighbour_answered')
    const advertisement = message6({ to: A, from: B }, OWN6, asker, [
      ...[136, 0, 0, 0, 0x60, 0, 0, 0, ...OWN6],
      ...[2, 1, ...B],
    ])
    t.same(
      sent.map(({ bytes }) => hex(bytes)),
      [hex(Uint8Array.from(advertisement))],
    )
  }
})

t.test('other IPv6 packets to our MAC go on, whatever their hop limit', async (t) => {
  for (const hops of [254, 255]) {
    const echo = message6({ to: B, from: A, hops }, PEER6, OWN6, [128, 0, 0, 0, 0, 1, 0, 1])
    t.same(ask(echo), { verdict: 'forward', sent: [] }, `hop limit ${hops}`)
  }
})

t.test('an IPv6 underlay', async (t) => {
  const host = createTestHost({ isB: true, encap: 'vxlan', hasIpv6: true, outer: 6 })
  const from = endpoint6(addressBytes6(PUBLIC6_A), 50_000)
  const { sent } = ask(solicitation(), from, host)
  t.same(
    sent.map(({ to }) => to),
    [endpoint6(addressBytes6(PUBLIC6_A), PORT)],
  )
})

t.test('what is not answered', async (t) => {
  const broken = solicitation()
  broken[broken.length - 1]! ^= 1
  const cases: readonly (readonly [string, Bytes, string])[] = [
    ['a reply', request({ operation: 2 }), 'drop_vxlan_group'],
    ['for another address', request({ target: BASE_A }), 'drop_vxlan_group'],
    ['of other hardware', request({ kind: 6 }), 'drop_vxlan_group'],
    ['cut', request().slice(0, -1), 'drop_vxlan_group'],
    ['to us, cut', request({ to: B }).slice(0, -1), 'drop_vxlan_ethertype'],
    ['for another VTEP', request({ to: A }), 'drop_vxlan_mac'],
    ['IPv6: for another address', solicitation({ target: PEER6 }), 'drop_vxlan_group'],
    ['IPv6: through a router', solicitation({ hops: 254 }), 'drop_vxlan_group'],
    ['IPv6: an advertisement', solicitation({ type: 136 }), 'drop_vxlan_group'],
    [
      'IPv6: no address yet',
      solicitation({ src: new Array<number>(16).fill(0) }),
      'drop_vxlan_group',
    ],
    ['IPv6: a wrong checksum', broken, 'drop_vxlan_group'],
  ]
  for (const [name, bytes, verdict] of cases) t.same(ask(bytes), { verdict, sent: [] }, name)
  for (let len = 23; len < solicitation().length; len++) {
    t.same(ask(solicitation().slice(0, len)).sent, [], `${len} bytes`)
  }
})

t.test('a host without a lease is not answered, whatever the check', async (t) => {
  for (const mode of ['leases', 'off'] as const) {
    const host = createTestHost({ isB: true, encap: 'vxlan', ingressCheck: { mode } })
    const stranger = endpoint4(PUBLIC_B + 7, PORT)
    t.same(ask(request(), stranger, host), { verdict: 'drop_source_unknown', sent: [] })
  }
})

t.test('the limit: 64 at once, 100 a second, eight a breath', async (t) => {
  const host = createHost()
  const askOften = (times: number): number => {
    for (let i = 0; i < times; i++) {
      host.outside.inject(Uint8Array.from(request()), FROM_A)
      host.engine.breath()
    }
    return host.outside.drain().length
  }
  t.equal(askOften(100), 64)
  host.advance(50)
  t.equal(askOften(100), 5)
  t.match(counted(host), {
    'ingress neighbour_answered': 69,
    'ingress drop_neighbour_limited': 131,
  })
  host.advance(10_000)
  for (let i = 0; i < 20; i++) host.outside.inject(Uint8Array.from(request()), FROM_A)
  host.engine.breath()
  t.equal(host.outside.drain().length, 8)
})

t.test('an answer that cannot be sent is counted', async (t) => {
  const host = createHost()
  host.outside.refuseNext(101)
  t.equal(ask(request(), FROM_A, host).sent.length, 0)
  t.equal(host.counters.gaugeValue(ANSWERS_FAILED), 1)
})

t.test('the own MAC is that of the engine', async (t) => {
  const host = createTestHost({ encap: 'vxlan' })
  host.outside.inject(Uint8Array.from(request({ target: BASE_A })), endpoint4(PUBLIC_B, PORT))
  host.engine.breath()
  const [sent] = host.outside.drain()
  t.equal(hex(sent!.bytes.subarray(14, 20)), `0e00000000${MAC_A.low.toString(16).padStart(2, '0')}`)
})
