/**
 * ICMP errors about packets that the socket refused: which errno earns which error, and what it
 * quotes of packets that lie in pieces; and what becomes of packets longer than the path.
 */
import t from 'tap'
import * as flow from './flow-fixture.js'
import { ACK, FIN, PSH } from './flow-fixture.js'
import { describeCounters } from './counters.js'
import type { TestHost } from './host-fixture.js'
import { endpoint4 } from './io/endpoint.js'
import { aged, breathe, counted, create, hexes, injectSuper, OUT, PEER } from './offload-fixture.js'

/** The errors that left: receiver, type << 8 | code, bytes 4..7, and the quoted packet. */
function errors(host: TestHost) {
  return host.raw.drain().map(({ bytes, to }) => {
    const icmp = Buffer.from(bytes.slice(20))
    return {
      to,
      kind: icmp.readUInt16BE(0),
      rest: icmp.readUInt32BE(4),
      isSumRight: flow.slowSum([...icmp]) === 0xffff,
      quote: bytes.slice(28),
    }
  })
}

const SENDER = endpoint4(0x0a050107, 0)
const HOST_UNREACHABLE = 0x0301
const FRAGMENTATION_NEEDED = 0x0304
const EMSGSIZE = 90

for (const errno of [1, 100, 101, 111, 113]) {
  t.test(`errno ${errno} from the socket earns ICMP host unreachable`, async (t) => {
    const host = create()
    const spec = { ...OUT, payload: flow.createPayload(300) }
    host.outside.refuseNext(errno)
    host.inside.inject(flow.createPacket(spec))
    breathe(host)
    t.strictSame(counted(host), { 'egress drop_tx_unreachable': 1 })
    const [error, ...more] = errors(host)
    t.strictSame(more, [])
    t.match(error, { to: SENDER, kind: HOST_UNREACHABLE, rest: 0, isSumRight: true })
    // It was one TTL lower by then, which is as good (RFC 1812 §4.3.2.3).
    t.strictSame(hexes([error!.quote]), hexes([aged(spec)]))
  })
}

for (const errno of [11, 105, 5]) {
  t.test(`errno ${errno} from the socket earns none`, async (t) => {
    const host = create()
    host.outside.refuseNext(errno)
    host.inside.inject(flow.createPacket({ ...OUT, payload: flow.createPayload(300) }))
    breathe(host)
    t.strictSame(errors(host), [])
  })
}

t.test('about a super-packet that is refused one error quotes the first segment', async (t) => {
  for (const [len, size] of [
    [60_000, 1432],
    [1000, 200],
    [1000, 1400],
  ] as const) {
    const spec = { ...OUT, flags: ACK | PSH | FIN, payload: flow.createPayload(len) }
    const host = create()
    host.outside.refuseNext(113, 1000)
    injectSuper(host, spec, size)
    breathe(host)
    const segments = flow.createSegments(aged(spec), size)
    t.strictSame(counted(host), { 'egress drop_tx_unreachable': segments.length })
    const [error, ...more] = errors(host)
    t.strictSame(more, [])
    t.match(error, { to: SENDER, kind: HOST_UNREACHABLE, isSumRight: true })
    t.strictSame(hexes([error!.quote]), hexes([segments[0]!.slice(0, 548)]))
  }
})

t.test('an error about a packet that may not earn one is not sent', async (t) => {
  const host = create()
  host.outside.refuseNext(113, 1000)
  const payload = flow.createPayload(300)
  host.inside.inject(flow.createPacket({ ...OUT, payload, fragment: 100 }))
  host.inside.inject(flow.createPacket({ ...OUT, payload, from: [127, 0, 0, 1] }))
  breathe(host)
  t.strictSame(counted(host), { 'egress drop_tx_unreachable': 2 })
  t.strictSame(errors(host), [])
})

t.test('each sender and destination hears of it, each once a breath', async (t) => {
  const host = create()
  host.outside.refuseNext(113, 1000)
  const payload = flow.createPayload(300)
  for (const n of [1, 1, 1, 2, 2, 3]) {
    host.inside.inject(flow.createPacket({ ...OUT, payload, from: [10, 5, 1, n] }))
  }
  breathe(host)
  t.strictSame(
    errors(host).map(({ to }) => (to.address[0] ?? 0) & 0xff),
    [1, 2, 3],
  )
})

t.test('with DF: what is longer than the path earns ICMP fragmentation needed', async (t) => {
  for (const [len, room, isLost] of [
    [1160, 1200, false],
    [1161, 1200, true],
    [1432, 524, true],
    [600, 524, true],
  ] as const) {
    const host = create()
    host.outside.narrowPath(PEER, room)
    const spec = { ...OUT, payload: flow.createPayload(len) }
    host.inside.inject(flow.createPacket(spec))
    breathe(host)
    const name = `${len + 40} bytes, ${room} fit`
    t.strictSame(counted(host), { [isLost ? 'egress drop_too_big' : 'egress forward']: 1 }, name)
    const told = errors(host)
    t.equal(told.length, isLost ? 1 : 0, name)
    if (!isLost) continue
    t.match(told[0], { to: SENDER, kind: FRAGMENTATION_NEEDED, rest: room, isSumRight: true }, name)
    t.strictSame(hexes([told[0]!.quote]), hexes([aged(spec).slice(0, 548)]), name)
  }
})

for (const errno of [EMSGSIZE, 22]) {
  t.test(`with DF: a run too long for the path, errno ${errno}, earns one`, async (t) => {
    const host = create()
    host.outside.narrowPath(PEER, 1200, errno)
    const spec = { ...OUT, payload: flow.createPayload(1432 * 9 + 100) }
    injectSuper(host, spec, 1432)
    breathe(host)
    const segments = flow.createSegments(aged(spec), 1432)
    t.strictSame(counted(host), { 'egress drop_too_big': 9, 'egress forward': 1 })
    t.strictSame(hexes(host.outside.drain().map(({ bytes }) => bytes)), hexes([segments[9]!]))
    const [error, ...more] = errors(host)
    t.strictSame(more, [])
    t.match(error, { to: SENDER, kind: FRAGMENTATION_NEEDED, rest: 1200, isSumRight: true })
    t.strictSame(hexes([error!.quote]), hexes([segments[0]!.slice(0, 548)]))
  })
}

t.test('without DF: what is longer than the path leaves in fragments, in its order', async (t) => {
  const host = create()
  host.outside.narrowPath(PEER, 1200)
  const specs = [100, 1400, 1300, 1400, 90, 1400].map((len, n) => ({
    ...OUT,
    protocol: flow.UDP,
    fragment: 0,
    id: n,
    payload: flow.createPayload(len, n),
  }))
  for (const spec of specs) host.inside.inject(flow.createPacket(spec))
  breathe(host)
  t.strictSame(
    hexes(host.outside.drain().map(({ bytes }) => bytes)),
    hexes(specs.map((spec) => aged(spec))),
  )
  t.strictSame(counted(host), { 'egress forward': 6 })
  t.equal(describeCounters([host.counters]).gauges['sent_in_fragments'], 4)
  t.strictSame(errors(host), [])
})

t.test('an MTU that is not known, or that the packet fits, is not told', async (t) => {
  const host = create()
  host.outside.refuseNext(EMSGSIZE)
  host.inside.inject(flow.createPacket({ ...OUT, payload: flow.createPayload(1300) }))
  breathe(host)
  t.strictSame(counted(host), { 'egress drop_too_big': 1 })
  t.strictSame(errors(host), [])
})

t.test('an error is no longer than the overlay MTU', async (t) => {
  const host = create({ mtu: 548 })
  host.outside.narrowPath(PEER, 500)
  const spec = { ...OUT, payload: flow.createPayload(508) }
  host.inside.inject(flow.createPacket(spec))
  breathe(host)
  const [error] = errors(host)
  t.strictSame(hexes([error!.quote]), hexes([aged(spec).slice(0, 548 - 28)]))
})
