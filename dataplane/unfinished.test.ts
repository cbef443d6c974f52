/**
 * What a kernel peer on the same machine hands over (`vxlan`): unfinished checksums and whole
 * super-packets come out as the packets that a wire would have shown, whatever the TUN device takes.
 */
import t from 'tap'
import { EGRESS, INGRESS, READ, UNFINISHED_TAKEN } from './counters.js'
import * as flow from './flow-fixture.js'
import { ACK, ECE, HOST_A, HOST_A6, HOST_B, HOST_B6, PSH, UDP } from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createPrefix,
  createTestHost,
  MTU,
  PORT,
  PUBLIC_B,
  type EncapName,
} from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import { NO_OFFLOAD, type OffloadOptions } from './offload/offload.js'
import * as verdict from './packet/verdict.js'

const IPV4 = { from: HOST_B, to: HOST_A }
const IPV6 = { from: HOST_B6, to: HOST_A6 }
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const payload = (len: number): number[] => Array.from(flow.createPayload(len))

/** From a kernel of host B: its VXLAN header names the EtherType of what follows. */
function wrap(packet: Uint8Array, encap: EncapName = 'vxlan'): Uint8Array {
  const prefix = createPrefix(encap, true)
  if (encap === 'vxlan' && (packet[0] ?? 0) >> 4 === 6) prefix.set([0x86, 0xdd], prefix.length - 2)
  return new Uint8Array(Buffer.concat([prefix, packet]))
}

function deliver(
  datagrams: readonly Uint8Array[],
  offload: OffloadOptions,
  encap: EncapName = 'vxlan',
) {
  const host = createTestHost({ encap, offload, hasIpv6: true })
  for (const datagram of datagrams) host.outside.inject(datagram, endpoint4(PUBLIC_B, PORT))
  while (host.engine.breath() > 0);
  const written = host.inside.drainWithHeaders()
  return {
    host,
    written: written.length,
    packets: written.flatMap(({ vnet, packet }) => flow.createWritten(vnet, packet)),
  }
}

const devices: readonly [string, OffloadOptions][] = [
  ['all offloads', ALL_OFFLOADS],
  ['no offloads', NO_OFFLOAD],
  ['nothing joined', { ...ALL_OFFLOADS, canJoinTcp: false, canJoinUdp: false }],
]

const cases: readonly { name: string; packet: Uint8Array; headers: number }[] = [
  {
    name: 'TCP, 10 bytes',
    packet: flow.createPacket({ ...IPV4, payload: payload(10) }),
    headers: 40,
  },
  { name: 'TCP, none', packet: flow.createPacket({ ...IPV4 }), headers: 40 },
  {
    name: 'UDP, odd',
    packet: flow.createPacket({ ...IPV4, protocol: UDP, payload: payload(101) }),
    headers: 28,
  },
  {
    name: 'TCP, as long as fits',
    packet: flow.createPacket({ ...IPV4, payload: payload(MTU - 40) }),
    headers: 40,
  },
  {
    name: 'TCP, one byte more',
    packet: flow.createPacket({ ...IPV4, payload: payload(MTU - 39) }),
    headers: 40,
  },
  {
    name: 'TCP with timestamps, 60 000 bytes',
    packet: flow.createPacket({
      ...IPV4,
      tcpOptions: TIMESTAMPS,
      flags: ACK | PSH | ECE,
      payload: payload(60_000),
    }),
    headers: 52,
  },
  {
    name: 'TCP over IPv6, 30 001 bytes',
    packet: flow.createPacket({ ...IPV6, payload: payload(30_001) }),
    headers: 60,
  },
  {
    name: 'UDP over IPv6',
    packet: flow.createPacket({ ...IPV6, protocol: UDP, payload: payload(99) }),
    headers: 48,
  },
]

for (const [device, offload] of devices) {
  for (const { name, packet, headers } of cases) {
    t.test(`${device}: ${name}`, async (t) => {
      const want = packet.length > MTU ? flow.createSegments(packet, MTU - headers) : [packet]
      const { host, packets, written } = deliver([wrap(flow.createUnfinished(packet))], offload)
      t.same(packets.map(flow.describeBytes), want.map(flow.describeBytes))
      t.equal(host.counters.gaugeValue(UNFINISHED_TAKEN), 1)
      const forwarded = host.counters.packets(INGRESS, verdict.FORWARD)
      t.equal(forwarded, written)
      t.equal(host.counters.gaugeValue(READ + INGRESS), written, 'read = forwarded')
      if (offload.hasVnet) t.equal(written, 1)
    })
  }

  t.test(`${device}: finished and unfinished ones keep their order`, async (t) => {
    const series = [0, 1, 2, 3, 4, 5].map((n) => {
      const spec = { ...IPV4, seq: 1000 + n * 500, payload: payload(500) }
      return { n, packet: flow.createPacket(spec) }
    })
    const datagrams = series.map(({ n, packet }) =>
      wrap(n % 3 === 1 ? flow.createUnfinished(packet) : packet),
    )
    const { packets } = deliver(datagrams, offload)
    t.same(
      packets.map(flow.describeBytes),
      series.map(({ packet }) => flow.describeBytes(packet)),
    )
  })

  t.test(`${device}: what is none, or cannot be finished`, async (t) => {
    const long = flow.createPacket({ ...IPV4, payload: payload(20_000) })
    const udp = flow.createPacket({ ...IPV4, protocol: UDP, payload: payload(20_000) })
    const lying = flow.createUnfinished(long)
    // A TCP header of 60 words' worth of nothing: its length is below five words.
    lying[32] = 0x10
    const refused = [long, flow.createUnfinished(udp), lying]
    const { host, packets } = deliver(
      refused.map((packet) => wrap(packet)),
      offload,
    )
    t.same(packets, [])
    t.equal(host.counters.packets(INGRESS, verdict.DROP_OVERSIZE), 3)
    t.equal(host.counters.packets(EGRESS, verdict.FORWARD), 0)
  })
}

t.test('over udp nothing is taken on trust', async (t) => {
  const packet = flow.createUnfinished(flow.createPacket({ ...IPV4, payload: payload(10) }))
  const { host, packets } = deliver([wrap(packet, 'udp')], ALL_OFFLOADS, 'udp')
  t.equal(host.counters.gaugeValue(UNFINISHED_TAKEN), 0)
  // Aged by one, and its transport checksum as wrong as it was.
  t.equal(packets[0]?.[36], packet[36])
  t.equal(packets[0]?.[37], packet[37])
})
