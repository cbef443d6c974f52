/** A lookup allocates nothing: the heap does not grow with their number. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { attachFibReader } from './lpm.js'
import { createFib } from './lpm-writer.js'
import { createHopTable } from './nexthop.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Lookups of each kind per run, in slices: garbage of a slice is rarely collected within it. */
const SLICES = 20
const LOOKUPS = 50_000
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

/** Keeps the results in use; a plain variable would be a heap number once it is large. */
const sum = new Int32Array(1)

function breaths(): void {
  for (let i = 0; i < LOOKUPS; i++) {
    if (i % 64 === 0) reader.enter()
    let mix = reader.lookup4(Math.imul(i, 0x9e3779b1))
    key.setInt32(4, Math.imul(i, 0x9e3779b1) & 0x0fffffff)
    mix ^= reader.lookup6(key, 0)
    mix ^= hops.addressWord(peer, 0) + hops.port(peer) + hops.name(peer) + hops.family(peer)
    sum[0] = (sum[0]! << 1) ^ mix
    if (i % 64 === 63) reader.leave()
  }
}

/** What must be caught: one small object per lookup. */
const kept: unknown[] = []
function leaky(): void {
  for (let i = 0; i < LOOKUPS; i++) kept[i & 1023] = { hop: reader.lookup4(i) }
}

/** Bytes of heap that a run used, per lookup; a slice in which a collection fell is left out. */
function growth(run: () => void): number {
  collectGarbage()
  let sum = 0
  for (let slice = 0; slice < SLICES; slice++) {
    const before = process.memoryUsage().heapUsed
    run()
    sum += Math.max(0, process.memoryUsage().heapUsed - before)
  }
  return sum / (SLICES * LOOKUPS)
}

growth(breaths)
growth(leaky)

t.test('heap growth', (t) => {
  const own = growth(breaths)
  t.ok(own < MOST_BYTES_PER_LOOKUP, `${own.toFixed(4)} bytes per lookup`)
  const object = growth(leaky)
  t.ok(object > 10, `the measure sees one object per lookup: ${object.toFixed(1)}`)
  t.not(sum[0], 0)
  t.end()
})
