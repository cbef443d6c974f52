/**
 * The reports of several tunnels as one: counts added up, offloads at their worst.
 */
import type { CountersReport, DirectionReport, OffloadReport } from '../dataplane/index.js'

/** Verdict by verdict and gauge by gauge. */
export function sumCounters(reports: readonly CountersReport[]): CountersReport {
  return {
    egress: sumDirections(reports.map(({ egress }) => egress)),
    ingress: sumDirections(reports.map(({ ingress }) => ingress)),
    gauges: sumRecords(reports.map(({ gauges }) => gauges)),
  }
}

function sumDirections(reports: readonly DirectionReport[]): DirectionReport {
  const of = (count: 'packets' | 'bytes') =>
    sumRecords(
      reports.map(({ verdicts }) =>
        Object.fromEntries(Object.entries(verdicts).map(([name, n]) => [name, n[count]])),
      ),
    )
  const [packets, bytes] = [of('packets'), of('bytes')]
  return {
    read: reports.reduce((sum, { read }) => sum + read, 0),
    verdicts: Object.fromEntries(
      Object.entries(packets).map(([name, n]) => [name, { packets: n, bytes: bytes[name] ?? 0 }]),
    ),
  }
}

function sumRecords(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const record of records) {
    for (const [name, n] of Object.entries(record)) sums[name] = (sums[name] ?? 0) + n
  }
  return sums
}

/** For each offload the report of a tunnel where it is not on, if there is one; counts are sums. */
export function joinOffloads(reports: readonly (readonly OffloadReport[])[]): OffloadReport[] {
  const [first = []] = reports
  return first.map((offload) => {
    const all = reports.flatMap((list) => list.filter(({ name }) => name === offload.name))
    const worst = all.find(({ state }) => state !== 'on') ?? offload
    return { ...worst, counters: sumRecords(all.map(({ counters }) => counters)) }
  })
}
