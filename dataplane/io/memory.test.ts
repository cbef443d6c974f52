import fc from 'fast-check'
import t from 'tap'
import { NAME_SIZE } from '../fib/nexthop.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import { HEADROOM, VNET_HDR_LEN } from '../packet/layout.js'
import {
  EAGAIN,
  EDESTADDRREQ,
  EINVAL,
  EIO,
  EMSGSIZE,
  encodeName,
  endpoint4,
  endpoint6,
} from './endpoint.js'
import { createMemoryPair, DEFAULT_QUEUE_LEN, MemoryInside } from './memory.js'

const ROOM = 128
const CAPACITY = 4
const A = endpoint4(0xc0000202, 8285)
const B = endpoint6(
  new Uint8Array(16).map((_, i) => 0xf0 + i),
  4789,
)

interface Bench {
  arena: ReturnType<typeof createArena>
  batch: Batch
  names: Uint8Array
  pair: ReturnType<typeof createMemoryPair>
}

function bench(queue = DEFAULT_QUEUE_LEN, arenaBytes = 1 << 17): Bench {
  const arena = createArena(new ArrayBuffer(arenaBytes))
  const names = new Uint8Array(2 * NAME_SIZE)
  encodeName(A, names, 0)
  encodeName(B, names, NAME_SIZE)
  const batch = new Batch(arena, 0, CAPACITY, HEADROOM + ROOM)
  return { arena, batch, names, pair: createMemoryPair(arena, queue) }
}

/** An IPv4-looking packet: only the version nibble matters here. */
function packet(len: number, fill: number): Uint8Array {
  const bytes = new Uint8Array(len).fill(fill)
  bytes[0] = 0x45
  return bytes
}

/** Stages packets one after another in the arena, one entry each. */
function stage(b: Bench, packets: readonly Uint8Array[], name: number): Entries {
  const entries = new Entries(Math.max(packets.length, 1))
  let at = CAPACITY * (HEADROOM + ROOM)
  for (const bytes of packets) {
    b.arena.bytes.set(bytes, at)
    entries.add(at, bytes.length, name, bytes.length)
    at += bytes.length
  }
  return entries
}

function rowBytes(batch: Batch, row: number): Uint8Array {
  return batch.arena.bytes.slice(batch.at(row), batch.at(row) + batch.len(row))
}

const packets = fc.array(
  fc.uint8Array({ minLength: 1, maxLength: ROOM }).map((bytes) => {
    bytes[0] = (bytes[0]! & 0x0f) | 0x40
    return bytes
  }),
  { maxLength: 3 * CAPACITY },
)

t.test('packets injected inside are read in order, byte for byte, a batch at a time', (t) => {
  fc.assert(
    fc.property(packets, (given) => {
      const { batch, pair } = bench()
      for (const bytes of given) pair.inside.inject(bytes)
      const got: Uint8Array[] = []
      for (;;) {
        batch.rewind()
        const count = pair.inside.read(batch)
        if (count !== batch.count) return false
        if (count === 0) break
        for (let row = 0; row < count; row++) {
          if (batch.family(row) !== 0 || batch.isTruncated(row)) return false
          got.push(rowBytes(batch, row))
        }
      }
      return pair.inside.pending === 0 && Buffer.concat(got).equals(Buffer.concat(given))
    }),
  )
  t.end()
})

t.test('entries come out in order, byte for byte, with their destination', (t) => {
  fc.assert(
    fc.property(packets, fc.constantFrom(0, NAME_SIZE), (given, name) => {
      const b = bench()
      const inside = stage(b, given, -1)
      b.pair.inside.write(inside)
      const outside = stage(b, given, name)
      b.pair.outside.send(outside, b.names)
      t.strictSame(b.pair.inside.drain(), given)
      const sent = b.pair.outside.drain()
      t.strictSame(
        sent,
        given.map((bytes) => ({ bytes, to: name === 0 ? A : B })),
      )
      t.strictSame(b.pair.outside.drain(), [], 'drained once')
      for (let i = 0; i < given.length; i++) {
        t.equal(inside.result(i), 0)
        t.equal(outside.result(i), 0)
      }
    }),
    { numRuns: 50 },
  )
  t.end()
})

t.test('datagrams carry their outer source', (t) => {
  const { batch, pair } = bench()
  pair.outside.inject(packet(30, 1), A)
  pair.outside.inject(packet(31, 2), B)
  t.equal(pair.outside.receive(batch), 2)
  t.equal(batch.family(0), 4)
  t.equal(batch.port(0), 8285)
  t.equal(batch.source(0, 0), 0xc0000202 | 0)
  t.strictSame(
    [1, 2, 3].map((w) => batch.source(0, w)),
    [0, 0, 0],
  )
  t.equal(batch.family(1), 6)
  t.equal(batch.port(1), 4789)
  t.strictSame(
    [0, 1, 2, 3].map((w) => batch.source(1, w) >>> 0),
    [0xf0f1f2f3, 0xf4f5f6f7, 0xf8f9fafb, 0xfcfdfeff],
  )
  pair.outside.inject(packet(30, 3), A)
  batch.rewind()
  pair.outside.receive(batch)
  t.strictSame(
    [1, 2, 3].map((w) => batch.source(0, w)),
    [0, 0, 0],
    'nothing left of an older row',
  )
  t.end()
})

t.test('what does not fit its slot is cut off and marked', (t) => {
  const { batch, pair } = bench()
  for (const len of [ROOM, ROOM + 1, 65507]) pair.outside.inject(packet(len, 7), A)
  t.equal(pair.outside.receive(batch), 3)
  t.strictSame(
    [0, 1, 2].map((row) => batch.len(row)),
    [ROOM, ROOM, ROOM],
  )
  t.strictSame(
    [0, 1, 2].map((row) => batch.isTruncated(row)),
    [false, true, true],
  )
  t.equal(batch.arena.bytes[batch.at(0) + ROOM], 0, 'the next slot is untouched')
  t.end()
})

t.test('queues are bounded in all four directions', (t) => {
  const b = bench(2)
  const three = [packet(20, 1), packet(20, 2), packet(20, 3)]
  t.strictSame(
    three.map((bytes) => b.pair.inside.inject(bytes)),
    [true, true, false],
  )
  t.strictSame(
    three.map((bytes) => b.pair.outside.inject(bytes, A)),
    [true, true, false],
  )
  const entries = stage(b, three, 0)
  b.pair.outside.send(entries, b.names)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [0, 0, EAGAIN],
  )
  b.pair.inside.write(entries)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [0, 0, EAGAIN],
  )
  b.pair.raw.send(entries, b.names)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [0, 0, EAGAIN],
  )
  t.equal(b.pair.inside.drain().length, 2)
  b.pair.inside.write(entries)
  t.equal(entries.result(0), 0, 'room again')
  t.end()
})

t.test('what the kernel refuses is refused', (t) => {
  const b = bench()
  const names = new Uint8Array(2 * NAME_SIZE)
  encodeName(endpoint4(0xc0000202, 0), names, NAME_SIZE)
  const outside = [
    { name: 'no destination', at: -1, want: EDESTADDRREQ },
    { name: 'an empty name', at: 0, want: EINVAL },
    { name: 'port 0', at: NAME_SIZE, want: EINVAL },
  ]
  for (const c of outside) {
    const entries = stage(b, [packet(20, 1)], c.at)
    b.pair.outside.send(entries, names)
    t.equal(entries.result(0), c.want, c.name)
  }
  const limit = stage(b, [packet(65507, 1)], 0)
  b.pair.outside.send(limit, b.names)
  t.equal(limit.result(0), 0, 'the longest datagram')
  const over = stage(b, [packet(65508, 1)], 0)
  b.pair.outside.send(over, b.names)
  t.equal(over.result(0), EMSGSIZE, 'one byte more')

  const inside = [Uint8Array.of(0x15, 0, 0, 0), new Uint8Array(0), Uint8Array.of(0x60)]
  const entries = stage(b, inside, -1)
  b.pair.inside.write(entries)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [EINVAL, EINVAL, 0],
  )
  t.end()
})

t.test('a raw socket takes names without a port', (t) => {
  const b = bench()
  const names = new Uint8Array(NAME_SIZE)
  const to = endpoint4(0x0a050107, 0)
  encodeName(to, names, 0)
  const entries = stage(b, [packet(56, 9)], 0)
  b.pair.raw.send(entries, names)
  t.equal(entries.result(0), 0)
  t.strictSame(b.pair.raw.drain(), [{ bytes: packet(56, 9), to }])
  b.pair.raw.send(entries, new Uint8Array(NAME_SIZE))
  t.equal(entries.result(0), EINVAL)
  t.end()
})

t.test('refusals on order', (t) => {
  const b = bench()
  b.pair.outside.refuseNext(111, 2)
  b.pair.inside.refuseNext(105)
  const entries = stage(b, [packet(20, 1), packet(20, 2), packet(20, 3)], 0)
  b.pair.outside.send(entries, b.names)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [111, 111, 0],
  )
  b.pair.inside.write(entries)
  t.strictSame(
    [0, 1, 2].map((i) => entries.result(i)),
    [105, 0, 0],
  )
  t.equal(b.pair.outside.drain().length, 1)
  t.end()
})

t.test('pieces are joined and trains are cut', (t) => {
  const b = bench()
  b.arena.bytes.set([0x45, 1, 2, 3, 4, 5, 6, 7], 1000)
  const entries = new Entries(1, 3)
  entries.add(1000, 3, 0, 7)
  entries.pieces.set([1000, 3, 1005, 3, 1003, 1])
  entries.entries[1] = 3
  entries.entries[2] = 3
  b.pair.outside.send(entries, b.names)
  t.strictSame(
    b.pair.outside.drain().map((datagram) => [...datagram.bytes]),
    [[0x45, 1, 2], [5, 6, 7], [3]],
  )
  t.end()
})

t.test('a train larger than the room left is refused whole', (t) => {
  const b = bench(2)
  const entries = stage(b, [packet(30, 1)], 0)
  entries.entries[2] = 10
  b.pair.outside.send(entries, b.names)
  t.equal(entries.result(0), EAGAIN)
  t.strictSame(b.pair.outside.drain(), [])
  t.end()
})

t.test('bytes outside the arena are an error of the caller', (t) => {
  const b = bench(4, 4096)
  const entries = new Entries(1)
  entries.add(4090, 7, 0, 7)
  t.throws(() => {
    b.pair.outside.send(entries, b.names)
  }, RangeError)
  t.throws(() => {
    b.pair.inside.write(entries)
  }, RangeError)
  t.end()
})

t.test('injected and drained bytes are copies', (t) => {
  const b = bench()
  const given = packet(20, 1)
  b.pair.inside.inject(given)
  given.fill(0)
  b.pair.inside.read(b.batch)
  t.strictSame(rowBytes(b.batch, 0), packet(20, 1))
  const entries = stage(b, [packet(20, 2)], 0)
  b.pair.outside.send(entries, b.names)
  b.arena.bytes.fill(0)
  t.strictSame(b.pair.outside.drain()[0]!.bytes, packet(20, 2))
  t.end()
})

/** Entries whose first piece is a virtio-net header. */
function stageBehind(b: Bench, vnets: readonly Uint8Array[], body: Uint8Array): Entries {
  const entries = new Entries(vnets.length, 2)
  let at = CAPACITY * (HEADROOM + ROOM)
  for (const vnet of vnets) {
    b.arena.bytes.set(vnet, at)
    b.arena.bytes.set(body, at + vnet.length)
    const i = entries.begin(-1)
    entries.addPiece(i, at, vnet.length)
    entries.addPiece(i, at + vnet.length, body.length)
    entries.addPacket(i, body.length)
    at += vnet.length + body.length
  }
  return entries
}

const NO_VNET = new Uint8Array(VNET_HDR_LEN)
/** NEEDS_CSUM, TCPv4, headers 40, size 1400, checksum at 20 + 16; as in linux/virtio_net.h. */
const SUPER = Uint8Array.of(1, 1, 40, 0, 0x78, 5, 20, 0, 16, 0)

t.test('virtio-net headers come before the packets that are read', (t) => {
  const b = bench()
  const inside = new MemoryInside(b.arena, 8, true)
  inside.inject(packet(60, 1), SUPER)
  inside.inject(packet(60, 2))
  b.arena.bytes.fill(0xaa)
  t.equal(inside.read(b.batch), 2)
  for (const [row, vnet] of [SUPER, NO_VNET].entries()) {
    const at = b.batch.at(row)
    t.strictSame(b.arena.bytes.slice(at - VNET_HDR_LEN, at), vnet)
    t.strictSame(rowBytes(b.batch, row), packet(60, row + 1))
    t.equal(b.arena.bytes[at - VNET_HDR_LEN - 1], 0xaa, 'nothing before them')
  }
  t.end()
})

t.test('virtio-net headers are taken off the packets that are written', (t) => {
  const b = bench()
  const inside = new MemoryInside(b.arena, 8, true)
  const entries = stageBehind(b, [NO_VNET, SUPER], packet(60, 3))
  inside.write(entries)
  t.strictSame([entries.result(0), entries.result(1)], [0, 0])
  t.strictSame(inside.drainWithHeaders(), [
    { vnet: NO_VNET, packet: packet(60, 3) },
    { vnet: SUPER, packet: packet(60, 3) },
  ])
  inside.write(entries)
  t.strictSame(inside.drain(), [packet(60, 3), packet(60, 3)])
  t.end()
})

t.test('a virtio-net header that makes no sense is refused', (t) => {
  const b = bench()
  const inside = new MemoryInside(b.arena, 8, true)
  const changed = (...patches: readonly (readonly [number, number])[]): Uint8Array => {
    const copy = SUPER.slice()
    for (const [at, byte] of patches) copy[at] = byte
    return copy
  }
  const cases = [
    changed([1, 2]), // an unknown GSO type
    changed([4, 0], [5, 0]), // no size
    changed([2, 61]), // headers longer than the packet
    changed([6, 43]), // checksum outside
    SUPER.slice(0, 9),
  ]
  for (const vnet of cases) {
    const entries = stageBehind(b, [vnet], packet(vnet.length === 9 ? 0 : 60, 1))
    inside.write(entries)
    t.equal(entries.result(0), EINVAL, Buffer.from(vnet).toString('hex'))
  }
  t.strictSame(inside.drain(), [])
  t.end()
})

t.test('trains are read as one row', (t) => {
  const { batch, pair } = bench()
  pair.outside.inject(packet(100, 1), A, 40)
  pair.outside.inject(packet(50, 2), A)
  t.equal(pair.outside.receive(batch), 2)
  t.strictSame([batch.len(0), batch.segment(0)], [100, 40])
  t.strictSame([batch.len(1), batch.segment(1)], [50, 0])
  t.end()
})

t.test('a run has as many datagrams as the kernel takes', (t) => {
  const b = bench()
  for (const [len, want] of [
    [128, 0],
    [129, EINVAL],
  ] as const) {
    const entries = stage(b, [packet(len, 1)], 0)
    entries.setSegment(0, 1)
    b.pair.outside.send(entries, b.names)
    t.equal(entries.result(0), want)
  }
  t.equal(b.pair.outside.drain().length, 128)
  t.end()
})

t.test('runs and super-packets can be refused; what stands behind them waits', (t) => {
  const b = bench()
  const inside = new MemoryInside(b.arena, 8, true)
  const { outside } = b.pair
  inside.refuseJoined(EIO)
  outside.refuseRuns(EIO)
  const check = (entries: Entries, put: (first: number) => number, taken: () => number): void => {
    entries.setSegment(1, 10)
    entries.setSegment(2, 10)
    t.strictSame([put(0), taken()], [2, 1])
    t.equal(put(2), 3)
    t.not(taken(), 0)
    t.strictSame(
      [0, 1, 2].map((i) => entries.result(i)),
      [0, EIO, 0],
    )
  }
  const written = stageBehind(b, [NO_VNET, SUPER, SUPER], packet(60, 1))
  check(
    written,
    (first) => inside.write(written, first),
    () => inside.drain().length,
  )
  const sent = stage(b, [packet(20, 1), packet(20, 2), packet(20, 3)], 0)
  check(
    sent,
    (first) => outside.send(sent, b.names, first),
    () => outside.drain().length,
  )
  t.end()
})
