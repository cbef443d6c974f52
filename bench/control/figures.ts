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
  /** From the request to etcd until the table, or the kernel, has the change, and until a watcher was told; ms. */
  readonly change: { readonly daemon: Quantiles; readonly watcher: Quantiles }
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

export function describe({ backend, leases, change, storm, ...rest }: Figures): string {
  const ms = ({ p50, p99, worst }: Quantiles): string =>
    [p50, p99, worst].map((value) => value.toFixed(1)).join(' / ')
  const { residentMb: memory, pings } = storm
  const rows = [
    ['start until ready with all leases in the table', `${rest.readySeconds.toFixed(2)} s`],
    ['resident at rest', `${rest.residentMb.toFixed(0)} MB`],
    ['processor at rest', `${(100 * rest.restingShare).toFixed(1)} % of a core`],
    ['a change, p50 / p99 / worst: until it is in the table', `${ms(change.daemon)} ms`],
    ['  the same, until a bare watcher is told', `${ms(change.watcher)} ms`],
    [
      'changes in a storm',
      `${storm.perSecond.toFixed(0)} a second for ${storm.seconds.toFixed(0)} s`,
    ],
    ['  that reached the table', `${String(storm.seen)} of ${String(storm.written)}`],
    ['  the last one in the table', `${storm.lagMs.toFixed(0)} ms after etcd had it`],
    ['  pings between pods', `${String(pings.received)} of ${String(pings.sent)} answered`],
    [
      '  resident before, at most, after',
      `${[memory.before, memory.most, memory.after].map((mb) => mb.toFixed(0)).join(' / ')} MB`,
    ],
    ['  processor', `${(100 * storm.daemonShare).toFixed(0)} % of a core`],
  ]
  const width = Math.max(...rows.map(([name = '']) => name.length))
  const text = rows.map(([name = '', value = '']) => `${name.padEnd(width)}  ${value}`)
  return [`${backend}, ${String(leases)} leases`, ...text].join('\n')
}
