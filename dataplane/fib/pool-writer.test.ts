/** The allocator beside a plain list of the blocks it gave out. */
import fc from 'fast-check'
import t from 'tap'
import { BlockPool, MIN_RESERVE } from './pool-writer.js'

const WORDS = MIN_RESERVE / 4

t.test('orders', (t) => {
  const cases: [number, number][] = [
    [1, 0],
    [16, 0],
    [17, 1],
    [32, 1],
    [256, 4],
    [257, 5],
    [1024, 6],
  ]
  for (const [words, order] of cases) {
    t.equal(BlockPool.orderFor(words), order, `${String(words)} words`)
    t.ok(BlockPool.wordsOf(order) >= words)
  }
  t.end()
})

t.test('blocks never overlap, and all of it comes back', (t) => {
  const words = new Int32Array(WORDS)
  const steps = fc.array(fc.record({ order: fc.nat(6), pick: fc.nat(), isFree: fc.boolean() }), {
    maxLength: 300,
  })
  const pool = new BlockPool(words)
  fc.assert(
    fc.property(steps, (list) => {
      const blocks: { at: number; order: number; mark: number }[] = []
      let mark = 0
      for (const { order, pick, isFree } of list) {
        if (isFree && blocks.length > 0) {
          const [block] = blocks.splice(pick % blocks.length, 1)
          pool.free(block!.at)
        } else {
          const at = pool.alloc(order, false)
          if (at === 0) return false
          mark++
          words.fill(mark, at, at + BlockPool.wordsOf(order))
          blocks.push({ at, order, mark })
        }
      }
      const isWhole = blocks.every(
        ({ at, order, mark }) =>
          pool.order(at) === order &&
          words.subarray(at, at + BlockPool.wordsOf(order)).every((word) => word === mark),
      )
      for (const { at } of blocks) pool.free(at)
      return isWhole && pool.usedWords === 0
    }),
  )
  t.end()
})

t.test('small blocks join to large ones', (t) => {
  const pool = new BlockPool(new Int32Array(WORDS))
  const take = (order: number): number[] => {
    const blocks: number[] = []
    for (let at = pool.alloc(order, true); at !== 0; at = pool.alloc(order, true)) blocks.push(at)
    return blocks
  }
  const small = take(0)
  for (const at of small) pool.free(at)
  const large = take(6)
  t.equal(large.length, WORDS / 1024 - 1, 'all but the first chunk')
  t.equal(small.length, large.length * 64)
  t.end()
})

t.test('the spare part is for those who may use it', (t) => {
  const pool = new BlockPool(new Int32Array(WORDS))
  let ordinary = 0
  while (pool.alloc(6, false) !== 0) ordinary++
  let spare = 0
  while (pool.alloc(6, true) !== 0) spare++
  t.equal(spare, 272, 'the children of a node and a path')
  t.equal(ordinary + spare, WORDS / 1024 - 1)
  t.end()
})

t.test('fresh blocks can be dropped, settled ones cannot', (t) => {
  const pool = new BlockPool(new Int32Array(WORDS))
  const kept = pool.alloc(2, false)
  pool.settle()
  const fresh = pool.alloc(2, false)
  t.ok(pool.isFresh(fresh))
  t.notOk(pool.isFresh(kept))
  pool.free(fresh)
  t.equal(pool.alloc(2, false), fresh, 'taken, freed and taken again')
  pool.dropFresh()
  t.equal(pool.usedWords, BlockPool.wordsOf(2))
  t.equal(pool.order(kept), 2)
  t.end()
})
