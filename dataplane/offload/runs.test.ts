/** Runs: what may join, where a run ends, order to each peer, and taking a run apart. */
import fc from 'fast-check'
import t from 'tap'
import { Entries } from '../packet/entries.js'
import { AVOID_MS, MAX_RUN_BYTES, Runs, splitRun } from './runs.js'

const NAME = 32
const PIECES = 256

/** One packet as placed: which peer, how long, where its bytes lie. */
interface Placed {
  readonly hop: number
  readonly len: number
  readonly at: number
  /** Default 0. */
  readonly socket?: number
}

/** Stages packets, each of one piece, or of two when it is cut somewhere. */
function place(
  runs: Runs,
  out: Entries,
  packets: readonly Placed[],
  headerLen = 0,
  overhead = 0,
): void {
  for (const { hop, len, at, socket = 0 } of packets) {
    const i = runs.place(hop, hop * NAME, len, socket)
    if (headerLen > 0 && headerLen < len) {
      out.addPiece(i, at, headerLen)
      out.addPiece(i, at + headerLen, len - headerLen)
    } else {
      out.addPiece(i, at, len)
    }
    out.addPacket(i, len - overhead)
  }
}

/** What the kernel makes of an entry: packets by their first byte's place, cut where they begin. */
function cutEntry(out: Entries, i: number): Placed[] {
  const bytes: number[] = []
  const first = out.firstPiece(i)
  for (let p = first; p < first + out.pieceTotal(i); p++) {
    for (let at = 0; at < out.pieceLen(p); at++) bytes.push(out.pieceAt(p) + at)
  }
  const size = out.segment(i) === 0 ? bytes.length : out.segment(i)
  const packets: Placed[] = []
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.slice(at, at + size)
    if (part.some((byte, n) => byte !== part[0]! + n))
      throw new Error('bytes of two packets in one')
    packets.push({ hop: out.name(i) / NAME, len: part.length, at: part[0]! })
  }
  return packets
}

const all = (out: Entries): Placed[] =>
  Array.from({ length: out.count }, (_, i) => cutEntry(out, i)).flat()

/** Packets of the given lengths to one peer, one behind another. */
const lengths = (hop: number, ...lens: number[]): Placed[] => {
  let at = hop * 1_000_000
  return lens.map((len) => {
    at += len
    return { hop, len, at: at - len }
  })
}

/** Lengths by entry. */
const shape = (out: Entries): number[][] =>
  Array.from({ length: out.count }, (_, i) => cutEntry(out, i).map((packet) => packet.len))

function staged(packets: readonly Placed[], maxPackets = 64, pieces = PIECES): Entries {
  const out = new Entries(512, pieces)
  place(new Runs(out, maxPackets), out, packets)
  return out
}

const shapes: readonly { name: string; lens: number[]; want: number[][] }[] = [
  { name: 'one packet', lens: [100], want: [[100]] },
  { name: 'equal packets', lens: [100, 100, 100], want: [[100, 100, 100]] },
  { name: 'a shorter one ends the run', lens: [100, 100, 40, 40], want: [[100, 100, 40], [40]] },
  { name: 'a shorter one at once', lens: [100, 40, 100], want: [[100, 40], [100]] },
  { name: 'a longer one begins a run', lens: [40, 100, 100], want: [[40], [100, 100]] },
  { name: 'one byte decides', lens: [100, 101, 100, 99], want: [[100], [101, 100], [99]] },
]
for (const { name, lens, want } of shapes) {
  t.test(name, async (t) => {
    const out = staged(lengths(1, ...lens))
    t.strictSame(shape(out), want)
    for (let i = 0; i < out.count; i++) {
      t.equal(out.segment(i), want[i]!.length > 1 ? want[i]![0]! : 0, 'segment size')
      t.equal(out.packets(i), want[i]!.length)
    }
  })
}

t.test('a run has as many packets as the kernel takes', async (t) => {
  const packets = lengths(1, ...new Array<number>(150).fill(60))
  t.strictSame(
    shape(staged(packets, 64)).map((run) => run.length),
    [64, 64, 22],
  )
  t.strictSame(
    shape(staged(packets, 128)).map((run) => run.length),
    [128, 22],
  )
  t.strictSame(
    shape(staged(packets, 1)).map((run) => run.length),
    new Array<number>(150).fill(1),
  )
  t.ok(staged(packets, 1).segment(0) === 0)
})

t.test('a run has as many pieces as an entry', async (t) => {
  const out = new Entries(16, 6)
  place(new Runs(out, 64), out, lengths(1, ...new Array<number>(7).fill(60)), 20)
  t.strictSame(
    shape(out).map((run) => run.length),
    [3, 3, 1],
  )
})

t.test('a run is no longer than the kernel sends in one piece', async (t) => {
  const out = staged(lengths(1, ...new Array<number>(60).fill(1472)))
  for (let i = 0; i < out.count; i++) t.ok(out.len(i) <= MAX_RUN_BYTES, `${out.len(i)} bytes`)
  t.strictSame(
    shape(out).map((run) => run.length),
    [44, 16],
  )
  // To the byte: 43 × 1510 + 560 = 65490.
  const exact = staged(lengths(1, ...new Array<number>(43).fill(1510), 560))
  t.equal(exact.count, 1)
  t.equal(exact.len(0), MAX_RUN_BYTES)
  t.equal(staged(lengths(1, ...new Array<number>(43).fill(1510), 561)).count, 2)
  t.equal(staged(lengths(1, 65535)).count, 1, 'a single packet may be longer')
})

t.test('peers have runs of their own', async (t) => {
  const a = lengths(1, 100, 100, 50)
  const b = lengths(2, 200, 200, 200)
  const mixed = [a[0]!, b[0]!, a[1]!, b[1]!, a[2]!, b[2]!]
  t.strictSame(shape(staged(mixed)), [
    [100, 100, 50],
    [200, 200, 200],
  ])
})

t.test('peers that share a place in the table take turns', async (t) => {
  const mixed = [...lengths(1, 100), ...lengths(33, 100), ...lengths(1, 100)]
  t.strictSame(shape(staged(mixed)), [[100], [100], [100]])
})

const anyPackets = fc.array(
  fc.record({ hop: fc.integer({ min: 1, max: 40 }), len: fc.constantFrom(40, 60, 60, 60, 1400) }),
  { maxLength: 200 },
)
const placed = (packets: readonly { hop: number; len: number }[]): Placed[] =>
  packets.map((packet, n) => ({ ...packet, at: n * 2000 }))

t.test('nothing is lost and the order to each peer is kept', async () => {
  fc.assert(
    fc.property(anyPackets, fc.constantFrom(1, 2, 64), fc.nat(80), (given, max, headerLen) => {
      const packets = placed(given)
      const out = new Entries(512, 128)
      place(new Runs(out, max), out, packets, headerLen)
      const got = all(out)
      if (got.length !== packets.length) return false
      return packets.every(({ hop }) => {
        const of = (list: readonly Placed[]): string =>
          JSON.stringify(list.filter((p) => p.hop === hop).map((p) => [p.at, p.len]))
        return of(got) === of(packets)
      })
    }),
  )
})

t.test('a run taken apart is the packets it was made of', async () => {
  const again = new Entries(PIECES, 2)
  fc.assert(
    fc.property(anyPackets, fc.nat(80), fc.nat(22), (given, headerLen, overhead) => {
      const packets = placed(given)
      const out = new Entries(512, PIECES)
      const runs = new Runs(out, 64)
      // Inner bytes are fewer than what is sent, by the encapsulation.
      for (const packet of packets) place(runs, out, [packet], headerLen, overhead)
      for (let i = 0; i < out.count; i++) {
        if (out.segment(i) === 0) continue
        splitRun(out, i, again)
        const got = all(again)
        if (JSON.stringify(got) !== JSON.stringify(cutEntry(out, i))) return false
        if (again.count !== out.packets(i)) return false
        for (let k = 0; k < again.count; k++) {
          if (again.segment(k) !== 0 || again.packets(k) !== 1) return false
          if (again.bytes(k) !== again.len(k) - overhead) return false
        }
      }
      return true
    }),
  )
})

t.test('after a flush nothing is open, after disable nothing opens', async (t) => {
  const out = new Entries(64, PIECES)
  const runs = new Runs(out, 64)
  place(runs, out, lengths(1, 100))
  runs.clear()
  out.clear()
  place(runs, out, lengths(1, 100, 100))
  t.strictSame(shape(out), [[100, 100]])
  t.ok(runs.isOn())
  runs.disable()
  runs.clear()
  out.clear()
  place(runs, out, lengths(1, 100, 100))
  t.strictSame(shape(out), [[100], [100]])
  t.notOk(runs.isOn())
})

t.test('a peer with a narrow path gets no runs of longer packets for a while', async (t) => {
  const out = new Entries(64, PIECES)
  const runs = new Runs(out, 64)
  const shapeNow = (nowMs: number): number[][] => {
    runs.tick(nowMs)
    runs.clear()
    out.clear()
    place(runs, out, [...lengths(1, 100, 100), ...lengths(2, 60, 60)])
    return shape(out)
  }
  t.strictSame(shapeNow(5), [
    [100, 100],
    [60, 60],
  ])
  runs.avoid(1, 100)
  t.strictSame(shapeNow(5), [
    [100, 100],
    [60, 60],
  ])
  runs.avoid(1, 99)
  t.strictSame(shapeNow(6), [[100], [100], [60, 60]])
  runs.avoid(1, 0)
  t.strictSame(shapeNow(6), [[100], [100], [60, 60]], 'nothing is known to fit')
  t.strictSame(shapeNow(5 + AVOID_MS), [[100], [100], [60, 60]])
  t.strictSame(shapeNow(6 + AVOID_MS), [
    [100, 100],
    [60, 60],
  ])
})

t.test('each socket to a peer has a run of its own', async (t) => {
  const packets = lengths(1, ...new Array<number>(24).fill(100)).map((packet, i) => ({
    ...packet,
    socket: [0, 7, 0, 3][i % 4]!,
  }))
  const out = staged(packets)
  t.strictSame(
    Array.from({ length: out.count }, (_, i) => [out.socket(i), out.packets(i)]),
    [
      [0, 12],
      [7, 6],
      [3, 6],
    ],
  )
  const again = new Entries(64, 2)
  splitRun(out, 1, again)
  t.equal(again.count, 6)
  t.equal(again.socket(5), 7, 'packets of a run that is taken apart keep their socket')
})
