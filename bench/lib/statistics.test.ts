import fc from 'fast-check'
import t from 'tap'
import { chanceApart, isApart, percentile, summarize } from './statistics.js'

t.test('median and range', (t) => {
  t.equal(summarize([]), null)
  t.same(summarize([7]), { median: 7, min: 7, max: 7, count: 1 })
  t.same(summarize([10, 9, 100]), { median: 10, min: 9, max: 100, count: 3 })
  t.same(summarize([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4, count: 4 })
  const values = [3, 1, 2]
  summarize(values)
  t.same(values, [3, 1, 2], 'leaves its input alone')
  t.end()
})

t.test('percentiles by nearest rank', (t) => {
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1)
  t.equal(percentile(hundred, 0.5), 50)
  t.equal(percentile(hundred, 0.99), 99)
  t.equal(percentile(hundred, 0.999), 100)
  t.equal(percentile(hundred, 0), 1)
  t.equal(percentile(hundred, 1), 100)
  t.equal(percentile(Float64Array.of(5), 0.5), 5)
  t.ok(Number.isNaN(percentile([], 0.5)))
  t.end()
})

t.test('a percentile is a value that enough others do not exceed', (t) => {
  const values = fc.array(fc.integer(), { minLength: 1, maxLength: 50 })
  fc.assert(
    fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (unsorted, share) => {
      const sorted = [...unsorted].sort((a, b) => a - b)
      const value = percentile(sorted, share)
      const atMost = sorted.filter((v) => v <= value).length
      const below = sorted.filter((v) => v < value).length
      return atMost >= sorted.length * share && below <= sorted.length * share
    }),
  )
  t.end()
})

t.test('ranges lie apart or touch', (t) => {
  const of = (...values: number[]) => summarize(values)!
  t.ok(isApart(of(1, 2), of(3, 4)))
  t.ok(isApart(of(3, 4), of(1, 2)))
  t.notOk(isApart(of(1, 3), of(3, 4)))
  t.notOk(isApart(of(1, 9), of(3, 4)))
  t.end()
})

t.test('the chance of lying apart, against all orders counted out', (t) => {
  for (const [n, m] of [
    [1, 1],
    [2, 2],
    [3, 3],
    [3, 5],
  ] as const) {
    // Every way of choosing which of the n + m ranks belong to the first sample.
    let apart = 0
    let all = 0
    for (let chosen = 0; chosen < 1 << (n + m); chosen++) {
      const ranks = Array.from({ length: n + m }, (_, i) => i)
      const first = ranks.filter((i) => (chosen >> i) & 1)
      if (first.length !== n) continue
      const second = ranks.filter((i) => !((chosen >> i) & 1))
      all++
      if (isApart(summarize(first)!, summarize(second)!)) apart++
    }
    t.ok(Math.abs(chanceApart(n, m) - apart / all) < 1e-12, `${n} and ${m}: ${apart} of ${all}`)
  }
  t.end()
})
