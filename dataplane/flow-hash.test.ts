/**
 * The hash of a flow: the same for all its packets, other ones for other flows, fragments by addresses.
 */
import fc from 'fast-check'
import t from 'tap'
import * as flow from './flow-fixture.js'
import { flowHash4, flowHash6 } from './flow-hash.js'

const hash = (spec: flow.PacketSpec): number => {
  const bytes = flow.createPacket(spec)
  // As in an arena, where bytes of other packets stand before and behind.
  const padded = new Uint8Array(bytes.length + 64).fill(0x5a)
  padded.set(bytes, 16)
  return (spec.from?.length === 16 ? flowHash6 : flowHash4)(new DataView(padded.buffer), 16)
}

const bytes = (length: number) => fc.array(fc.nat(255), { minLength: length, maxLength: length })
const flows = fc.oneof(
  ...[4, 16].map((length) =>
    fc.record({
      from: bytes(length),
      to: bytes(length),
      protocol: fc.constantFrom(flow.TCP, flow.UDP),
      ports: fc.tuple(fc.nat(65535), fc.nat(65535)),
    }),
  ),
)
const others = fc.record({
  ttl: fc.integer({ min: 1, max: 255 }),
  tos: fc.nat(255),
  id: fc.nat(65535),
  seq: fc.nat(),
  payload: fc.uint8Array({ maxLength: 40 }),
})

t.test('property: all packets of a flow have its hash', async () => {
  fc.assert(
    fc.property(
      flows,
      others,
      others,
      (own, a, b) => hash({ ...own, ...a }) === hash({ ...own, ...b }),
    ),
  )
})

t.test('a port, an address or the protocol makes another flow', async (t) => {
  for (const [from, to] of [
    [flow.HOST_A, flow.HOST_B],
    [flow.HOST_A6, flow.HOST_B6],
  ] as const) {
    const own = { from, to, protocol: flow.UDP, ports: [1000, 2000] as const }
    const last = to.length - 1
    const elsewhere = to.map((byte, i) => (i === last ? byte ^ 1 : byte))
    for (const other of [
      { ...own, ports: [1001, 2000] as const },
      { ...own, ports: [1000, 2001] as const },
      { ...own, protocol: flow.TCP },
      { ...own, to: elsewhere },
    ]) {
      t.not(hash(other), hash(own))
    }
  }
})

t.test('fragments count by their addresses: the first as the later ones', async (t) => {
  const own = { from: flow.HOST_A, to: flow.HOST_B, protocol: flow.UDP, payload: [1, 2, 3] }
  const first = hash({ ...own, fragment: 0x2000, ports: [1, 2] })
  t.equal(hash({ ...own, fragment: 0x2000 | 185, ports: [3, 4] }), first)
  t.equal(hash({ ...own, fragment: 185, ports: [5, 6] }), first)
})

t.test('flows spread over eight sockets', async (t) => {
  for (const [from, to] of [
    [flow.HOST_A, flow.HOST_B],
    [flow.HOST_A6, flow.HOST_B6],
  ] as const) {
    for (const vary of ['port', 'host'] as const) {
      const counts = new Array<number>(8).fill(0)
      for (let n = 0; n < 1024; n++) {
        const source =
          vary === 'host' ? from.map((b, i) => (i === from.length - 1 ? n & 255 : b)) : from
        const ports = [40_000 + n, 80] as const
        const at = hash({ from: source, to, ports }) >>> 29
        counts[at] = (counts[at] ?? 0) + 1
      }
      t.ok(Math.min(...counts) > 64 && Math.max(...counts) < 256, counts.join(' '))
    }
  }
})
