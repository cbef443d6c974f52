/**
 * What is measured, and what this project wants to reach: the one table that the harness, the
 * report, the charts and the comparison read.
 */

/** A piece of work of the harness; it yields one measurement or several. */
export const PARTS = [
  'one-flow',
  'back',
  'four-flows',
  'pods',
  'packets',
  'round-trips',
  'memory',
  'plain-link',
] as const
export type Part = (typeof PARTS)[number]

/** What a quick run measures: one figure of each kind. */
export const QUICK_PARTS: readonly Part[] = ['one-flow', 'packets', 'round-trips']

export type Group = 'TCP' | 'packets' | 'round trips' | 'cost'

export interface Measurement {
  readonly key: string
  readonly title: string
  readonly unit: string
  readonly group: Group
  /** Whether a larger figure is better. */
  readonly isMoreBetter: boolean
}

const more = (key: string, group: Group, title: string, unit: string): Measurement => ({
  key,
  title,
  unit,
  group,
  isMoreBetter: true,
})
const less = (key: string, group: Group, title: string, unit: string): Measurement => ({
  key,
  title,
  unit,
  group,
  isMoreBetter: false,
})

export const MEASUREMENTS: readonly Measurement[] = [
  more('tcp1', 'TCP', 'TCP, one flow', 'Gbit/s'),
  more('tcp1-back', 'TCP', 'TCP, one flow, the other way', 'Gbit/s'),
  more('tcp4', 'TCP', 'TCP, four flows', 'Gbit/s'),
  more('tcp-pods', 'TCP', 'TCP, one flow, pod to pod', 'Gbit/s'),
  more('tcp1-plain', 'TCP', 'TCP, one flow, underlay offloads off', 'Gbit/s'),
  more('pps64', 'packets', '64-byte UDP packets received', 'thousand/s'),
  more('pps64-gso', 'packets', '64-byte UDP packets received, GSO sender', 'thousand/s'),
  less('rtt-p50', 'round trips', 'Round trip back to back, p50', 'µs'),
  less('rtt-p99', 'round trips', 'Round trip back to back, p99', 'µs'),
  less('rtt-p999', 'round trips', 'Round trip back to back, p99.9', 'µs'),
  less('ping-p50', 'round trips', 'Round trip after 2 ms of silence, p50', 'µs'),
  less('ping-p99', 'round trips', 'Round trip after 2 ms of silence, p99', 'µs'),
  less('cpu1', 'cost', 'CPU time per GB, TCP one flow', 's/GB'),
  less('memory', 'cost', 'Resident memory of a daemon', 'MB'),
]

/** Names of the contenders that targets speak of. */
export const HEDDLE = 'heddle'
export const HEDDLE_VXLAN = 'heddle vxlan'
export const HEDDLE_10K = 'heddle, 10 000 routes'
export const C_TWIN = 'C twin'
export const SOCAT = 'socat'
export const KERNEL_VXLAN = 'kernel VXLAN'

export interface Target {
  readonly measurement: string
  readonly contender: string
  /** What the figure is divided by; null = the figure itself has the bound. */
  readonly versus: string | null
  readonly bound: number
}

/** The bound is a minimum where more is better, a maximum where less is. */
export const TARGETS: readonly Target[] = [
  { measurement: 'tcp1', contender: HEDDLE, versus: SOCAT, bound: 15 },
  { measurement: 'tcp1', contender: HEDDLE, versus: KERNEL_VXLAN, bound: 0.75 },
  { measurement: 'tcp4', contender: HEDDLE, versus: SOCAT, bound: 10 },
  { measurement: 'tcp-pods', contender: HEDDLE, versus: SOCAT, bound: 10 },
  { measurement: 'pps64', contender: HEDDLE, versus: SOCAT, bound: 5 },
  { measurement: 'pps64', contender: HEDDLE, versus: KERNEL_VXLAN, bound: 2.5 },
  { measurement: 'rtt-p50', contender: HEDDLE, versus: KERNEL_VXLAN, bound: 1 },
  { measurement: 'ping-p50', contender: HEDDLE, versus: KERNEL_VXLAN, bound: 1 },
  { measurement: 'tcp1-plain', contender: HEDDLE, versus: KERNEL_VXLAN, bound: 0.8 },
  { measurement: 'tcp1', contender: HEDDLE_VXLAN, versus: KERNEL_VXLAN, bound: 0.65 },
  { measurement: 'pps64', contender: HEDDLE_VXLAN, versus: KERNEL_VXLAN, bound: 2 },
  { measurement: 'memory', contender: HEDDLE_10K, versus: null, bound: 90 },
]
