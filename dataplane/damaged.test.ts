/**
 * Damaged packets through an engine with offloads, both directions and families, single, in trains and
 * as super-packets: nothing throws, each packet gets one verdict, what is delivered is what a slow twin
 * finds in each datagram alone, and no byte outside a packet is read or written.
 */
import fc from 'fast-check'
import t from 'tap'
import { aged, deliverable, type Receiver } from './deliverable-fixture.js'
import * as flow from './flow-fixture.js'
import { HOST_A, HOST_A6, HOST_B, HOST_B6, TCP, UDP } from './flow-fixture.js'
import { Guard } from './guard-fixture.js'
import {
  createPrefix,
  createTestHost,
  ENCAPS,
  type EncapName,
  type TestHost,
} from './host-fixture.js'
import { NO_OFFLOAD, type OffloadOptions } from './offload/offload.js'
import { alone, counted, delivered, hexes, KERNELS, mergeTrains, PEER } from './offload-fixture.js'

t.setTimeout(120_000)

const MTU = 1450
const seed = Number(process.env['FC_SEED'] ?? fc.sample(fc.integer(), 1)[0])
t.comment(`FC_SEED=${seed}`)

/** A hop-by-hop header: a PadN option of 4 bytes (RFC 8200 §4.2). */
const PADDED = { nextHeader: 0, options: [TCP, 0, 1, 4, 0, 0, 0, 0] }
const habits: readonly flow.PacketSpec[] = [
  {},
  { protocol: UDP },
  { options: [148, 4, 0, 0], fragment: 0 },
  { fragment: 0x2000 },
  { from: HOST_B6, to: HOST_A6, fragment: 0 },
  { from: HOST_B6, to: HOST_A6, fragment: 0, protocol: UDP },
  { from: HOST_B6, to: HOST_A6, fragment: 0, ...PADDED },
]

type Changes = readonly (readonly [at: number, value: number])[]
/** What chance would seldom find: the other IP version in the VXLAN header, in the packet, and no flag. */
const aimed: readonly Changes[] = [
  [
    [20, 0x86],
    [21, 0xdd],
  ],
  [
    [20, 0x08],
    [21, 0x00],
  ],
  [[22, 0x60]],
  [[22, 0x45]],
  [[0, 0x00]],
]

/** Bytes changed, mostly of headers, and a new length; none at all, more often. */
const damage = fc.oneof(
  { weight: 3, arbitrary: fc.constant(null) },
  {
    weight: 1,
    arbitrary: fc.record({
      changes: fc.oneof(
        fc.constantFrom(...aimed),
        fc.array(fc.tuple(fc.oneof(fc.nat(90), fc.nat(1500)), fc.nat(255)), { maxLength: 3 }),
      ),
      len: fc.oneof(fc.constant(-1), fc.nat(24), fc.nat(100), fc.nat(MTU)),
    }),
  },
)
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never

/** Consecutive packets of a flow. */
const burst = fc.record({
  habit: fc.nat(habits.length - 1),
  size: fc.constantFrom(1, 100, 1360),
  damages: fc.array(damage, { minLength: 1, maxLength: 8 }),
})
type Burst = typeof burst extends fc.Arbitrary<infer T> ? T : never

function damaged(whole: Uint8Array, how: Damage): Uint8Array {
  if (how === null) return whole
  const bytes = new Uint8Array(how.len === -1 ? whole.length : how.len)
  bytes.set(whole.subarray(0, bytes.length))
  for (const [at, value] of how.changes) if (at < bytes.length) bytes[at] = value
  return bytes
}

/** Host B's packets for host A, or the other way. */
function packetOf({ habit, size, damages }: Burst, fromB: boolean): Uint8Array {
  const spec = { from: HOST_B, to: HOST_A, ...habits[habit] }
  const ends = fromB ? spec : { from: spec.to, to: spec.from }
  const payload = flow.createPayload(size * damages.length, habit)
  return flow.createPacket({ ...spec, ...ends, ports: [1000 + habit, 80], payload })
}

function datagramsOf(burst: Burst, encap: EncapName): Uint8Array[] {
  const packet = packetOf(burst, true)
  const prefix = createPrefix(encap, true)
  if (encap === 'vxlan' && (packet[0] ?? 0) >> 4 === 6) prefix.set([0x86, 0xdd], prefix.length - 2)
  return flow
    .createSegments(packet, burst.size)
    .map((bytes, n) => damaged(Buffer.concat([prefix, bytes]), burst.damages[n] ?? null))
}

/** What a super-packet of the kernel says of itself, damaged as well. */
const superPacket = fc.record({
  burst,
  isSuper: fc.boolean(),
  damage,
  vnet: fc.array(fc.tuple(fc.nat(9), fc.nat(255)), { maxLength: 1 }),
})
type SuperPacket = typeof superPacket extends fc.Arbitrary<infer T> ? T : never

/** Hosts that differ in what lies around their packets, which looks like either kind of packet. */
function createHosts(encap: EncapName, offload: OffloadOptions) {
  return [0x45, 0x66].map((filling) => {
    const host = createTestHost({
      encap,
      offload,
      mtu: MTU,
      hasIpv6: encap !== 'ipip',
      queueLen: 100_000,
      ingressCheck: { mode: 'off' },
    })
    return { host, guard: new Guard(host, filling) }
  })
}

/** What came out of a host, all of it, and what it counted. */
function outcome(host: TestHost) {
  const packets = delivered(host)
  const sent = host.outside.drain().map(({ bytes }) => bytes)
  const icmp = host.raw.drain().map(({ bytes }) => bytes)
  const text = JSON.stringify([counted(host), ...[packets, sent, icmp].map(hexes)])
  return { packets, sent, text }
}

function receiver(encap: EncapName): Receiver {
  const subnets = { subnet: '0a0501', subnet6: 'fd05000100000000' }
  return { encap, mac: '0e000000000a', vni: '000001', ...subnets, mtu: MTU }
}

/** Without the checksum of TCP or UDP, which a kernel on the same machine may leave unfinished (`vxlan`). */
function comparable(packet: Uint8Array, encap: EncapName): string {
  const copy = Buffer.from(packet)
  const l4 = copy.readUInt8(0) >> 4 === 6 ? 40 : 4 * (copy.readUInt8(0) & 15)
  const fields = encap === 'udp' ? [] : [l4 + 6, l4 + 7, l4 + 16, l4 + 17]
  for (const at of fields) if (at < copy.length) copy[at] = 0
  return flow.describeBytes(copy)
}

/** Throws where two lists do not hold the same packets, in any order. */
function compare(got: readonly string[], wanted: readonly string[]): void {
  const extra = [...got]
  const missing = wanted.filter((packet) => {
    const at = extra.indexOf(packet)
    if (at >= 0) extra.splice(at, 1)
    return at < 0
  })
  if (missing.length + extra.length > 0) {
    throw new Error(`not delivered: ${missing.join(' ')}, and delivered: ${extra.join(' ')}`)
  }
}

for (const encap of ENCAPS) {
  for (const [n, offload] of [NO_OFFLOAD, ...KERNELS].entries()) {
    t.test(`damaged datagrams, ${encap}, kernel ${n}`, async (t) => {
      const hosts = createHosts(encap, offload)
      const counts = { delivered: 0, refused: 0 }
      fc.assert(
        fc.property(
          fc.array(burst, { minLength: 1, maxLength: 8 }),
          fc.array(fc.nat(64), { maxLength: 4 }),
          (bursts, cuts) => {
            const datagrams = bursts.flatMap((each) => datagramsOf(each, encap))
            const wanted = datagrams
              .map((datagram) => deliverable(datagram, receiver(encap)))
              .filter((packet) => packet !== null)
              .map((packet) => comparable(aged(packet, encap), encap))
            const trains =
              offload.hasTrains && encap !== 'ipip'
                ? mergeTrains(datagrams, cuts)
                : datagrams.map(alone)
            const outcomes = hosts.map(({ host, guard }) => {
              for (const { bytes, segment } of trains) host.outside.inject(bytes, PEER, segment)
              host.advance(1000)
              guard.breathe()
              return outcome(host)
            })
            const got = outcomes[0]!.packets.map((packet) => comparable(packet, encap))
            compare(got, wanted)
            counts.delivered += wanted.length
            counts.refused += datagrams.length - wanted.length
            return outcomes[0]!.text === outcomes[1]!.text
          },
        ),
        { seed, numRuns: 80 },
      )
      t.ok(counts.delivered > 100 && counts.refused > 50, JSON.stringify(counts))
      t.ok(Object.keys(counted(hosts[0]!.host)).length > 3)
    })

    t.test(`damaged packets, ${encap}, kernel ${n}`, async (t) => {
      const hosts = createHosts(encap, offload)
      let sent = 0
      const inject = (host: TestHost, each: SuperPacket): void => {
        const packet = packetOf(each.burst, false)
        if (!each.isSuper || !offload.hasVnet) {
          host.inside.inject(damaged(packet, each.damage))
          return
        }
        const vnet = flow.createVnet(packet, each.burst.size)
        for (const [at, value] of each.vnet) vnet[at] = value
        host.inside.inject(damaged(flow.createUnfinished(packet), each.damage), vnet)
      }
      fc.assert(
        fc.property(fc.array(superPacket, { minLength: 1, maxLength: 20 }), (list) => {
          const outcomes = hosts.map(({ host, guard }) => {
            for (const each of list) inject(host, each)
            host.advance(1000)
            guard.breathe()
            return outcome(host)
          })
          sent += outcomes[0]!.sent.length
          return outcomes[0]!.text === outcomes[1]!.text
        }),
        { seed, numRuns: 80 },
      )
      t.ok(sent > 50, `${sent} sent`)
      t.ok(Object.keys(counted(hosts[0]!.host)).length > 2)
    })
  }
}
