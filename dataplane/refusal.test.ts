/**
 * The engine on devices that refuse what they were found able to take: the same packets go plainly, in
 * their order, and the offload is given up, or a peer spared, or neither, as the refusal deserves.
 */
import t from 'tap'
import { describeCounters, INGRESS, JOINS_LOST, READ, RUNS_LOST } from './counters.js'
import * as flow from './flow-fixture.js'
import { createAddress, PORT, type TestHost } from './host-fixture.js'
import {
  aged,
  breathe,
  counted,
  create,
  delivered,
  hexes,
  injectSuper,
  older,
  OUT,
  PEER,
  segmentsIn,
  train,
} from './offload-fixture.js'
import type { OffloadName } from './offload/offload.js'
import { AVOID_MS } from './offload/runs.js'

const EIO = 5
const EINVAL = 22
const EMSGSIZE = 90

/** Sends super-packets and single packets, and returns what left. @param fragment  flags, default DF */
function sendMixed(host: TestHost, fragment = 0x4000): { got: string[]; want: string[] } {
  const long = { ...OUT, fragment, payload: flow.createPayload(60_000) }
  const single = { ...OUT, ports: [5, 6] as const, payload: flow.createPayload(50) }
  const last = { ...OUT, fragment, seq: 1000 + 60_000, payload: flow.createPayload(20_000) }
  injectSuper(host, long, 1000)
  host.inside.inject(flow.createPacket(single))
  injectSuper(host, last, 1432)
  breathe(host)
  return {
    got: hexes(host.outside.drain().map(({ bytes }) => bytes)),
    want: hexes([
      ...flow.createSegments(aged(long), 1000),
      aged(single),
      ...flow.createSegments(aged(last), 1432),
    ]),
  }
}

/** A host that knows one more peer, at 10.5.3.0/24, and what it gave up. */
function createTwoPeers(): {
  host: TestHost
  other: readonly number[]
  lost: [OffloadName, number][]
} {
  const lost: [OffloadName, number][] = []
  const host = create({ onGivenUp: (offload, errno) => lost.push([offload, errno]) })
  const peer = host.fib.hops.addPeer(createAddress('172.30.0.13'), PORT)
  host.fib.writer.insert4(createAddress('10.5.3.0'), 24, peer)
  return { host, other: [10, 5, 3, 1], lost }
}

/** Sends a super-packet of ten packets. */
function sendTo(host: TestHost, to: readonly number[]): void {
  injectSuper(host, { ...OUT, to, payload: flow.createPayload(10_000) }, 1000)
  breathe(host)
  host.outside.drain()
}

/** Counts of the offloads that are not 0. */
function gauges(host: TestHost): Record<string, number> {
  const entries = Object.entries(describeCounters([host.counters]).gauges)
  const isOfOffload = ([name]: [string, number]): boolean =>
    /^(run|join|train|tso|uso|sent_in)/.test(name)
  return Object.fromEntries(entries.filter((entry) => isOfOffload(entry) && entry[1] > 0))
}

for (const errno of [EINVAL, EIO]) {
  t.test(`a run refused with errno ${errno} leaves plainly, before what follows it`, async (t) => {
    const host = create()
    host.outside.refuseRuns(errno)
    const { got, want } = sendMixed(host)
    t.strictSame(got, want)
  })

  t.test(`a super-packet refused with errno ${errno} keeps its place in its flow`, async (t) => {
    const host = create()
    // As many as make two super-packets, and another flow between them.
    const packets = segmentsIn(100, 500)
    const other = segmentsIn(3, 500, { ports: [7, 8] })
    host.inside.refuseJoined(errno)
    host.outside.inject(train(packets), PEER, packets[0]!.length)
    host.outside.inject(train(other), PEER, other[0]!.length)
    breathe(host)
    const flows = flow.describeFlows(delivered(host))
    t.strictSame(Object.values(flows), [older(packets), older(other)])
  })
}

t.test('runs that are refused are given up, all peers', async (t) => {
  for (const errno of [EINVAL, EIO]) {
    const { host, other, lost } = createTwoPeers()
    host.outside.refuseRuns(errno)
    const first = sendMixed(host)
    t.strictSame(first.got, first.want)
    t.strictSame(lost, [['udp-segment', errno]])
    host.outside.refuseRuns(errno, 1000)
    const later = sendMixed(host)
    t.strictSame(later.got, later.want, 'no run is tried any more')
    sendTo(host, other)
    t.strictSame(gauges(host), {
      runs_lost: 1,
      runs_resent: 1,
      runs_sent: 1,
      run_packets: 14,
      tso_cut: 5,
      tso_packets: 158,
    })
    t.strictSame(counted(host), { 'egress forward': first.want.length * 2 + 10 })
  }
})

t.test('super-packets that are refused are given up', async (t) => {
  for (const errno of [EINVAL, EIO]) {
    const { host, lost } = createTwoPeers()
    const packets = segmentsIn(40, 1000)
    const send = (): string[] => {
      host.outside.inject(train(packets), PEER, packets[0]!.length)
      breathe(host)
      return delivered(host).map(flow.describeBytes)
    }
    t.strictSame(send(), older(packets), 'joined at first')
    host.inside.refuseJoined(errno)
    t.strictSame(send(), older(packets), 'the same packets, one by one')
    t.strictSame(lost, [['tun-gro', errno]])
    host.inside.refuseJoined(errno, 1000)
    t.strictSame(send(), older(packets), 'no super-packet is tried any more')
    t.strictSame(gauges(host), {
      joins_lost: 1,
      joins_resent: 1,
      joins_written: 1,
      joined_packets: 40,
      trains_received: 3,
      train_datagrams: 120,
    })
    t.strictSame(counted(host), { 'ingress forward': 120 })
    t.equal(host.counters.gaugeValue(READ + INGRESS), 120)
  }
})

t.test('many refused in one batch are given up once', async (t) => {
  const { host, lost } = createTwoPeers()
  host.outside.refuseRuns(EIO, 1000)
  host.inside.refuseJoined(EIO, 1000)
  for (let n = 0; n < 20; n++) {
    injectSuper(host, { ...OUT, payload: flow.createPayload(60_000, n) }, 1432)
    const packets = segmentsIn(40, 1000, { ports: [n, n] })
    host.outside.inject(train(packets), PEER, packets[0]!.length)
  }
  breathe(host)
  t.strictSame(lost, [
    ['udp-segment', EIO],
    ['tun-gro', EIO],
  ])
  t.equal(host.counters.gaugeValue(RUNS_LOST), 1)
  t.equal(host.counters.gaugeValue(JOINS_LOST), 1)
  t.strictSame(counted(host), { 'egress forward': 20 * 42, 'ingress forward': 800 })
  t.equal(host.outside.drain().length, 20 * 42)
  t.equal(host.inside.drain().length, 800)
})

for (const errno of [EMSGSIZE, EINVAL]) {
  t.test(`a peer whose path is too narrow, errno ${errno}, is spared for a while`, async (t) => {
    const { host, other, lost } = createTwoPeers()
    host.outside.narrowPath(PEER, 1200, errno)
    const sendWithoutDf = (): void => {
      const { got, want } = sendMixed(host, 0)
      t.strictSame(got, want, 'in fragments, in order')
    }
    sendWithoutDf()
    t.strictSame(lost, [], 'nothing is given up')
    const once = { runs_resent: 1, runs_avoided: 1 }
    t.match(gauges(host), { ...once, runs_sent: 1, sent_in_fragments: 14 })
    sendWithoutDf()
    const twice = { ...once, runs_sent: 2, sent_in_fragments: 28 }
    t.match(gauges(host), twice, 'of the long packets no run is tried, of those that fit one is')
    sendTo(host, other)
    t.match(gauges(host), { ...once, runs_sent: 3 }, 'others have theirs')
    host.advance(AVOID_MS)
    sendWithoutDf()
    t.match(gauges(host), { runs_resent: 2, runs_avoided: 2, runs_sent: 4 }, 'tried again')
    t.strictSame(counted(host), { 'egress forward': 3 * 75 + 10 })
  })
}

t.test('a run with EINVAL that fits the path is one that the kernel cannot cut', async (t) => {
  const { host, lost } = createTwoPeers()
  host.outside.narrowPath(PEER, 1472)
  host.outside.refuseRuns(EINVAL)
  const { got, want } = sendMixed(host)
  t.strictSame(got, want)
  t.strictSame(lost, [['udp-segment', EINVAL]])
})

t.test('where single packets are refused alike, nothing is given up', async (t) => {
  for (const errno of [EINVAL, EIO]) {
    const { host, lost } = createTwoPeers()
    host.outside.refuseNext(errno, 1000)
    host.inside.refuseNext(errno, 1000)
    t.strictSame(sendMixed(host).got, [])
    host.outside.inject(train(segmentsIn(40, 1000)), PEER, 1040)
    breathe(host)
    t.strictSame(delivered(host), [])
    t.strictSame(counted(host), { 'egress drop_tx_error': 75, 'ingress drop_tun_error': 40 })
    t.strictSame(lost, [])
    host.outside.refuseNext(0, 0)
    host.inside.refuseNext(0, 0)
    const { got, want } = sendMixed(host)
    t.strictSame(got, want)
    host.outside.inject(train(segmentsIn(40, 1000)), PEER, 1040)
    breathe(host)
    t.match(gauges(host), { runs_sent: 2, joins_written: 1 }, 'and goes on')
  }
})

t.test('other errors of a run count for all its packets', async (t) => {
  const { host, lost } = createTwoPeers()
  host.outside.refuseRuns(111)
  injectSuper(host, { ...OUT, payload: flow.createPayload(10_000) }, 1000)
  host.engine.breath()
  t.strictSame(counted(host), { 'egress drop_tx_unreachable': 10 })
  host.inside.refuseJoined(11)
  host.outside.inject(train(segmentsIn(10, 1000)), PEER, 1040)
  host.engine.breath()
  t.match(counted(host), { 'ingress drop_tun_busy': 10 })
  t.strictSame(lost, [])
  const { runs_resent, joins_resent } = gauges(host)
  t.strictSame([runs_resent, joins_resent], [undefined, undefined])
})
