/**
 * Segmentation beside a slow segmenter on plain byte arrays (flow-fixture.ts), with the native sums
 * and with those in TypeScript.
 */
import fc from 'fast-check'
import t from 'tap'
import * as flow from '../flow-fixture.js'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { createSegmenter, HEADER_SLOT, MAX_SEGMENTS, type Segmenter } from './segment.js'
import { createPlainSums, type Sums } from './sums.js'

const PACKET_AT = 64
const HEADERS_AT = 1 << 17
const SLOTS = 128
const arena = createArena(new ArrayBuffer(HEADERS_AT + SLOTS * HEADER_SLOT))

/** Room that an encapsulation may write before a segment's headers. */
const BEFORE = 24

/**
 * Cuts a packet; null when the segmenter refuses it. As in the engine, headers are looked at only
 * when no slot is free any more, and an encapsulation has written before each of them.
 */
function cut(packet: Uint8Array, size: number, isTcp: boolean, sums: Sums): Uint8Array[] | null {
  const segmenter = createSegmenter(arena, HEADERS_AT, SLOTS, sums)
  arena.bytes.fill(0xaa)
  arena.bytes.set(packet, PACKET_AT)
  const count = segmenter.begin(PACKET_AT, packet.length, size, isTcp)
  if (count === 0) return null
  const segments: Uint8Array[] = []
  let at: number[] = []
  for (let k = 0; k < count; k++) {
    const headers = segmenter.header(k)
    arena.bytes.fill(0xee, headers - BEFORE, headers)
    at.push(headers)
    if (segmenter.hasRoom() && k < count - 1) continue
    for (const headersAt of at) segments.push(gather(segmenter, headersAt, segments.length))
    at = []
    segmenter.clear()
  }
  return segments
}

function gather(segmenter: Segmenter, headersAt: number, k: number): Uint8Array {
  const segment = new Uint8Array(segmenter.len(k))
  segment.set(arena.bytes.subarray(headersAt, headersAt + segmenter.headerBytes()))
  const slice = segmenter.sliceAt(k)
  segment.set(arena.bytes.subarray(slice, slice + segmenter.sliceLen(k)), segmenter.headerBytes())
  return segment
}

const hexes = (packets: readonly Uint8Array[] | null): string[] =>
  (packets ?? []).map((packet) => Buffer.from(packet).toString('hex'))

const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const LONGEST_TCP = [...TIMESTAMPS, 1, 1, 5, 26, ...new Array<number>(24).fill(0x5a)]
const ROUTER_ALERT = [148, 4, 0, 0]
const RECORD_ROUTE = [7, 39, 4, ...new Array<number>(36).fill(0), 0]
/** Hop-by-hop options with a router alert (RFC 2711), then TCP. */
const HOP_BY_HOP = [flow.TCP, 0, 5, 2, 0, 0, 1, 0]
/** A routing header (type 2, RFC 6275) with a segment left: the last destination is another one. */
const ROUTING = [flow.TCP, 2, 2, 1, 0, 0, 0, 0, ...flow.HOST_B6.slice(0, 15), 0x77]
const V6 = { from: flow.HOST_A6, to: flow.HOST_B6, fragment: 0xfedcb }

const cases: readonly { name: string; spec: flow.PacketSpec; len: number; size: number }[] = [
  { name: 'TCP, exact multiple', spec: {}, len: 3 * 1420, size: 1420 },
  { name: 'TCP, one byte over', spec: {}, len: 3 * 1420 + 1, size: 1420 },
  { name: 'TCP, one byte short', spec: {}, len: 3 * 1420 - 1, size: 1420 },
  { name: 'TCP, odd size', spec: {}, len: 5000, size: 1419 },
  { name: 'TCP of 64 KiB', spec: {}, len: 65535 - 40, size: 1420 },
  { name: 'TCP in segments of 8 bytes', spec: {}, len: 65535 - 40, size: 8 },
  { name: 'TCP in segments of one byte', spec: {}, len: 300, size: 1 },
  { name: 'a size larger than the payload', spec: { flags: 0x18 }, len: 100, size: 1420 },
  { name: 'a size as large as the payload', spec: {}, len: 1420, size: 1420 },
  { name: 'FIN and PSH on the last', spec: { flags: 0x19 }, len: 4000, size: 1000 },
  { name: 'CWR on the first', spec: { flags: 0x90 }, len: 4000, size: 1000 },
  { name: 'ECE on all', spec: { flags: 0x50 }, len: 4000, size: 1000 },
  { name: 'all flags', spec: { flags: 0xff, urgent: 77 }, len: 4000, size: 1000 },
  { name: 'URG', spec: { flags: 0x30, urgent: 0xffff }, len: 4000, size: 1000 },
  { name: 'timestamps', spec: { tcpOptions: TIMESTAMPS }, len: 9000, size: 1448 },
  { name: 'the longest TCP options', spec: { tcpOptions: LONGEST_TCP }, len: 9000, size: 1400 },
  { name: 'IPv4 options', spec: { options: ROUTER_ALERT }, len: 9000, size: 1400 },
  {
    name: 'the longest headers',
    spec: { options: RECORD_ROUTE, tcpOptions: LONGEST_TCP },
    len: 9000,
    size: 1400,
  },
  { name: 'id wraps, DF', spec: { id: 0xfffe }, len: 5000, size: 1000 },
  { name: 'id wraps, no DF', spec: { id: 0xffff, fragment: 0 }, len: 5000, size: 1000 },
  { name: 'sequence wraps', spec: { seq: 0xffff_ff00 }, len: 5000, size: 1000 },
  { name: 'sequence beyond 2^31', spec: { seq: 0x7fff_ff00 }, len: 5000, size: 1000 },
  { name: 'payload of ones', spec: { payload: new Uint8Array(4000).fill(255) }, len: 0, size: 999 },
  { name: 'payload of zeros', spec: { payload: new Uint8Array(4000) }, len: 0, size: 999 },
  { name: 'IPv6', spec: V6, len: 9000, size: 1400 },
  { name: 'IPv6, class and label', spec: { ...V6, tos: 0xb9 }, len: 9000, size: 1401 },
  { name: 'IPv6 of 64 KiB', spec: V6, len: 65535 - 20, size: 1400 },
  {
    name: 'IPv6 behind hop-by-hop options',
    spec: { ...V6, options: HOP_BY_HOP, nextHeader: 0 },
    len: 9000,
    size: 1400,
  },
  {
    name: 'IPv6 behind a routing header',
    spec: { ...V6, options: ROUTING, nextHeader: 43 },
    len: 9000,
    size: 1400,
  },
  { name: 'UDP', spec: { protocol: flow.UDP }, len: 5000, size: 1000 },
  { name: 'UDP, one byte over', spec: { protocol: flow.UDP }, len: 5001, size: 1000 },
  { name: 'UDP of 64 KiB', spec: { protocol: flow.UDP }, len: 65535 - 28, size: 1472 },
  { name: 'UDP, IPv6', spec: { ...V6, protocol: flow.UDP }, len: 5000, size: 1001 },
  {
    name: 'UDP, IPv4 options, id wraps',
    spec: { protocol: flow.UDP, options: ROUTER_ALERT, id: 0xffff, fragment: 0 },
    len: 5000,
    size: 1001,
  },
]

for (const [kind, sums] of [
  ['native sums', native] as const,
  ['plain', createPlainSums()] as const,
]) {
  t.test(kind, async (t) => {
    for (const { name, spec, len, size } of cases) {
      const whole = flow.createPacket({ payload: flow.createPayload(len), ...spec })
      const packet = flow.createUnfinished(whole)
      const got = cut(packet, size, spec.protocol !== flow.UDP, sums)
      t.strictSame(hexes(got), hexes(flow.createSegments(packet, size)), name)
    }
  })
}

t.test('a UDP checksum that comes out as 0 is sent as 0xffff', async (t) => {
  // Two payload bytes can make any sum: take the one that makes the field 0xffff.
  const spec = { protocol: flow.UDP, payload: [0, 0, 0, 0] }
  const before = flow.createPacket({ ...spec, payload: [0, 0] })
  const payload = [before[26]!, before[27]!, 0, 0]
  const want = flow.createPacket({ ...spec, payload: payload.slice(0, 2) })
  t.strictSame([want[26], want[27]], [0xff, 0xff])
  const packet = flow.createUnfinished(flow.createPacket({ ...spec, payload }))
  t.strictSame(hexes(cut(packet, 2, false, native))[0], hexes([want])[0])
})

t.test('the first segment alone, in place', async (t) => {
  for (const { name, spec, len, size } of cases) {
    const whole = flow.createPacket({ payload: flow.createPayload(len), ...spec })
    const packet = flow.createUnfinished(whole)
    const segmenter = createSegmenter(arena, HEADERS_AT, SLOTS, native)
    arena.bytes.set(packet, PACKET_AT)
    segmenter.begin(PACKET_AT, packet.length, size, spec.protocol !== flow.UDP)
    segmenter.keepFirst()
    const [want] = flow.createSegments(packet, size)
    const got = arena.bytes.slice(PACKET_AT, PACKET_AT + want!.length)
    t.strictSame(hexes([got]), hexes([want!]), name)
  }
})

const plain = flow.createPacket({ payload: flow.createPayload(100) })
const plain6 = flow.createPacket({ ...V6, payload: flow.createPayload(100) })
function patched(packet: Uint8Array, at: number, byte: number): Uint8Array {
  const copy = packet.slice()
  copy[at] = byte
  return copy
}
const refused: readonly { name: string; packet: Uint8Array; size: number; isTcp?: boolean }[] = [
  { name: 'size 0', packet: plain, size: 0 },
  { name: 'no payload', packet: flow.createPacket(), size: 100 },
  { name: 'TCP header length below 5', packet: patched(plain, 32, 0x40), size: 10 },
  { name: 'TCP header beyond the end', packet: patched(plain.slice(0, 41), 32, 0xf0), size: 10 },
  { name: 'TCP header up to the end', packet: patched(plain.slice(0, 80), 32, 0xf0), size: 10 },
  { name: 'TCP header cut', packet: plain.slice(0, 39), size: 10 },
  { name: 'IPv4 header beyond the end', packet: patched(plain.slice(0, 50), 0, 0x4f), size: 10 },
  { name: 'UDP said to be TCP', packet: patched(plain, 9, 17), size: 10 },
  { name: 'TCP said to be UDP', packet: plain, size: 10, isTcp: false },
  { name: 'UDP header cut', packet: patched(plain, 9, 17).slice(0, 27), size: 10, isTcp: false },
  { name: 'a first fragment', packet: patched(plain, 6, 0x20), size: 10 },
  { name: 'a later fragment', packet: patched(plain, 7, 1), size: 10 },
  {
    name: 'too many segments',
    packet: flow.createPacket({ payload: flow.createPayload(MAX_SEGMENTS * 2 + 1) }),
    size: 2,
  },
  { name: 'IPv6 with another upper layer', packet: patched(plain6, 6, 58), size: 10 },
  { name: 'IPv6 with extension headers that end nowhere', packet: patched(plain6, 6, 0), size: 10 },
  {
    name: 'an IPv6 fragment',
    packet: flow.createPacket({
      ...V6,
      options: [flow.TCP, 0, 0, 1, 0, 0, 0, 1],
      nextHeader: 44,
      payload: [1, 2, 3],
    }),
    size: 2,
  },
  {
    name: 'IPv6 extension headers too long for a slot',
    packet: flow.createPacket({
      ...V6,
      options: [flow.TCP, 9, 1, 76, ...new Array<number>(76).fill(0)],
      nextHeader: 60,
      payload: [1, 2, 3],
    }),
    size: 2,
  },
]
for (const { name, packet, size, isTcp = true } of refused) {
  t.test(`refused: ${name}`, async (t) => {
    t.equal(cut(packet, size, isTcp, native), null)
  })
}

t.test('as many segments as there may be', async (t) => {
  const packet = flow.createPacket({ payload: flow.createPayload(MAX_SEGMENTS * 2) })
  t.equal(cut(packet, 2, true, native)?.length, MAX_SEGMENTS)
})

t.test('any super-packet', async () => {
  const anySpec = fc.record({
    protocol: fc.constantFrom(flow.TCP, flow.UDP),
    isV6: fc.boolean(),
    tos: fc.nat(255),
    ttl: fc.nat(255),
    id: fc.nat(65535),
    fragment: fc.constantFrom(0, flow.DF, 0x8000, 0xc000),
    options: fc.array(fc.constantFrom(ROUTER_ALERT, [1, 1, 1, 1]), { maxLength: 10 }),
    ports: fc.tuple(fc.nat(65535), fc.nat(65535)),
    seq: fc.nat(2 ** 32 - 1),
    ack: fc.nat(2 ** 32 - 1),
    flags: fc.nat(255),
    window: fc.nat(65535),
    urgent: fc.nat(65535),
    tcpOptions: fc.array(fc.constantFrom([1, 1, 1, 1], TIMESTAMPS), { maxLength: 3 }),
  })
  const payload = fc.uint8Array({ minLength: 1, maxLength: 600 })
  fc.assert(
    fc.property(anySpec, payload, fc.integer({ min: 1, max: 200 }), (spec, payload, size) => {
      const v6 = spec.isV6 ? { ...V6, options: [] } : { options: spec.options.flat() }
      const packet = flow.createUnfinished(
        flow.createPacket({ ...spec, ...v6, tcpOptions: spec.tcpOptions.flat(), payload }),
      )
      const got = cut(packet, size, spec.protocol === flow.TCP, native)
      return hexes(got).join() === hexes(flow.createSegments(packet, size)).join()
    }),
    { numRuns: 500 },
  )
})

t.test('any bytes are cut or refused, never more', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 60, maxLength: 200 }),
      fc.constantFrom(0x45, 0x46, 0x60),
      fc.boolean(),
      fc.nat(100),
      (bytes, first, isTcp, size) => {
        bytes[0] = first
        bytes[9] = isTcp ? 6 : 17
        const got = cut(bytes, size, isTcp, native)
        return got === null || got.every((segment) => segment.length <= bytes.length)
      },
    ),
    { numRuns: 500 },
  )
})
