/**
 * A small run with round figures, for the tests of everything that reads one.
 */
import type { ContenderRecord, Run } from '../netns/result.js'

type Samples = ContenderRecord['samples']

/** A run of three rounds of these contenders; the first is the base. */
export function createRun(samples: Readonly<Record<string, Samples>>): Run {
  const contenders = Object.entries(samples).map(([name, of]) => {
    return { name, note: `note on ${name}`, version: '1.0', mtu: 1472, samples: of }
  })
  return {
    format: 1,
    taken: '2026-01-02T03:04:05.000Z',
    commit: '0123456789',
    machine: {
      cpu: 'Some CPU',
      cores: 2,
      memoryGb: 8,
      arch: 'x64',
      kernel: '6.1.0',
      node: 'v20.0.0',
    },
    rounds: 3,
    durations: { tcpSeconds: 2 },
    base: contenders[0]?.name ?? '',
    contenders,
    missing: [],
    faults: [],
  }
}

/** Heddle 20 × socat and 0.5 × kernel VXLAN on one flow; a second round of socat failed. */
export const EXAMPLE: Run = {
  ...createRun({
    heddle: { tcp1: [10, 8, 12], 'rtt-p50': [40, 41, 42], memory: [80, 81, 82] },
    'heddle, 10 000 routes': { memory: [95, 96, 97] },
    socat: { tcp1: [0.5, null, 0.5], 'rtt-p50': [80, 82, 84], memory: [5, 5, 5] },
    'kernel VXLAN': { tcp1: [20, 20, 20], 'rtt-p50': [50, 41, 20] },
  }),
  missing: [{ name: 'nebula', reason: 'no package <nebula>\nat all' }],
  faults: [{ name: 'socat', round: 2, reason: 'iperf3: refused' }],
}
