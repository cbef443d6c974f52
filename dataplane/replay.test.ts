/**
 * Damaged packets through the whole engine, both directions, both encapsulations: recorded ones with
 * bytes changed, cut or added. Nothing throws, each packet gets exactly one verdict, and the verdicts
 * add up to the packets that went in.
 */
import fc from 'fast-check'
import t from 'tap'
import { DIRECTIONS } from './counters.js'
import { ENCAPS, type EncapName } from './host-fixture.js'
import { createAddress, PUBLIC_A, PUBLIC_B, SUBNET_A, SUBNET_B } from './host-fixture.js'
import { datagramOf, packetOf } from './io/capture-frame.js'
import { endpoint4 } from './io/endpoint.js'
import { loadPcap } from './io/pcap.js'
import { Replay } from './replay.js'
import { createRootPath } from './wire/packet-fixture.js'

t.setTimeout(120_000)

/** MACs, as the recorded hosts have them. */
const RECORDED_A = { high: 0x0e00, low: 0x0000_0101 }
const RECORDED_B = { high: 0x0e00, low: 0x0000_0102 }
const MTU = 1450
const PORTS = { udp: 8285, vxlan: 8472 } as const

/** The datagrams of a capture. */
async function recorded(name: string, encap: EncapName): Promise<Uint8Array[]> {
  const { header, records } = await loadPcap(createRootPath('fixtures', 'pcap', name))
  return [...records].flatMap(({ bytes }) => {
    const packet = packetOf(header.linkType, bytes)
    if ('reason' in packet) return []
    const datagram = datagramOf(packet.found, PORTS[encap])
    return 'reason' in datagram ? [] : [datagram.found.payload]
  })
}

/** Host B, or host A, which knows the other one. */
function createReplay(encap: EncapName, isB: boolean): Replay {
  const [own, other] = isB ? [SUBNET_B, SUBNET_A] : [SUBNET_A, SUBNET_B]
  const [mac, peerMac] = isB ? [RECORDED_B, RECORDED_A] : [RECORDED_A, RECORDED_B]
  const peer = isB ? PUBLIC_A : PUBLIC_B
  return new Replay({
    subnet: { addr: own, len: 24 },
    routes: [{ addr: other, len: 24, peer, port: PORTS[encap], mac: peerMac }],
    mtu: MTU,
    ingressCheck: 'leases',
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
for (const encap of ENCAPS) {
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

t.test('a datagram from nobody we know', async (t) => {
  for (const encap of ENCAPS) {
    const [datagram] = await recorded(captures[encap], encap)
    const from = endpoint4(createAddress('172.30.0.99'), PORTS[encap])
    const fate = createReplay(encap, true).ingress(datagram!, from, 1)
    t.equal(fate.verdict, 'drop_source_unknown', encap)
  }
})
