import t from 'tap'
import { createFull4, createFull6, createOverlay4, createRoutedKeys4 } from './routes.js'
import { MapPerLength4 } from './map-per-length.js'
import { formatReport, toLines } from './report.js'

t.test('seconds per batch become ns per operation and ratios', (t) => {
  const summary = {
    name: 'suite',
    results: [
      { name: 'fast', margin: 1, details: { median: 0.001, min: 0.0005 } },
      { name: 'slow', margin: 2.5, details: { median: 0.1, min: 0.1 } },
    ],
  }
  const sizes = new Map([
    ['fast', 10_000],
    ['slow', 100],
  ])
  const [fast, slow] = toLines(summary, sizes)
  t.same(fast, {
    name: 'fast',
    nsPerOp: 100,
    bestNsPerOp: 50,
    mopsPerSecond: 10,
    ratio: 1,
    marginPercent: 1,
  })
  t.same(slow, {
    name: 'slow',
    nsPerOp: 1e6,
    bestNsPerOp: 1e6,
    mopsPerSecond: 0.001,
    ratio: 1e4,
    marginPercent: 2.5,
  })
  t.match(
    formatReport(summary, sizes),
    /slow +1000000\.0 ns +1000000\.0 ns best +0\.001 M\/s +10000\.00 x +±2\.5 %/,
  )
  t.end()
})

t.test('route tables: size, no doubles, no host bits, lengths mostly /24 and /48', (t) => {
  const full4 = createFull4()
  t.equal(new Set(full4.map(({ addr, len }) => `${String(addr)}/${String(len)}`)).size, 900_000)
  t.ok(full4.every(({ addr, len }) => len === 32 || addr << len === 0))
  const share24 = full4.filter(({ len }) => len === 24).length / full4.length
  t.ok(share24 > 0.5 && share24 < 0.7, `/24: ${share24.toFixed(3)}`)
  const full6 = createFull6()
  t.equal(full6.length, 160_000)
  const share48 = full6.filter(({ len }) => len === 48).length / full6.length
  t.ok(share48 > 0.35 && share48 < 0.55, `/48: ${share48.toFixed(3)}`)
  t.end()
})

t.test('routed keys are routed', (t) => {
  const routes = createOverlay4()
  const maps = new MapPerLength4(routes)
  t.ok(createRoutedKeys4(routes, 1000).every((key) => maps.lookup(key) > 0))
  t.equal(maps.lookup(0x0b000000), 0)
  t.end()
})
