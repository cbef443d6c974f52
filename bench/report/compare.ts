/**
 * Two sets of samples side by side: how far the median moved, and whether that is more than the
 * rounds differ among themselves.
 *
 * A change exceeds the spread when the ranges of the rounds lie apart. Without any change that
 * happens by chance, too, with three rounds in one case of ten: {@link chanceApart}. Two runs of the
 * same build also differ by what the machine did meanwhile; the ratios, and contenders that nobody
 * changed, show how much that was.
 */
import { type Summary, chanceApart, isApart, summarize } from '../lib/statistics.js'
import { MEASUREMENTS, type Measurement } from '../netns/measurements.js'
import { type Run, samplesOf } from '../netns/result.js'
import { formatSummary, ratios } from './figures.js'

export type Judgement = 'better' | 'worse' | 'within the spread' | 'too few rounds'

export interface Change {
  readonly what: string
  readonly unit: string
  readonly before: Summary
  readonly after: Summary
  /** Median after over median before, minus 1. */
  readonly share: number
  readonly judgement: Judgement
}

/** @returns null when one side was not measured */
export function compareSamples(
  { title, unit, isMoreBetter }: Pick<Measurement, 'title' | 'unit' | 'isMoreBetter'>,
  beforeSamples: readonly (number | null)[],
  afterSamples: readonly (number | null)[],
): Change | null {
  const before = summarize(beforeSamples.filter((value) => value !== null))
  const after = summarize(afterSamples.filter((value) => value !== null))
  if (before === null || after === null) return null
  const judgement = ((): Judgement => {
    if (before.count < 2 || after.count < 2) return 'too few rounds'
    if (!isApart(before, after)) return 'within the spread'
    return after.median > before.median === isMoreBetter ? 'better' : 'worse'
  })()
  return { what: title, unit, before, after, share: after.median / before.median - 1, judgement }
}

/** A heading with its changes. */
export interface Section {
  readonly title: string
  readonly changes: readonly Change[]
}

/** Two contenders of one run. */
export function compareContenders(run: Run, before: string, after: string): Section[] {
  const changes = MEASUREMENTS.flatMap((m) => {
    const change = compareSamples(m, samplesOf(run, before, m.key), samplesOf(run, after, m.key))
    return change ?? []
  })
  return [{ title: `${before} → ${after}`, changes }]
}

/** Two runs: the base's ratios to every contender of both, then every contender by itself. */
export function compareRuns(before: Run, after: Run): Section[] {
  const names = after.contenders
    .map(({ name }) => name)
    .filter((name) => before.contenders.some((other) => other.name === name))
  const others = names.filter((name) => name !== after.base)
  const byRatio = others.map((versus) => ({
    title: `${after.base} ÷ ${versus}`,
    changes: MEASUREMENTS.flatMap((m) => {
      const of = (run: Run): number[] => ratios(run, run.base, versus, m.key)
      return compareSamples({ ...m, unit: '×' }, of(before), of(after)) ?? []
    }),
  }))
  const byFigure = names.map((name) => ({
    title: name,
    changes: MEASUREMENTS.flatMap((m) => {
      return compareSamples(m, samplesOf(before, name, m.key), samplesOf(after, name, m.key)) ?? []
    }),
  }))
  return [...byRatio, ...byFigure].filter(({ changes }) => changes.length > 0)
}

/** The comparison as text for a terminal. */
export function renderComparison(sections: readonly Section[]): string {
  const rows = sections.flatMap(({ title, changes }) => [
    [title, 'before', 'after', 'change', ''],
    ...changes.map(({ what, unit, before, after, share, judgement }) => [
      `  ${what}, ${unit}`,
      formatSummary(before),
      formatSummary(after),
      `${share < 0 ? '−' : '+'}${(Math.abs(share) * 100).toFixed(1)} %`,
      judgement,
    ]),
  ])
  const widths = [0, 1, 2, 3].map((i) => Math.max(0, ...rows.map((row) => row[i]?.length ?? 0)))
  const lines = rows.map((row) =>
    row
      .map((cell, i) =>
        i === 0 || i > 3 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  )
  return [...lines, '', ...explain(sections), ''].join('\n')
}

function explain(sections: readonly Section[]): string[] {
  const all = sections.flatMap(({ changes }) => changes)
  if (all.length === 0) return ['nothing was measured on both sides']
  const rounds = (pick: (change: Change) => Summary): number =>
    Math.min(...all.map((change) => pick(change).count))
  const chance = chanceApart(
    rounds(({ before }) => before),
    rounds(({ after }) => after),
  )
  return [
    'better, worse: the ranges of the rounds lie apart. By chance alone that happens',
    `in ${(chance * 100).toFixed(chance < 0.01 ? 2 : 0)} % of the lines where nothing has changed.`,
  ]
}
