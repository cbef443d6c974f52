/**
 * The record of a run, as it is kept in a file: what was measured, on what, and every sample.
 */
import { z } from 'zod'

/** Changes when a reader of the format before would misread a record. */
const FORMAT = 1

/** One figure per round, in the order of the rounds; null = that round failed. */
const samples = z.array(z.number().nullable())

const contender = z.object({
  name: z.string(),
  note: z.string(),
  version: z.string(),
  /** MTU of the pods. */
  mtu: z.number(),
  /** By key of a measurement. */
  samples: z.record(z.string(), samples),
})

const machine = z.object({
  cpu: z.string(),
  cores: z.number(),
  memoryGb: z.number(),
  arch: z.string(),
  kernel: z.string(),
  node: z.string(),
})

const run = z.object({
  format: z.literal(FORMAT),
  /** ISO 8601. */
  taken: z.string(),
  /** Abbreviated commit, with `+` when files had been changed; null outside a repository. */
  commit: z.string().nullable(),
  machine,
  /** TCP congestion control of the hosts; older records do not tell. */
  congestion: z.string().optional(),
  /** Share of the cores' time that the hypervisor gave to others during the run; older records do not tell. */
  stolen: z.number().optional(),
  /** Nanoseconds that a system call took that had nothing to do; older records do not tell. */
  emptyReadNs: z.number().optional(),
  rounds: z.number(),
  durations: z.record(z.string(), z.number()),
  /** Name of the contender that ratios put above the line. */
  base: z.string(),
  contenders: z.array(contender),
  missing: z.array(z.object({ name: z.string(), reason: z.string() })),
  faults: z.array(z.object({ name: z.string(), round: z.number(), reason: z.string() })),
})

export type Run = z.infer<typeof run>
export type Machine = z.infer<typeof machine>
export type ContenderRecord = z.infer<typeof contender>

export const RUN_FORMAT = FORMAT

/** Reads a record. @throws an error that says what is wrong with it */
export function parseRun(text: string): Run {
  const parsed = run.safeParse(JSON.parse(text))
  if (!parsed.success)
    throw new Error(`no record of a benchmark:\n${z.prettifyError(parsed.error)}`)
  return parsed.data
}

/** The figures of one contender for one measurement; empty when there are none. */
export function samplesOf(run: Run, contender: string, key: string): readonly (number | null)[] {
  return run.contenders.find(({ name }) => name === contender)?.samples[key] ?? []
}
