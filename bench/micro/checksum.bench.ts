/**
 * The Internet checksum: the native sum, its twin in TypeScript, and the loop of RFC 1071; by length,
 * and many packets per call. The loops are written out per case: a shared one would have to call what
 * the compiler can otherwise take in.
 */
import { native } from '../../dataplane/native/native.js'
import { createArena } from '../../dataplane/packet/arena.js'
import { BATCH_COLUMNS, Batch } from '../../dataplane/packet/batch.js'
import { HEADROOM } from '../../dataplane/packet/layout.js'
import { sum } from '../../dataplane/wire/checksum.js'
import { createRandom } from '../lib/random.js'
import { rfcSum } from '../lib/rfc-sum.js'
import { runSuite } from '../lib/suite.js'

/** Bytes over which the ranges of a batch are spread: more than the first-level cache, less than the second. */
const SPAN = 1 << 18
const STEP = SPAN / 64

const random = createRandom(0x51515151)
const arena = createArena(new ArrayBuffer(2 * SPAN))
for (let i = 0; i < arena.bytes.length; i++) arena.bytes[i] = random()
const { bytes, view } = arena
const buffer = Buffer.from(bytes.buffer)

for (const len of [20, 64, 590, 1450, 65535]) {
  await runSuite(`checksum-${len}`, [
    {
      name: `native, ${len} bytes`,
      size: 64,
      prepare: () => () => {
        let folded = 0
        for (let at = 0; at < SPAN; at += STEP) folded ^= native.checksum(bytes, at, len)
        return folded
      },
    },
    {
      name: `TypeScript, ${len} bytes`,
      size: 64,
      prepare: () => () => {
        let folded = 0
        for (let at = 0; at < SPAN; at += STEP) folded ^= sum(view, at, len)
        return folded
      },
    },
    {
      name: `as in RFC 1071, ${len} bytes`,
      size: 64,
      prepare: () => () => {
        let folded = 0
        for (let at = 0; at < SPAN; at += STEP) folded ^= rfcSum(buffer, at, len)
        return folded
      },
    },
  ])
}

const sums = new Int32Array(4096)

/** One native call for all datagrams of a batch. */
function rows(name: string, count: number, len: number, segment: number) {
  const batch = new Batch(arena, 0, count, SPAN / count)
  for (let row = 0; row < count; row++) batch.fill(row, len, false, 4, 0, 0)
  batch.columns.fill(segment, BATCH_COLUMNS.SEGMENT * count, (BATCH_COLUMNS.SEGMENT + 1) * count)
  return {
    name,
    size: count * (segment === 0 ? 1 : Math.ceil(len / segment)),
    prepare: () => () => native.checksumRows(bytes, batch.columns, count, count, 0, sums),
  }
}

await runSuite('checksum-batch', [
  rows('one call for 64 × 64 bytes', 64, 64, 0),
  {
    name: '64 calls',
    size: 64,
    prepare: () => () => {
      let folded = 0
      for (let at = 0; at < SPAN; at += STEP) folded ^= native.checksum(bytes, at, 64)
      return folded
    },
  },
  rows('one call for 64 × 1450 bytes', 64, 1450, 0),
  rows('one call for 4 trains of 44 × 1472 bytes', 4, 44 * 1472, 1472),
  rows('one call for 4 trains of 64 × 64 bytes', 4, 64 * 64, 64),
  {
    name: 'one call for the 46 payloads of a super-packet',
    size: 46,
    prepare: () => () => native.checksumSteps(bytes, HEADROOM, 46 * 1420, 1420, sums),
  },
])
