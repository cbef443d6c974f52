import fc from 'fast-check'
import t from 'tap'
import { NAME_SIZE } from '../fib/nexthop.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import { HEADROOM } from '../packet/layout.js'
import { EAGAIN, EINVAL, encodeName, endpoint4 } from './endpoint.js'
import { createFaultyInside, createFaultyOutside } from './fault.js'
import { FaultLane, type FaultOptions } from './fault-lane.js'
import { createMemoryPair, type MemoryPair } from './memory.js'

const CAPACITY = 8
const ROOM = 64
const ARENA_BYTES = 1 << 14
const PEERS = [endpoint4(0xc0000201, 8285), endpoint4(0xc0000202, 4789)]
const NAMES = new Uint8Array(2 * NAME_SIZE)
PEERS.forEach((peer, i) => {
  encodeName(peer, NAMES, i * NAME_SIZE)
})

/** A 20-byte packet that carries its number. */
function packet(n: number): Uint8Array {
  const bytes = new Uint8Array(20)
  bytes[0] = 0x45
  new DataView(bytes.buffer).setUint32(16, n)
  return bytes
}
const numberOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(16)

interface Run {
  readonly packets: string[]
  readonly counts: { seen: number; lost: number; duplicated: number; reordered: number }
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Sends numbered packets through the four ways of a wrapped pair; what comes out, as text. */
const ways: Record<string, (count: number, options: FaultOptions) => Run> = {
  read: (count, options) => {
    const { arena, pair } = create()
    const faulty = createFaultyInside(pair.inside, arena, options)
    for (let n = 0; n < count; n++) pair.inside.inject(packet(n))
    return { packets: readAll(arena, (batch) => faulty.read(batch)), counts: faulty.readFaults }
  },
  receive: (count, options) => {
    const { arena, pair } = create()
    const faulty = createFaultyOutside(pair.outside, arena, options)
    for (let n = 0; n < count; n++) pair.outside.inject(packet(n), PEERS[n % 2]!)
    return { packets: readAll(arena, (batch) => faulty.receive(batch)), counts: faulty.readFaults }
  },
  write: (count, options) => {
    const { arena, pair } = create()
    const faulty = createFaultyInside(pair.inside, arena, options)
    writeAll(arena, count, options, (entries) => {
      faulty.write(entries)
    })
    faulty.read(new Batch(arena, 0, CAPACITY, HEADROOM + ROOM))
    return { packets: pair.inside.drain().map(hexOf), counts: faulty.writeFaults }
  },
  send: (count, options) => {
    const { arena, pair } = create()
    const faulty = createFaultyOutside(pair.outside, arena, options)
    writeAll(arena, count, options, (entries) => {
      faulty.send(entries, NAMES)
    })
    faulty.receive(new Batch(arena, 0, CAPACITY, HEADROOM + ROOM))
    const packets = pair.outside.drain().map(({ bytes, to }) => {
      const n = bytes.length === 20 ? numberOf(bytes) : -1
      const isRight = n === -1 || n > 1e6 || to.port === PEERS[n % 2]!.port
      return isRight ? hexOf(bytes) : `wrong destination of ${n}`
    })
    return { packets, counts: faulty.writeFaults }
  },
}

function create(): { arena: ReturnType<typeof createArena>; pair: MemoryPair } {
  const arena = createArena(new ArrayBuffer(ARENA_BYTES))
  return { arena, pair: createMemoryPair(arena, 10_000) }
}

function readAll(arena: ReturnType<typeof createArena>, read: (batch: Batch) => number): string[] {
  const batch = new Batch(arena, 0, CAPACITY, HEADROOM + ROOM)
  const all: string[] = []
  // One empty read lets go of what was held back; the second shows that nothing is left.
  for (let empty = 0; empty < 2;) {
    batch.rewind()
    const count = read(batch)
    if (count === 0) empty++
    for (let row = 0; row < count; row++) {
      const bytes = batch.arena.bytes.slice(batch.at(row), batch.at(row) + batch.len(row))
      all.push(hexOf(bytes))
    }
  }
  return all
}

function writeAll(
  arena: ReturnType<typeof createArena>,
  count: number,
  options: FaultOptions,
  write: (entries: Entries) => void,
): void {
  const isDamaging = (options.flip ?? 0) + (options.truncate ?? 0) > 0
  const entries = new Entries(CAPACITY)
  for (let n = 0; n < count;) {
    entries.clear()
    for (; n < count && !entries.isFull(); n++) {
      const at = ARENA_BYTES / 2 + entries.count * 32
      arena.bytes.set(packet(n), at)
      entries.add(at, 20, (n % 2) * NAME_SIZE, 20)
    }
    const before = arena.bytes.slice()
    write(entries)
    if (!Buffer.from(before).equals(arena.bytes)) throw new Error('the arena was changed')
    for (let i = 0; i < entries.count; i++) {
      // Damage may make the version nibble one that the inside device refuses.
      if (entries.result(i) !== 0 && !(isDamaging && entries.result(i) === EINVAL))
        throw new Error(`entry ${i}: errno ${entries.result(i)}`)
    }
  }
}

const plain = (count: number): string[] => Array.from({ length: count }, (_, n) => hexOf(packet(n)))
const sorted = (texts: readonly string[]): string[] => [...texts].sort()

for (const [name, run] of Object.entries(ways)) {
  t.test(name, (t) => {
    t.test('no faults is the identity', (t) => {
      fc.assert(
        fc.property(fc.integer(), fc.integer({ min: 0, max: 100 }), (seed, count) => {
          const got = run(count, { seed })
          return got.packets.join() === plain(count).join() && got.counts.seen === count
        }),
        { numRuns: 30 },
      )
      t.end()
    })

    t.test('the same seed does the same, another one does not', (t) => {
      const options = { loss: 0.2, duplicate: 0.2, reorder: 0.2, flip: 0.2, truncate: 0.2 }
      const first = run(300, { seed: 7, ...options })
      t.strictSame(run(300, { seed: 7, ...options }), first)
      t.notSame(run(300, { seed: 8, ...options }).packets, first.packets)
      t.end()
    })

    t.test('loss', (t) => {
      const got = run(1000, { seed: 1, loss: 0.3 })
      t.equal(got.packets.length, 1000 - got.counts.lost)
      t.ok(got.counts.lost > 230 && got.counts.lost < 370, `${got.counts.lost} of 1000 lost`)
      t.strictSame(got.packets, sorted(got.packets), 'the others keep their order')
      t.strictSame(run(50, { seed: 1, loss: 1 }).packets, [])
      t.end()
    })

    t.test('duplication', (t) => {
      const got = run(1000, { seed: 2, duplicate: 0.3 })
      t.equal(got.packets.length, 1000 + got.counts.duplicated)
      t.ok(got.counts.duplicated > 230 && got.counts.duplicated < 370)
      t.strictSame([...new Set(got.packets)], plain(1000))
      const all = run(30, { seed: 2, duplicate: 1 }).packets
      t.strictSame(
        all,
        plain(30).flatMap((text) => [text, text]),
      )
      t.end()
    })

    t.test('reordering keeps every packet and moves each by no more than the depth', (t) => {
      const got = run(1000, { seed: 3, reorder: 0.2, reorderDepth: 4 })
      t.strictSame(sorted(got.packets), sorted(plain(1000)))
      t.notSame(got.packets, plain(1000))
      t.ok(got.counts.reordered > 130 && got.counts.reordered < 270)
      const moves = got.packets.map((text, at) => numberOf(Buffer.from(text, 'hex')) - at)
      t.ok(Math.min(...moves) >= -4 && Math.max(...moves) <= 4)
      const all = run(20, { seed: 3, reorder: 1 }).packets
      t.strictSame(sorted(all), sorted(plain(20)), 'all held back come out in the end')
      t.end()
    })

    t.test('bit flips change exactly one bit', (t) => {
      const got = run(500, { seed: 4, flip: 1 })
      const distances = got.packets.map((text, n) => bitsBetween(text, plain(500)[n]!))
      // The inside device refuses a packet whose version nibble the flip hit; then rows shift.
      if (name === 'read' || name === 'receive') t.ok(distances.every((bits) => bits === 1))
      t.ok(got.packets.length > 0)
      t.end()
    })

    t.test('truncation makes every packet shorter', (t) => {
      const got = run(200, { seed: 5, truncate: 1 })
      t.ok(got.packets.length > 0)
      for (const text of got.packets) {
        if (text.length >= 40) t.fail(`${text} is not shorter`)
        else if (!'45000000000000000000000000000000'.startsWith(text.slice(0, 32))) t.fail(text)
      }
      t.end()
    })
    t.end()
  })
}

function bitsBetween(a: string, b: string): number {
  const right = Buffer.from(b, 'hex')
  return Buffer.from(a, 'hex').reduce((sum, byte, i) => {
    let diff = byte ^ right[i]!
    let bits = 0
    for (; diff !== 0; diff >>= 1) bits += diff & 1
    return sum + bits
  }, 0)
}

t.test('an errno of the device reaches the entry', (t) => {
  const { arena, pair } = create()
  const faulty = createFaultyInside(pair.inside, arena, { seed: 1 })
  pair.inside.refuseNext(EAGAIN, 1)
  arena.bytes.set(packet(1), 64)
  const entries = new Entries(2)
  entries.add(64, 20, -1, 20)
  entries.add(64, 20, -1, 20)
  faulty.write(entries)
  t.strictSame([entries.result(0), entries.result(1)], [EAGAIN, 0])
  t.end()
})

t.test('a train is hit datagram by datagram', (t) => {
  const { arena, pair } = create()
  const faulty = createFaultyOutside(pair.outside, arena, { seed: 1 })
  arena.bytes.set([1, 2, 3, 4, 5], 64)
  const entries = new Entries(1)
  entries.add(64, 5, 0, 5)
  entries.entries[2] = 2
  faulty.send(entries, NAMES)
  t.equal(faulty.writeFaults.seen, 3)
  t.strictSame(
    pair.outside.drain().map(({ bytes }) => [...bytes]),
    [[1, 2], [3, 4], [5]],
  )
  t.end()
})

t.test('one more likely fault leaves the others where they were', (t) => {
  const struck = (options: FaultOptions): number[] => {
    const lane = new FaultLane<{ n: number; bytes: Uint8Array }>(options)
    return Array.from({ length: 500 }, (_, n) => n).filter((n) => {
      const out = lane.pass({ n, bytes: new Uint8Array(0) })
      return out.filter((item) => item.n === n).length === 2
    })
  }
  t.strictSame(struck({ seed: 9, duplicate: 0.1, flip: 0.9 }), struck({ seed: 9, duplicate: 0.1 }))
  t.end()
})

t.test('both directions of one device have faults of their own', (t) => {
  const lost = (name: 'read' | 'write'): string =>
    ways[name]!(200, { seed: 5, loss: 0.5 }).packets.join()
  t.not(lost('read'), lost('write'))
  t.end()
})

t.test('a probability that is none is refused', (t) => {
  for (const loss of [-0.1, 1.1, Number.NaN])
    t.throws(() => new FaultLane({ seed: 1, loss }), RangeError)
  t.throws(() => new FaultLane({ seed: 1, reorderDepth: 0 }), RangeError)
  t.end()
})
