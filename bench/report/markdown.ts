/**
 * The generated part of docs/BENCHMARKS.md: ratios first, then medians with their spread.
 */
import { MEASUREMENTS } from '../netns/measurements.js'
import type { Run } from '../netns/result.js'
import {
  asTitle,
  format,
  formatSummary,
  judge,
  ratioOf,
  summaryOf,
  type Verdict,
} from './figures.js'

const BEGIN = '<!-- begin: written by npm run bench -->'
const END = '<!-- end: written by npm run bench -->'
const NOTHING = '–'

/** A chart that the report shows. */
export interface ChartLink {
  readonly title: string
  /** Path relative to the document. */
  readonly file: string
}

/** The report as Markdown, without markers; the formatter of the house aligns its tables. */
export function renderReport(run: Run, charts: readonly ChartLink[]): string {
  return [
    ...describeRun(run),
    '### Targets',
    '',
    ...table(
      ['measured', 'ratio', 'target', 'reached (range of the rounds)', ''],
      judge(run).map(targetRow),
    ),
    '',
    `### ${asTitle(run.base)} divided by each contender`,
    '',
    'Ratios of medians. Where more is better (↑), above 1 is good; where less is better (↓), below 1 is.',
    '',
    ...ratioTable(run),
    '',
    ...charts.flatMap(({ title, file }) => [`![${title}](${file})`, '']),
    '### Medians, with the range of the rounds',
    '',
    ...medianTable(run),
    '',
    '### Contenders',
    '',
    ...table(
      ['contender', 'version', 'MTU of pods', 'note'],
      run.contenders.map(({ name, version, mtu, note }) => [name, version, String(mtu), note]),
    ),
    '',
    ...exceptions(run),
  ].join('\n')
}

/**
 * Puts a report between the markers of a document.
 * @throws when the document lacks the markers
 */
export function replaceReport(document: string, report: string): string {
  const begin = document.indexOf(BEGIN)
  const end = document.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`the document lacks ${BEGIN} … ${END}`)
  return `${document.slice(0, begin)}${BEGIN}\n\n${report.trim()}\n\n${document.slice(end)}`
}

function describeRun({
  taken,
  commit,
  rounds,
  machine,
  congestion,
  stolen,
  emptyReadNs,
}: Run): string[] {
  const { cpu, cores, memoryGb, arch, kernel, node } = machine
  const by = congestion === undefined ? '' : ` TCP congestion control: ${congestion}.`
  const less =
    stolen === undefined
      ? ''
      : ` The hypervisor gave ${(stolen * 100).toFixed(1)} % of the cores' time to others.`
  const dear =
    emptyReadNs === undefined
      ? ''
      : ` A system call with nothing to do took ${(emptyReadNs / 1000).toFixed(2)} µs.`
  return [
    `Taken ${taken.slice(0, 10)}${commit === null ? '' : ` at commit ${commit}`}, ${plural(rounds, 'round')}.`,
    `Machine: ${String(cores)} × ${cpu}, ${String(memoryGb)} GB, ${arch}; Linux ${kernel}; Node ${node}.${by}${dear}${less}`,
    '',
  ]
}

function targetRow({ target, measurement, reached, isMet }: Verdict): string[] {
  const { contender, versus, bound } = target
  const unit = versus === null ? ` ${measurement.unit}` : ''
  return [
    measurement.title,
    versus === null ? contender : `${contender} ÷ ${versus}`,
    `${measurement.isMoreBetter ? '≥' : '≤'} ${String(bound)}${unit}`,
    reached === null ? 'not measured' : `${formatSummary(reached)}${unit}`,
    isMet === null ? NOTHING : isMet ? 'pass' : '**miss**',
  ]
}

function ratioTable(run: Run): string[] {
  const others = run.contenders.filter(({ name }) => name !== run.base)
  const rows = MEASUREMENTS.map(({ key, title, isMoreBetter }) => [
    `${title} ${isMoreBetter ? '↑' : '↓'}`,
    ...others.map(({ name }) => {
      const ratio = ratioOf(run, run.base, name, key)
      return ratio === null ? NOTHING : format(ratio.median)
    }),
  ])
  return table(['', ...others.map(({ name }) => name)], rows.filter(hasFigures))
}

function medianTable(run: Run): string[] {
  const rows = MEASUREMENTS.map(({ key, title, unit }) => [
    `${title}, ${unit}`,
    ...run.contenders.map(({ name }) => {
      const summary = summaryOf(run, name, key)
      return summary === null ? NOTHING : formatSummary(summary)
    }),
  ])
  return table(['', ...run.contenders.map(({ name }) => name)], rows.filter(hasFigures))
}

function exceptions({ missing, faults }: Run): string[] {
  const lines = [
    ...missing.map(({ name, reason }) => `- ${name}: not measured: ${firstLine(reason)}`),
    ...faults.map(
      ({ name, round, reason }) =>
        `- ${name}: failed in round ${String(round)}: ${firstLine(reason)}`,
    ),
  ]
  return lines.length === 0 ? [] : ['### What is missing', '', ...lines, '']
}

function hasFigures([, ...cells]: readonly string[]): boolean {
  return cells.some((cell) => cell !== NOTHING)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)]
}

const firstLine = (text: string): string => text.split('\n')[0] ?? ''
const plural = (n: number, what: string): string => `${String(n)} ${what}${n === 1 ? '' : 's'}`
