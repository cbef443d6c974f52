/**
 * Damaged packets through the whole engine, both directions, both encapsulations: recorded ones with
 * bytes changed, cut or added. Nothing throws, each packet gets exactly one verdict, the verdicts add up
 * to the packets that went in, and what is delivered is what a slow twin finds in the datagram.
 */
import fc from 'fast-check'
import t from 'tap'
import { DIRECTIONS } from './counters.js'
import { UDP_ENCAPS, type UdpEncapName } from './host-fixture.js'
import { createAddress, PUBLIC_A, PUBLIC_B, SUBNET_A, SUBNET_B } from './host-fixture.js'
import { datagramOf, packetOf } from './io/capture-frame.js'
import { aged, deliverable, type Receiver } from './deliverable-fixture.js'
import type { IngressCheckMode } from './ingress-check.js'
import { endpoint4 } from './io/endpoint.js'
import { loadPcap } from './io/pcap.js'
import { Replay } from './replay.js'
import { createRootPath } from './wire/packet-fixture.js'

t.setTimeout(120_000)

/** MACs, as the recorded hosts have them. */
const RECORDED_A = { high: 0x0e00, low: 0x0000_0101 }
const RECORDED_B = { high: 0x0e00, low: 0x0000_0102 }
const MTU = 1450
/** fd00:5:1::/64 and fd00:5:2::/64, as recorded. */
const SUBNET6_A = 0xfd00_0005_0001n << 80n
const SUBNET6_B = 0xfd00_0005_0002n << 80n
const PORTS = { udp: 8285, vxlan: 8472 } as const

/** The datagrams of a capture. */
async function recorded(name: string, encap: UdpEncapName): Promise<Uint8Array[]> {
  const { header, records } = await loadPcap(createRootPath('fixtures', 'pcap', name))
  return [...records].flatMap(({ bytes }) => {
    const packet = packetOf(header.linkType, bytes)
    if ('reason' in packet) return []
    const datagram = datagramOf(packet.found, PORTS[encap])
    return 'reason' in datagram ? [] : [datagram.found.payload]
  })
}

/** Host B, or host A, which knows the other one. */
function createReplay(
  encap: UdpEncapName,
  isB: boolean,
  ingressCheck: IngressCheckMode = 'leases',
): Replay {
  const [own, other] = isB ? [SUBNET_B, SUBNET_A] : [SUBNET_A, SUBNET_B]
  const [mac, peerMac] = isB ? [RECORDED_B, RECORDED_A] : [RECORDED_A, RECORDED_B]
  const peer = isB ? PUBLIC_A : PUBLIC_B
  return new Replay({
    subnet: { addr: own, len: 24 },
    subnet6: { addr: isB ? SUBNET6_B : SUBNET6_A, len: 64 },
    routes: [
      { addr: other, len: 24, peer, port: PORTS[encap], mac: peerMac },
      { addr: isB ? SUBNET6_A : SUBNET6_B, len: 64, peer, port: PORTS[encap], mac: peerMac },
    ],
    mtu: MTU,
    ingressCheck,
    encap: encap === 'udp' ? { kind: 'udp' } : { kind: 'vxlan', vni: 1, mac },
    port: PORTS[encap],
  })
}

interface Damage {
  readonly which: number
  readonly changes: readonly (readonly [at: number, value: number])[]
  readonly len: number
}

/** Mostly the headers are hit, now and then nothing but the length. */
const damage: fc.Arbitrary<Damage> = fc.record({
  which: fc.nat(),
  changes: fc.array(fc.tuple(fc.oneof(fc.nat(70), fc.nat(1500)), fc.nat(255)), { maxLength: 4 }),
  len: fc.oneof(fc.constant(-1), fc.nat(100), fc.nat(1500)),
})

function damaged(packets: readonly Uint8Array[], { which, changes, len }: Damage): Uint8Array {
  const whole = packets[which % packets.length]!
  const bytes = new Uint8Array(len === -1 ? whole.length : len)
  bytes.set(whole.subarray(0, bytes.length))
  for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
  return bytes
}

function total(replay: Replay): number {
  const report = replay.report()
  return DIRECTIONS.flatMap((direction) => Object.values(report[direction].verdicts)).reduce(
    (sum, { packets }) => sum + packets,
    0,
  )
}

const captures = { udp: 'ethernet.pcap', vxlan: 'vxlan.pcap' } as const
for (const encap of UDP_ENCAPS) {
  t.test(`damaged packets, ${encap}`, async (t) => {
    const datagrams = await recorded(captures[encap], encap)
    t.ok(datagrams.length > 8)
    const headerLen = encap === 'udp' ? 0 : 22
    const packets = datagrams.map((bytes) => bytes.subarray(headerLen))
    const seen = new Set<string>()
    const hostA = createReplay(encap, false)
    const hostB = createReplay(encap, true)
    let now = 0
    fc.assert(
      fc.property(fc.array(damage, { maxLength: 20 }), fc.boolean(), (list, isB) => {
        const replay = isB ? hostB : hostA
        const before = total(replay)
        const from = endpoint4(isB ? PUBLIC_A : PUBLIC_B, PORTS[encap])
        let fed = 0
        for (const each of list) {
          const into = replay.ingress(damaged(datagrams, each), from, ++now)
          const out = replay.egress(damaged(packets, each), ++now)
          fed += 2
          for (const { verdict, delivered, sent } of [into, out]) {
            seen.add(verdict)
            if (verdict === 'verdict_unknown') return false
            const isTaken = verdict === 'forward' || verdict === 'neighbour_answered'
            if (!isTaken && delivered.length + sent.length > 0) return false
            if (delivered.some((packet) => packet.length > MTU)) return false
          }
        }
        return total(replay) === before + fed
      }),
      { numRuns: 1000 },
    )
    t.ok(seen.size > 8, [...seen].join(' '))
  })
}

/** Recorded datagrams of both families, for either encapsulation: those of VXLAN without their headers are `udp`'s. */
async function bothFamilies(encap: UdpEncapName): Promise<Uint8Array[]> {
  const names = ['vxlan.pcap', 'vxlan6.pcap']
  const all = (await Promise.all(names.map((name) => recorded(name, 'vxlan')))).flat()
  return encap === 'vxlan' ? all : all.map((bytes) => bytes.subarray(22))
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

for (const encap of UDP_ENCAPS) {
  t.test(`a slow twin, ${encap}: just what may be delivered is, byte for byte`, async (t) => {
    const datagrams = await bothFamilies(encap)
    const replay = createReplay(encap, true, 'off')
    const receiver: Receiver = {
      encap,
      mac: '0e0000000102',
      vni: '000001',
      subnet: '0a0502',
      subnet6: 'fd00000500020000',
      mtu: MTU,
    }
    const from = endpoint4(PUBLIC_A, PORTS[encap])
    const counts = { delivered: 0, ipv6: 0, refused: 0 }
    let now = 0
    fc.assert(
      fc.property(damage, (each) => {
        const datagram = damaged(datagrams, each)
        const before = hexOf(datagram)
        const { verdict, delivered } = replay.ingress(datagram, from, ++now)
        if (hexOf(datagram) !== before) return false
        const packet = deliverable(datagram, receiver)
        if (packet === null) {
          counts.refused++
          return verdict !== 'forward' || isSuperPacket(datagram, delivered)
        }
        // Padding may make a datagram longer than any that is read whole.
        if (datagram.length > MTU + 22 && verdict === 'drop_oversize') return true
        // A question to our VTEP is a packet for us, too, and is answered.
        if (verdict === 'neighbour_answered') return delivered.length === 0
        if (verdict !== 'forward' || delivered.length !== 1) return false
        counts.delivered++
        if (packet[0]! >> 4 === 6) counts.ipv6++
        return isSamePacket(delivered[0]!, aged(packet, encap), encap)
      }),
      { numRuns: 20_000 },
    )
    t.ok(
      counts.delivered > 1000 && counts.ipv6 > 300 && counts.refused > 1000,
      JSON.stringify(counts),
    )
  })
}

/** A kernel on the same machine may leave a TCP super-packet to its receiver: longer than any packet, cut here. */
function isSuperPacket(datagram: Uint8Array, delivered: readonly Uint8Array[]): boolean {
  return datagram.length > MTU + 22 && delivered.every(({ length }) => length <= MTU)
}

/** Equal, apart from a checksum of TCP or UDP that a kernel on the same machine left unfinished. */
function isSamePacket(got: Uint8Array, want: Buffer, encap: UdpEncapName): boolean {
  if (hexOf(got) === want.toString('hex')) return true
  if (encap === 'udp' || got.length !== want.length) return false
  const different = [...got.keys()].filter((at) => got[at] !== want[at])
  const l4 = want[0]! >> 4 === 6 ? 40 : 4 * (want[0]! & 15)
  return different.every((at) => [6, 7, 16, 17].includes(at - l4))
}

t.test('a datagram from nobody we know', async (t) => {
  for (const encap of UDP_ENCAPS) {
    const [datagram] = await recorded(captures[encap], encap)
    const from = endpoint4(createAddress('172.30.0.99'), PORTS[encap])
    const fate = createReplay(encap, true).ingress(datagram!, from, 1)
    t.equal(fate.verdict, 'drop_source_unknown', encap)
  }
})
