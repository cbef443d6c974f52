/**
 * The few statistics that the reports use. Samples are few and skewed, so medians and ranges; no
 * means, no normal distribution.
 */

/** Median with its range. */
export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly count: number
}

/** @returns null when there is no value */
export function summarize(values: readonly number[]): Summary | null {
  const sorted = [...values].sort((a, b) => a - b)
  const [min] = sorted
  const max = sorted.at(-1)
  if (min === undefined || max === undefined) return null
  const upper = sorted[Math.floor(sorted.length / 2)] ?? max
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? min
  return { median: (lower + upper) / 2, min, max, count: sorted.length }
}

/**
 * Smallest value that at least a share of all values does not exceed (nearest rank).
 * @param sorted  ascending
 * @param share   0..1
 * @returns       NaN when there is no value
 */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.max(1, Math.ceil(sorted.length * share))
  return sorted[rank - 1] ?? NaN
}

/** Whether two ranges have no value in common. */
export function isApart(a: Summary, b: Summary): boolean {
  return a.max < b.min || b.max < a.min
}

/**
 * Chance that two samples from one distribution lie apart, one wholly above the other: of all
 * orders of n + m values, the two in which neither sample reaches into the other.
 */
export function chanceApart(n: number, m: number): number {
  let orders = 1
  for (let i = 1; i <= m; i++) orders *= (n + i) / i
  return Math.min(1, 2 / orders)
}
