/**
 * What was measured of one backend, and how a person reads it.
 */
import type { Backend } from '../../control/lab/many-leases.js'
import { percentile } from '../lib/statistics.js'

export interface Figures {
  readonly backend: Backend
  readonly leases: number
  readonly readySeconds: number
  readonly residentMb: number
  /** Processor time at rest, share of one core. */
  readonly restingShare: number
  /**
   * From the request to etcd until the table, or the kernel, has the change, until a watcher was told, and each time
   * the one after the other; ms.
   */
  readonly change: {
    readonly daemon: Quantiles
    readonly watcher: Quantiles
    readonly behind: Quantiles
  }
  readonly storm: {
    readonly perSecond: number
    readonly seconds: number
    readonly seen: number
    readonly written: number
    readonly lagMs: number
    readonly residentMb: { readonly before: number; readonly most: number; readonly after: number }
    readonly pings: { readonly sent: number; readonly received: number }
    readonly daemonShare: number
  }
}

export interface Quantiles {
  readonly p50: number
  readonly p99: number
  readonly worst: number
}

export function quantiles(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b)
  return {
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    worst: sorted.at(-1) ?? Number.NaN,
  }
}

/** Names, targets and values of all that was measured of a backend. */
function rowsOf({
  change,
  storm,
  ...rest
}: Figures): [name: string, target: string, value: string][] {
  const ms = ({ p50, p99, worst }: Quantiles): string =>
    [p50, p99, worst].map((value) => value.toFixed(1)).join(' / ')
  const { residentMb: memory, pings } = storm
  const mb = [memory.before, memory.most, memory.after].map((each) => each.toFixed(0)).join(' / ')
  const rate = `${storm.perSecond.toFixed(0)} a second for ${storm.seconds.toFixed(0)} s`
  return [
    [
      'start until ready with all leases in the table',
      '< 2 s',
      `${rest.readySeconds.toFixed(2)} s`,
    ],
    ['resident at rest', '≤ 100 MB', `${rest.residentMb.toFixed(0)} MB`],
    ['processor at rest', '', `${(100 * rest.restingShare).toFixed(1)} % of a core`],
    [
      'a change until it is in the table: p50 / p99 / worst',
      'p99 < 50 ms',
      `${ms(change.daemon)} ms`,
    ],
    ['the same until a bare watcher of etcd is told', '', `${ms(change.watcher)} ms`],
    ['each time the table after the watcher', '', `${ms(change.behind)} ms`],
    ['a storm of changes', '', rate],
    ['… that reached the table', 'all', `${String(storm.seen)} of ${String(storm.written)}`],
    ['… the last one', '', `${Math.max(0, storm.lagMs).toFixed(0)} ms after etcd had it`],
    ['… pings between pods answered', 'all', answered(pings)],
    ['… resident before / at most / after', 'no growth', `${mb} MB`],
    ['… processor', '', `${(100 * storm.daemonShare).toFixed(0)} % of a core`],
  ]
}

/** JSON has no NaN: it is null there. */
function answered({ sent, received }: Figures['storm']['pings']): string {
  return Number.isInteger(received) ? `${String(received)} of ${String(sent)}` : 'not counted'
}

/** Text for a terminal. */
export function describe(figures: Figures): string {
  const rows = rowsOf(figures)
  const width = Math.max(...rows.map(([name]) => name.length))
  const text = rows.map(([name, , value]) => `${name.padEnd(width)}  ${value}`)
  return [`${figures.backend}, ${String(figures.leases)} leases`, ...text].join('\n')
}

/** A table in Markdown, a column for each backend. */
export function tableOf(all: readonly Figures[]): string {
  const columns = all.map(rowsOf)
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const names = all.map(({ backend }) => backend)
  const rows = (columns[0] ?? []).map(([name, target], i) =>
    line([name, target, ...columns.map((column) => column[i]?.[2] ?? '')]),
  )
  return [
    line(['measured', 'target', ...names]),
    line(['---', '---', ...names.map(() => '---')]),
    ...rows,
  ].join('\n')
}
