/**
 * The report: its figures, its Markdown, its charts.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageFolder } from '../lib/package.js'
import { MEASUREMENTS, TARGETS } from '../netns/measurements.js'
import { parseRun } from '../netns/result.js'
import { renderChart } from './chart.js'
import { createCharts } from './charts.js'
import { EXAMPLE, createRun } from './example-run.js'
import { format, formatSummary, judge, measurementOf, ratioOf, summaryOf } from './figures.js'
import { renderReport, replaceReport } from './markdown.js'
import { renderPage } from './write.js'

/** Elements and texts of an SVG, as a parser of XML sees them; throws when it is not well formed. */
function parseXml(svg: string): { tags: string[]; texts: string[]; widest: number } {
  const script = `
import json, sys, xml.etree.ElementTree as E
root = E.fromstring(sys.stdin.buffer.read())
tag = lambda e: e.tag.split('}')[1]
box = [float(n) for n in root.get('viewBox').split()]
ends = [float(e.get('x', 0)) + float(e.get('width', 0)) for e in root.iter() if tag(e) == 'rect']
print(json.dumps({'tags': [tag(e) for e in root.iter()],
  'texts': [e.text for e in root.iter() if tag(e) in ('text', 'title')], 'widest': max(ends) - box[2]}))`
  const out = execFileSync('python3', ['-c', script], { input: svg, encoding: 'utf8' })
  return JSON.parse(out) as { tags: string[]; texts: string[]; widest: number }
}

t.test('a failed round counts on neither side of a ratio', (t) => {
  t.same(summaryOf(EXAMPLE, 'socat', 'tcp1'), { median: 0.5, min: 0.5, max: 0.5, count: 2 })
  t.same(ratioOf(EXAMPLE, 'heddle', 'socat', 'tcp1'), { median: 20, min: 20, max: 24, count: 2 })
  t.equal(ratioOf(EXAMPLE, 'heddle', 'nobody', 'tcp1'), null)
  t.equal(summaryOf(EXAMPLE, 'heddle', 'tcp4'), null)
  t.end()
})

t.test(
  'targets are met from their bound on, and missed where nothing was measured they are not',
  (t) => {
    const of = (measurement: string, versus: string | null) =>
      judge(EXAMPLE).find(
        (v) => v.target.measurement === measurement && v.target.versus === versus,
      )!
    t.equal(of('tcp1', 'socat').isMet, true)
    t.equal(of('tcp1', 'kernel VXLAN').isMet, false)
    t.equal(of('rtt-p50', 'kernel VXLAN').isMet, true, '41 ÷ 41 is not more than 1')
    t.equal(of('memory', null).isMet, false, '96 MB')
    t.same(of('tcp4', 'socat'), { ...of('tcp4', 'socat'), reached: null, isMet: null })
    t.end()
  },
)

t.test('every target speaks of a measurement and a bound', (t) => {
  for (const { measurement, bound } of TARGETS) {
    t.ok(measurementOf(measurement).title)
    t.ok(bound > 0)
  }
  t.equal(new Set(MEASUREMENTS.map(({ key }) => key)).size, MEASUREMENTS.length, 'keys differ')
  t.throws(() => measurementOf('speed'), /no measurement speed/)
  t.end()
})

t.test('figures have three digits that matter', (t) => {
  const cases: [number, string][] = [
    [1234.5, '1235'],
    [99.96, '100'],
    [99.94, '99.9'],
    [9.996, '10.0'],
    [1.005, '1.00'],
    [0.1, '0.10'],
    [0.0356, '0.036'],
    [0, '0.00'],
  ]
  for (const [value, want] of cases) t.equal(format(value), want)
  t.equal(formatSummary({ median: 2, min: 1, max: 3, count: 3 }), '2.00 (1.00–3.00)')
  t.equal(formatSummary({ median: 2, min: 2, max: 2, count: 1 }), '2.00')
  t.end()
})

t.test('the report: machine, targets, ratios before medians, what is missing', (t) => {
  const report = renderReport(EXAMPLE, [{ title: 'TCP', file: 'bench/tcp.svg' }])
  t.match(report, 'Taken 2026-01-02 at commit 0123456789, 3 rounds.')
  t.match(report, 'Machine: 2 × Some CPU, 8 GB, x64; Linux 6.1.0; Node v20.0.0.\n')
  const told = renderReport(
    { ...EXAMPLE, congestion: 'cubic', emptyReadNs: 1234, stolen: 0.0123 },
    [],
  )
  t.match(
    told,
    "v20.0.0. TCP congestion control: cubic. A system call with nothing to do took 1.23 µs. The hypervisor gave 1.2 % of the cores' time to others.",
  )
  t.match(report, '| TCP, one flow | heddle ÷ socat | ≥ 15 | 20.0 (20.0–24.0) | pass |')
  t.match(
    report,
    '| TCP, one flow | heddle ÷ kernel VXLAN | ≥ 0.75 | 0.50 (0.40–0.60) | **miss** |',
  )
  t.match(report, /heddle, 10 000 routes \| ≤ 90 MB \| 96\.0 \(95\.0–97\.0\) MB \| \*\*miss\*\*/)
  t.match(report, '| TCP, four flows | heddle ÷ socat | ≥ 10 | not measured | – |')
  t.match(report, '| TCP, one flow ↑ | – | 20.0 | 0.50 |')
  t.match(report, '| Round trip back to back, p50 ↓ | – | 0.50 | 1.00 |')
  t.match(report, '| TCP, one flow, Gbit/s | 10.0 (8.00–12.0) | – | 0.50 (0.50–0.50) |')
  t.match(report, '- nebula: not measured: no package <nebula>\n')
  t.match(report, '- socat: failed in round 2: iperf3: refused')
  t.match(report, '![TCP](bench/tcp.svg)')
  t.ok(report.indexOf('divided by each') < report.indexOf('### Medians'), 'ratios first')
  t.notMatch(report, 'TCP, four flows ↑', 'no row for what nobody measured')
  t.end()
})

t.test('the report replaces what stands between the markers, and nothing else', (t) => {
  const page =
    'above\n<!-- begin: written by npm run bench -->\nold\n<!-- end: written by npm run bench -->\nbelow\n'
  const once = replaceReport(page, 'new')
  t.match(once, /^above\n<!-- begin[^>]*-->\n\nnew\n\n<!-- end[^>]*-->\nbelow\n$/)
  t.equal(replaceReport(once, 'new'), once)
  t.throws(() => replaceReport('no markers', 'new'), /lacks/)
  t.end()
})

t.test('charts are well-formed, say everything as text and stay inside their page', (t) => {
  const charts = createCharts(EXAMPLE)
  t.same(
    charts.map(({ file }) => file),
    ['tcp.svg', 'round-trips.svg', 'cost.svg'],
    'a group without figures has no chart',
  )
  const [tcp] = charts
  const { tags, texts, widest } = parseXml(tcp!.svg)
  t.equal(tags[0], 'svg')
  t.equal(tags.filter((tag) => tag === 'rect').length, 1 + 2 + 2, 'page, legend, bars')
  t.ok(widest <= 0, 'nothing is wider than the page')
  for (const want of [
    'TCP, one flow',
    'socat',
    '20.0 ×',
    '0.50 Gbit/s',
    'kernel VXLAN',
    '0.50 ×',
  ]) {
    t.ok(texts.includes(want), want)
  }
  t.ok(texts.includes('heddle: 10.0 Gbit/s; more is better'))
  t.match(tcp!.svg, 'prefers-color-scheme: dark')
  t.end()
})

/** Kind, left end and length of every bar of a chart. */
function barsOf(svg: string): { kind: string; x: number; width: number }[] {
  const bars = /class="(better|worse)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="14"/g
  return [...svg.matchAll(bars)].map(([, kind = '', x, width]) => {
    return { kind, x: Number(x), width: Number(width) }
  })
}

t.test('bars lie on the side of the line that the ratio is on', (t) => {
  const run = createRun({
    heddle: { tcp1: [4], 'rtt-p50': [4] },
    slow: { tcp1: [1], 'rtt-p50': [1] },
    fast: { tcp1: [16], 'rtt-p50': [16] },
  })
  const [tcp, trips] = createCharts(run).map(({ svg }) => barsOf(svg))
  const kinds = (bars: ReturnType<typeof barsOf>) => bars.map(({ kind }) => kind)
  t.same(kinds(tcp!), ['better', 'worse'], 'more is better')
  t.same(kinds(trips!), ['worse', 'better'], 'less is better')
  const [right, left] = tcp!
  t.equal(left!.x + left!.width, right!.x, 'both begin at the line')
  t.ok(Math.abs(right!.width - left!.width) < 0.2, '4 × and a quarter are equally long')
  t.end()
})

t.test('names with signs of XML, and ratios that are far apart', (t) => {
  const bar = { label: '1 ×', figure: '1', isBetter: true }
  const svg = renderChart('a < b & "c"', [
    {
      title: '<none>',
      subtitle: '&amp;',
      bars: [
        { ...bar, name: 'x > y', ratio: 1e6 },
        { ...bar, name: 'one', ratio: 1 },
      ],
    },
    { title: 'empty', subtitle: '', bars: [] },
  ])
  const { texts, widest } = parseXml(svg)
  for (const want of ['a < b & "c"', '<none>', '&amp;', 'x > y']) t.ok(texts.includes(want), want)
  t.notOk(texts.includes('empty'), 'a panel without bars is left out')
  t.ok(widest <= 0)
  t.end()
})

t.test('docs/BENCHMARKS.md and its charts are what the record says', async (t) => {
  const docs = join(packageFolder(), 'docs')
  const run = parseRun(readFileSync(join(docs, 'bench/latest.json'), 'utf8'))
  const page = readFileSync(join(docs, 'BENCHMARKS.md'), 'utf8')
  t.equal(await renderPage(run, page), page, 'else: npm run bench -- --from docs/bench/latest.json')
  for (const { file, svg } of createCharts(run)) {
    t.equal(readFileSync(join(docs, 'bench', file), 'utf8'), svg, file)
    parseXml(svg)
  }
})
