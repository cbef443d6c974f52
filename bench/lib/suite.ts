/**
 * Runs the cases of one suite with benny and prints the report.
 *
 * A case is a function that does a batch of operations and returns something made of all their
 * results, so that none of them can be optimised away.
 */
import b from 'benny'
import { resultsFolder } from './package.js'
import { formatReport } from './report.js'

export interface Case {
  readonly name: string
  /** Operations per batch. */
  readonly size: number
  /** Makes the batch; called several times by benny, so whatever is costly is made outside. */
  readonly prepare: () => () => number
  /** How long to measure, default 1. */
  readonly seconds?: number
}

let consumed = 0

/** @returns everything the cases returned, folded into one number */
export function checksum(): number {
  return consumed
}

/**
 * Runs a suite and prints its report. The first case is the one that the ratios refer to.
 * @param name   also the name of the file in bench/results
 * @param cases  at least one
 */
export async function runSuite(name: string, cases: readonly Case[]): Promise<void> {
  const summary = await measure(
    name,
    cases,
    b.save({ folder: resultsFolder(), file: name, details: true }),
  )
  const sizes = new Map(cases.map(({ name, size }) => [name, size]))
  console.log(formatReport(summary, sizes))
}

/**
 * Runs the cases of a suite.
 * @param handlers  what benny is to do with the summary
 */
export function measure(
  name: string,
  cases: readonly Case[],
  ...handlers: ReturnType<typeof b.save>[]
): ReturnType<typeof b.suite> {
  const adds = cases.map(({ name, prepare, seconds = 1 }) =>
    b.add(
      name,
      () => {
        const batch = prepare()
        return () => {
          consumed = (consumed + batch()) | 0
        }
      },
      { minSamples: 5, maxTime: seconds },
    ),
  )
  return b.suite(name, ...adds, ...handlers)
}
