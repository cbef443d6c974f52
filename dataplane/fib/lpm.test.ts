/** The fast table beside its linear twin: hand-made cases for both, then random ones for one against the other. */
import fc from 'fast-check'
import t from 'tap'
import {
  mask4,
  maskAddress6,
  parseAddress4,
  parseAddress6,
  parsePrefix4,
  parsePrefix6,
} from '../address.js'
import type { FibReader, FibWriter } from './fib.js'
import { LinearFib } from './linear.js'
import { attachFibReader } from './lpm.js'
import { createFib } from './lpm-writer.js'

const seed = process.env['FC_SEED']
if (seed !== undefined) fc.configureGlobal({ seed: Number(seed) })

const RESERVE = 16 << 20

interface Pair {
  reader: FibReader
  writer: FibWriter
}

function createFast() {
  const { shared, writer } = createFib({ readers: 1, reserveBytes: RESERVE, maxHops: 16 })
  return { reader: attachFibReader(shared, 0), writer }
}

function createTwin(): Pair {
  const twin = new LinearFib()
  return { reader: twin, writer: twin }
}

/** Looks up within a breath of its own, so that the last change counts. */
function look4({ reader }: Pair, dst: number): number {
  reader.enter()
  const hop = reader.lookup4(dst)
  reader.leave()
  return hop
}
function look6({ reader }: Pair, dst: Uint8Array): number {
  reader.enter()
  const hop = reader.lookup6(new DataView(dst.buffer, dst.byteOffset), 0)
  reader.leave()
  return hop
}

function change(fib: Pair, text: string, hop: number): boolean {
  const prefix4 = parsePrefix4(text)
  if (prefix4) {
    if (hop === 0) return fib.writer.remove4(prefix4.addr, prefix4.len)
    fib.writer.insert4(prefix4.addr, prefix4.len, hop)
    return true
  }
  const prefix6 = parsePrefix6(text)!
  if (hop === 0) return fib.writer.remove6(prefix6.addr, prefix6.len)
  fib.writer.insert6(prefix6.addr, prefix6.len, hop)
  return true
}

function look(fib: Pair, text: string): number {
  const addr = parseAddress4(text)
  return addr === null ? look6(fib, parseAddress6(text)!) : look4(fib, addr)
}

/** Each step: changes (prefix, hop; 0 = remove), then what addresses must answer. */
const STEPS: { name: string; set: [string, number][]; want: [string, number][] }[] = [
  {
    name: 'nested prefixes, the longest wins',
    set: [
      ['10.0.0.0/8', 1],
      ['10.5.0.0/16', 2],
      ['10.5.1.0/24', 3],
      ['10.5.1.7/32', 4],
      ['10.5.1.0/27', 70_000],
    ],
    want: [
      ['9.255.255.255', 0],
      ['10.0.0.0', 1],
      ['10.255.255.255', 1],
      ['11.0.0.0', 0],
      ['10.4.255.255', 1],
      ['10.5.0.0', 2],
      ['10.5.1.255', 3],
      ['10.5.1.7', 4],
      ['10.5.1.6', 70_000],
      ['10.5.1.32', 3],
      ['10.5.2.0', 2],
    ],
  },
  {
    name: 'removal restores the covering prefix, whatever its level',
    set: [
      ['10.5.1.0/24', 0],
      ['10.5.1.0/27', 0],
      ['10.5.0.0/16', 0],
    ],
    want: [
      ['10.5.1.7', 4],
      ['10.5.1.6', 1],
      ['10.5.0.0', 1],
    ],
  },
  {
    name: 'a default route reaches every address that nothing else covers',
    set: [
      ['0.0.0.0/0', 9],
      ['255.255.255.255/32', 8],
      ['0.0.0.0/32', 7],
    ],
    want: [
      ['0.0.0.0', 7],
      ['0.0.0.1', 9],
      ['10.5.1.7', 4],
      ['10.5.1.8', 1],
      ['127.255.255.255', 9],
      ['128.0.0.0', 9],
      ['255.255.255.254', 9],
      ['255.255.255.255', 8],
    ],
  },
  {
    name: 'replacing the hop of a covering prefix shows under its holes only',
    set: [
      ['10.0.0.0/8', 5],
      ['0.0.0.0/0', 6],
    ],
    want: [
      ['10.5.1.7', 4],
      ['10.5.1.8', 5],
      ['192.0.2.1', 6],
    ],
  },
  {
    name: 'IPv6, from ::/0 to /128',
    set: [
      ['::/0', 1],
      ['2001:db8::/32', 2],
      ['2001:db8::/31', 3],
      ['2001:db8:0:5::/64', 4],
      ['2001:db8:0:5::1/128', 5],
      ['2001:db8:0:5::/127', 6],
    ],
    want: [
      ['::', 1],
      ['2001:db9::1', 3],
      ['2001:db8::1', 2],
      ['2001:db8:0:5::1', 5],
      ['2001:db8:0:5::', 6],
      ['2001:db8:0:5::2', 4],
      ['2001:db8:0:6::2', 2],
      ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 1],
    ],
  },
  {
    name: 'IPv6 removal',
    set: [
      ['2001:db8:0:5::1/128', 0],
      ['2001:db8:0:5::/64', 0],
      ['2001:db8::/32', 0],
      ['::/0', 0],
    ],
    want: [
      ['2001:db8:0:5::1', 6],
      ['2001:db8:0:5::2', 3],
      ['2002::', 0],
      ['10.5.1.7', 4],
    ],
  },
]

for (const [name, create] of [
  ['linear', createTwin],
  ['fast', createFast],
] as const) {
  t.test(`${name}: hand-made cases`, (t) => {
    const fib = create()
    for (const step of STEPS) {
      for (const [prefix, hop] of step.set) t.ok(change(fib, prefix, hop), `set ${prefix}`)
      for (const [addr, hop] of step.want) t.equal(look(fib, addr), hop, `${step.name}: ${addr}`)
    }
    t.equal(fib.writer.size4, 5)
    t.equal(fib.writer.size6, 2)
    t.equal(change(fib, '10.5.0.0/16', 0), false, 'there is no such route any more')
    t.equal(change(fib, '10.0.0.0/9', 0), false, 'covered is not the same as there')
    t.equal(change(fib, '2001:db8::/64', 0), false)
    t.equal(fib.writer.size4, 5)
    t.end()
  })
}

/** Bytes that make prefixes nest and touch instead of lying anywhere. */
const byte = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0, 1, 10, 127, 128, 255) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) },
)
/** Few enough that neighbours share them, on either side of what fits 8 and 16 bits. */
const hop = fc.constantFrom(1, 2, 255, 256, 65_535, 65_536, 0x7fffffff)

function bytesOf(width: number): fc.Arbitrary<Uint8Array> {
  return fc.array(byte, { minLength: width, maxLength: width }).map((list) => Uint8Array.from(list))
}

interface Change {
  readonly addr: Uint8Array
  readonly len: number
  readonly hop: number
}

function changesOf(width: number): fc.Arbitrary<Change[]> {
  const len = fc.oneof(
    fc.integer({ min: 0, max: 8 * width }),
    fc.constantFrom(0, 8, 16, 24, 8 * width - 1, 8 * width),
  )
  const one = fc.record({
    addr: bytesOf(width),
    len,
    hop: fc.oneof({ weight: 3, arbitrary: hop }, { weight: 1, arbitrary: fc.constant(0) }),
  })
  return fc.array(one, { maxLength: 60 })
}

function bits4(addr: Uint8Array): number {
  return new DataView(addr.buffer).getInt32(0)
}

function apply(fib: FibWriter, width: number, { addr, len, hop }: Change): boolean {
  if (width === 4) {
    const bits = bits4(addr) & mask4(len)
    if (hop === 0) return fib.remove4(bits, len)
    fib.insert4(bits, len, hop)
    return true
  }
  const masked = addr.slice()
  maskAddress6(masked, len)
  if (hop === 0) return fib.remove6(masked, len)
  fib.insert6(masked, len, hop)
  return true
}

/** The addresses where a prefix begins and ends, and their neighbours outside. */
function edges({ addr, len }: Change): Uint8Array[] {
  const width = addr.length
  const bits = BigInt(8 * width)
  const all = (1n << bits) - 1n
  const host = all >> BigInt(len)
  const value = BigInt('0x' + Buffer.from(addr).toString('hex'))
  const first = value & ~host
  return [value, first, first | host, first - 1n, (first | host) + 1n].map((edge) => {
    const text = (edge & all).toString(16).padStart(2 * width, '0')
    return Uint8Array.from(Buffer.from(text, 'hex'))
  })
}

function same(width: number, a: Pair, b: Pair, dst: Uint8Array): boolean {
  if (width === 4) return look4(a, bits4(dst)) === look4(b, bits4(dst))
  return look6(a, dst) === look6(b, dst)
}

for (const width of [4, 16]) {
  t.test(
    `IPv${width === 4 ? '4' : '6'}: twins agree after every change, and nothing leaks`,
    (t) => {
      const fast = createFast()
      const empty = fast.writer.memory()
      fc.assert(
        fc.property(
          changesOf(width),
          fc.array(bytesOf(width), { maxLength: 20 }),
          (changes, keys) => {
            const twin = createTwin()
            const probes = [...keys, ...changes.flatMap(edges)]
            for (const change of changes) {
              if (apply(fast.writer, width, change) !== apply(twin.writer, width, change))
                return false
              for (const dst of edges(change)) if (!same(width, fast, twin, dst)) return false
            }
            for (const dst of probes) if (!same(width, fast, twin, dst)) return false
            if (fast.writer.size4 !== twin.writer.size4 || fast.writer.size6 !== twin.writer.size6)
              return false
            for (const change of changes) apply(fast.writer, width, { ...change, hop: 0 })
            const { nodeBytes, listBytes, waiting } = fast.writer.memory()
            return nodeBytes === empty.nodeBytes && listBytes === 0 && waiting === 0
          },
        ),
        { numRuns: 150 },
      )
      t.end()
    },
  )

  t.test(`IPv${width === 4 ? '4' : '6'}: grouped changes do what single ones do`, (t) => {
    fc.assert(
      fc.property(changesOf(width), (changes) => {
        const fast = createFast()
        const twin = createTwin()
        const half = changes.length >> 1
        for (const change of changes.slice(0, half)) apply(fast.writer, width, change)
        fast.writer.update(() => {
          for (const change of changes.slice(half)) apply(fast.writer, width, change)
        })
        for (const change of changes) apply(twin.writer, width, change)
        return changes.flatMap(edges).every((dst) => same(width, fast, twin, dst))
      }),
      { numRuns: 60 },
    )
    t.end()
  })
}

t.test('a crowded /15: nodes of every form, grown and shrunk one route at a time', (t) => {
  const fast = createFast()
  const twin = createTwin()
  const empty = fast.writer.memory()
  const random = (
    (state) => () =>
      (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 8
  )(7)
  const changes: Change[] = []
  for (let i = 0; i < 1500; i++) {
    const addr = Uint8Array.of(10, random() & 1, random(), random())
    changes.push({ addr, len: 15 + (random() % 18), hop: 1 + (random() % 500) })
  }
  for (const change of changes) {
    apply(fast.writer, 4, change)
    apply(twin.writer, 4, change)
  }
  const disagree = (): number => {
    let count = 0
    for (let i = 0; i < 1500; i++) {
      if (!same(4, fast, twin, Uint8Array.of(10, random() & 1, random(), random()))) count++
    }
    return count
  }
  t.equal(disagree(), 0, 'full')
  for (const change of changes.splice(0, 750)) {
    apply(fast.writer, 4, { ...change, hop: 0 })
    apply(twin.writer, 4, { ...change, hop: 0 })
  }
  t.equal(disagree(), 0, 'half removed')
  for (const change of changes) apply(fast.writer, 4, { ...change, hop: 0 })
  t.equal(fast.writer.memory().nodeBytes, empty.nodeBytes)
  t.equal(fast.writer.memory().listBytes, 0)
  t.end()
})

t.test('one breath sees one version of the table', (t) => {
  const { reader, writer } = createFast()
  writer.insert4(0x0a000000, 8, 1)
  reader.enter()
  writer.insert4(0x0a050000, 16, 2)
  t.equal(reader.lookup4(0x0a050000), 1, 'the root of its beginning')
  reader.leave()
  reader.enter()
  t.equal(reader.lookup4(0x0a050000), 2)
  reader.leave()
  t.end()
})

t.test('a node widens with its largest hop, shrinks again, and answers the same meanwhile', (t) => {
  const { writer, reader } = createFast()
  const before = writer.memory().nodeBytes
  const hops = new Array<number>(256).fill(0)
  const sizes: number[] = []
  // The third level's node of 10.5.0.0/16; every second /24 has a route, so that it is never runs.
  const step = (third: number, hop: number): void => {
    hops[third] = hop
    writer.insert4(0x0a050000 + (third << 8), 24, hop)
    sizes.push(writer.memory().nodeBytes - before)
    reader.enter()
    for (let byte = 0; byte < 256; byte++) {
      t.equal(
        reader.lookup4(0x0a050000 + (byte << 8) + 7),
        hops[byte],
        `${String(hop)}: .${String(byte)}`,
      )
    }
    reader.leave()
  }
  for (let third = 0; third < 256; third += 2) step(third, 1 + (third & 3))
  for (const hop of [255, 256, 65_535, 65_536, 65_535, 256, 255, 1]) step(100, hop)
  const path = (sizes[0] ?? 0) - 256
  const changed = sizes.slice(-8).map((size) => size - path)
  t.same(changed, [256, 512, 512, 1024, 512, 512, 256, 256], 'bytes of the node')
  t.end()
})

t.test('10 000 hosts with a /24 each stay below 1 MB', (t) => {
  const { writer } = createFib({ readers: 1 })
  writer.insert4(0, 0, 1)
  for (let host = 0; host < 10_000; host++) writer.insert4(0x0a000000 + (host << 8), 24, 2 + host)
  const dense = writer.memory()
  t.equal(writer.size4, 10_001)
  t.ok(dense.touchedBytes < 1e6, `one after another: ${String(dense.touchedBytes)} bytes touched`)
  const scattered = createFib({ readers: 1 }).writer
  for (let host = 0; host < 10_000; host++) {
    scattered.insert4(0x0a000000 + (((host * 40_503) & 0xffff) << 8), 24, 2 + host)
  }
  const { touchedBytes } = scattered.memory()
  t.ok(touchedBytes < 1e6, `all over a /8: ${String(touchedBytes)} bytes touched`)
  t.end()
})
