/** A lookup allocates nothing: the heap does not grow with their number. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { attachFibReader } from './lpm.js'
import { createFib } from './lpm-writer.js'
import { createHopTable } from './nexthop.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const LOOKUPS = 1_000_000
/** A single small object per lookup would be 16 bytes or more. */
const MOST_BYTES_PER_LOOKUP = 0.1

const { shared, writer, hops: hopWriter } = createFib({ readers: 1, reserveBytes: 32 << 20 })
const peer = hopWriter.addPeer(0xc0000201, 8285)
const far = 70_000
const key = new DataView(new ArrayBuffer(16))
for (let i = 0; i < 4096; i++) {
  writer.insert4(0x80000000 + (i << 16), 16 + (i % 17), 1 + (i % 2) * far)
  key.setUint32(0, 0x20010db8)
  key.setUint32(4, i << 16)
  writer.insert6(new Uint8Array(key.buffer), 48 + (i % 17), 1 + (i % 2) * far)
}
const reader = attachFibReader(shared, 0)
const hops = createHopTable(shared)

let sum = 0

function breaths(): void {
  for (let i = 0; i < LOOKUPS; i++) {
    if (i % 64 === 0) reader.enter()
    sum += reader.lookup4(Math.imul(i, 0x9e3779b1))
    key.setInt32(4, Math.imul(i, 0x9e3779b1) & 0x0fffffff)
    sum += reader.lookup6(key, 0)
    sum += hops.addressWord(peer, 0) + hops.port(peer) + hops.name(peer) + hops.family(peer)
    if (i % 64 === 63) reader.leave()
  }
}

/** What must be caught: a number too large for a small integer, kept in an object. */
const kept: unknown[] = []
function leaky(): void {
  for (let i = 0; i < LOOKUPS; i++) kept[i & 1023] = { hop: reader.lookup4(i) + 0.5 }
}

/** Bytes of heap that a run used, per lookup. No collection happens meanwhile, unless it used much. */
function growth(run: () => void): number {
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  run()
  return (process.memoryUsage().heapUsed - before) / LOOKUPS
}

breaths()
breaths()
leaky()

t.test('heap growth', (t) => {
  const own = growth(breaths)
  t.ok(own < MOST_BYTES_PER_LOOKUP, `${own.toFixed(4)} bytes per lookup`)
  const object = growth(leaky)
  t.ok(
    object > MOST_BYTES_PER_LOOKUP,
    `the measure sees one object per lookup: ${object.toFixed(1)}`,
  )
  t.not(sum, 0)
  t.end()
})
