/**
 * Turns the results of a suite into what a reader wants to know: nanoseconds per operation, millions
 * per second, and how many times slower than the first case each case is.
 */
import { arch, cpus, release } from 'node:os'

/** What of a benny summary the report reads. */
export interface Results {
  readonly name: string
  readonly results: readonly {
    readonly name: string
    /** Relative margin of error, percent. */
    readonly margin: number
    /** Seconds per batch; `ops` beside it is rounded to whole batches per second. */
    readonly details: { readonly median: number; readonly min: number }
  }[]
}

export interface ReportLine {
  readonly name: string
  /** Median of the samples. */
  readonly nsPerOp: number
  /** The best sample: on a busy machine, the one that was disturbed least. */
  readonly bestNsPerOp: number
  readonly mopsPerSecond: number
  /** Time per operation over that of the first case. */
  readonly ratio: number
  readonly marginPercent: number
}

/**
 * Works the figures out.
 * @param sizes  operations per batch, by case name
 */
export function toLines(summary: Results, sizes: ReadonlyMap<string, number>): ReportLine[] {
  const lines: ReportLine[] = []
  for (const { name, margin, details } of summary.results) {
    const size = sizes.get(name) ?? 1
    const nsPerOp = (details.median * 1e9) / size
    lines.push({
      name,
      nsPerOp,
      bestNsPerOp: (details.min * 1e9) / size,
      mopsPerSecond: 1e3 / nsPerOp,
      ratio: nsPerOp / (lines[0]?.nsPerOp ?? nsPerOp),
      marginPercent: margin,
    })
  }
  return lines
}

/**
 * Text table of a suite, with the machine that it ran on.
 * @param notes  what else there is to say about a case, by its name
 */
export function formatReport(
  summary: Results,
  sizes: ReadonlyMap<string, number>,
  notes?: ReadonlyMap<string, string>,
): string {
  const width = Math.max(...summary.results.map(({ name }) => name.length))
  const lines = toLines(summary, sizes).map((line) =>
    [
      line.name.padEnd(width),
      `${line.nsPerOp.toFixed(1).padStart(12)} ns`,
      `${line.bestNsPerOp.toFixed(1).padStart(12)} ns best`,
      `${line.mopsPerSecond.toFixed(3).padStart(10)} M/s`,
      `${line.ratio.toFixed(2).padStart(10)} x`,
      `  ±${line.marginPercent.toFixed(1)} %`,
      `  ${notes?.get(line.name) ?? ''}`.trimEnd(),
    ].join(''),
  )
  const cpu = cpus()
  const machine = `${String(cpu.length)} × ${cpu[0]?.model.trim() ?? 'unknown CPU'}, ${arch()}, Linux ${release()}, Node ${process.version}`
  return [`${summary.name} (${machine})`, ...lines, ''].join('\n')
}
