/**
 * Which charts a run makes: one per group of measurements.
 */
import { type Group, MEASUREMENTS, type Measurement } from '../netns/measurements.js'
import type { Run } from '../netns/result.js'
import { type Panel, renderChart } from './chart.js'
import { asTitle, format, ratioOf, summaryOf } from './figures.js'

const CHARTS: readonly { readonly group: Group; readonly file: string; readonly what: string }[] = [
  { group: 'TCP', file: 'tcp.svg', what: 'TCP throughput' },
  { group: 'packets', file: 'packets.svg', what: 'Small packets' },
  { group: 'round trips', file: 'round-trips.svg', what: 'Round trips' },
  { group: 'cost', file: 'cost.svg', what: 'CPU and memory' },
]

export interface Chart {
  readonly title: string
  readonly file: string
  readonly svg: string
}

/** The charts of a run; a group without figures has none. */
export function createCharts(run: Run): Chart[] {
  return CHARTS.flatMap(({ group, file, what }) => {
    const panels = MEASUREMENTS.filter((m) => m.group === group).map((m) => createPanel(run, m))
    if (panels.every(({ bars }) => bars.length === 0)) return []
    const title = `${what}: ${asTitle(run.base)} divided by each contender`
    return [{ title, file, svg: renderChart(title, panels) }]
  })
}

function createPanel(run: Run, { key, title, unit, isMoreBetter }: Measurement): Panel {
  const own = summaryOf(run, run.base, key)
  const figure = own === null ? 'not measured' : `${format(own.median)} ${unit}`
  const bars = run.contenders.flatMap(({ name }) => {
    const ratio = ratioOf(run, run.base, name, key)
    const summary = summaryOf(run, name, key)
    if (name === run.base || ratio === null || summary === null) return []
    return [
      {
        name,
        ratio: ratio.median,
        label: `${format(ratio.median)} ×`,
        figure: `${format(summary.median)} ${unit}`,
        isBetter: isMoreBetter ? ratio.median >= 1 : ratio.median <= 1,
      },
    ]
  })
  const way = isMoreBetter ? 'more is better' : 'less is better'
  return { title, subtitle: `${run.base}: ${figure}; ${way}`, bars }
}
