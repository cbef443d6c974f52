/** The sums in TypeScript and the native ones are twins, and both are those of RFC 1071. */
import fc from 'fast-check'
import t from 'tap'
import { slowSum } from '../flow-fixture.js'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { BATCH_COLUMN_COUNT, BATCH_COLUMNS } from '../packet/batch.js'
import { createPlainSums } from './sums.js'

const BYTES = 4096
const plain = createPlainSums()

/** Bytes, some of them all ones, where carries are many. */
const anyBytes = fc
  .uint8Array({ minLength: BYTES, maxLength: BYTES })
  .chain((bytes) => fc.constantFrom(bytes, new Uint8Array(BYTES).fill(255)))

const slow = (bytes: Uint8Array, at: number, len: number): number =>
  slowSum(Array.from(bytes.subarray(at, at + len)))

t.test('a range', async () => {
  fc.assert(
    fc.property(anyBytes, fc.nat(BYTES), fc.nat(BYTES), (bytes, a, b) => {
      const [at, len] = [Math.min(a, b), Math.abs(a - b)]
      const want = slow(bytes, at, len)
      return plain.checksum(bytes, at, len) === want && native.checksum(bytes, at, len) === want
    }),
  )
})

t.test('steps of a range, as far as there is room', async () => {
  fc.assert(
    fc.property(
      anyBytes,
      fc.nat(50),
      fc.nat(3000),
      fc.integer({ min: 1, max: 1500 }),
      fc.integer({ min: 0, max: 40 }),
      (bytes, at, len, step, room) => {
        const want = Array.from({ length: Math.ceil(len / step) }, (_, k) =>
          slow(bytes, at + k * step, Math.min(step, len - k * step)),
        ).slice(0, room)
        return [plain, native].every((sums) => {
          const out = new Int32Array(room)
          const count = sums.checksumSteps(bytes, at, len, step, out)
          return count === want.length && out.subarray(0, count).join() === want.join()
        })
      },
    ),
  )
})

t.test('the datagrams of rows, without what comes before each', async () => {
  const row = fc.record({
    at: fc.nat(2000),
    len: fc.oneof(fc.nat(2000), fc.constant(0)),
    segment: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 700 })),
  })
  fc.assert(
    fc.property(
      anyBytes,
      fc.array(row, { maxLength: 6 }),
      fc.constantFrom(0, 8, 22),
      fc.integer({ min: 0, max: 200 }),
      (bytes, rows, skip, room) => {
        const capacity = 8
        const columns = new Int32Array(capacity * BATCH_COLUMN_COUNT)
        const want: number[] = []
        for (const [n, { at, len, segment }] of rows.entries()) {
          columns[BATCH_COLUMNS.AT * capacity + n] = at
          columns[BATCH_COLUMNS.LEN * capacity + n] = len
          columns[BATCH_COLUMNS.SEGMENT * capacity + n] = segment
          const step = segment === 0 ? len : segment
          for (let done = 0; done < len; done += step) {
            const size = Math.min(step, len - done)
            want.push(size > skip ? slow(bytes, at + done + skip, size - skip) : 0)
          }
        }
        return [plain, native].every((sums) => {
          const out = new Int32Array(room)
          const count = sums.checksumRows(bytes, columns, capacity, rows.length, skip, out)
          const right = want.slice(0, room)
          return count === right.length && out.subarray(0, count).join() === right.join()
        })
      },
    ),
  )
})

t.test('several arenas, and views into one', async (t) => {
  const shared = createArena(new SharedArrayBuffer(64)).bytes.fill(7)
  const view = new Uint8Array(shared.buffer, 16, 8).fill(9)
  for (const bytes of [shared, view, Uint8Array.of(1, 2, 3), shared]) {
    t.equal(plain.checksum(bytes, 1, 2), slow(bytes, 1, 2))
    t.equal(native.checksum(bytes, 1, 2), slow(bytes, 1, 2))
  }
})
