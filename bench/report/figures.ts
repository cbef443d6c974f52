/**
 * Figures that the report shows, worked out of a run: summaries, ratios, targets met or missed.
 */
import { type Summary, summarize } from '../lib/statistics.js'
import { MEASUREMENTS, type Measurement, TARGETS, type Target } from '../netns/measurements.js'
import { type Run, samplesOf } from '../netns/result.js'

/** The measurement with a key. */
export function measurementOf(key: string): Measurement {
  const found = MEASUREMENTS.find((m) => m.key === key)
  if (found === undefined) throw new Error(`there is no measurement ${key}`)
  return found
}

/** Median and range of a contender's rounds; null when it was not measured. */
export function summaryOf(run: Run, contender: string, key: string): Summary | null {
  return summarize(samplesOf(run, contender, key).filter((value) => value !== null))
}

/** One contender's figure over another's, round by round; rounds in which either failed are left out. */
export function ratios(run: Run, contender: string, versus: string, key: string): number[] {
  const below = samplesOf(run, versus, key)
  return samplesOf(run, contender, key).flatMap((value, round) => {
    const divisor = below[round] ?? null
    return value === null || divisor === null || divisor === 0 ? [] : [value / divisor]
  })
}

/**
 * One contender's figure over another's: the ratio of their medians, with the range of the ratios of
 * single rounds. Null when one of them was not measured.
 */
export function ratioOf(run: Run, contender: string, versus: string, key: string): Summary | null {
  const above = summaryOf(run, contender, key)
  const below = summaryOf(run, versus, key)
  const single = summarize(ratios(run, contender, versus, key))
  if (above === null || below === null || single === null) return null
  return { ...single, median: above.median / below.median }
}

export interface Verdict {
  readonly target: Target
  readonly measurement: Measurement
  /** The ratio, or the figure itself; null = not measured. */
  readonly reached: Summary | null
  /** Whether the median is within the bound; null = not measured. */
  readonly isMet: boolean | null
}

/** Every target with what the run reached. */
export function judge(run: Run): Verdict[] {
  return TARGETS.map((target) => {
    const measurement = measurementOf(target.measurement)
    const { contender, versus, bound } = target
    const reached =
      versus === null
        ? summaryOf(run, contender, measurement.key)
        : ratioOf(run, contender, versus, measurement.key)
    if (reached === null) return { target, measurement, reached, isMet: null }
    const isMet = measurement.isMoreBetter ? reached.median >= bound : reached.median <= bound
    return { target, measurement, reached, isMet }
  })
}

/** A name as it begins a title. */
export function asTitle(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1)
}

/** A figure with three digits that matter. */
export function format(value: number): string {
  const size = Math.abs(value)
  if (size >= 99.95) return value.toFixed(0)
  if (size >= 9.995) return value.toFixed(1)
  if (size >= 0.0995 || size === 0) return value.toFixed(2)
  return value.toPrecision(2)
}

/** A median with its range; without one where there is a single round. */
export function formatSummary({ median, min, max, count }: Summary): string {
  return count < 2 ? format(median) : `${format(median)} (${format(min)}–${format(max)})`
}
