/** Each offload with the counts that tell whether it is used: what the status shows. */
import type { CountersReport, GaugeName } from './counters.js'
import type { OffloadState } from './io/offloads.js'
import type { OffloadName } from './offload/offload.js'

export interface OffloadReport extends OffloadState {
  /** Counts by name; all 0 while it is off. */
  readonly counters: Readonly<Record<string, number>>
}

const COUNTED: Readonly<Record<OffloadName, readonly GaugeName[]>> = {
  'tun-offload': ['tso_cut', 'tso_packets'],
  'tun-uso': ['uso_cut', 'uso_packets'],
  'tun-gro': ['joins_written', 'joined_packets', 'joins_resent'],
  'tun-ring': ['ring_packets'],
  'udp-segment': ['runs_sent', 'run_packets', 'runs_resent', 'runs_avoided'],
  'udp-gro': ['trains_received', 'train_datagrams'],
}

/** Joins the states of offloads with their counts. */
export function describeOffloads(
  states: readonly OffloadState[],
  { gauges }: CountersReport,
): OffloadReport[] {
  return states.map((state) => ({
    ...state,
    counters: Object.fromEntries(COUNTED[state.name].map((name) => [name, gauges[name] ?? 0])),
  }))
}
