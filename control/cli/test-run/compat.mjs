/**
 * `npm run test:compat`: the tests of the cases in docs/COMPATIBILITY.md, and then one line a case with what it
 * came to. It fails when a case comes to anything else than the table says.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../prepare/step.mjs'
import { compiledName, runTap } from './run.mjs'
import { TapReport } from './report.mjs'

/**
 * @param table   control/compat-table.ts, compiled
 * @param wanted  names of cases; none = all
 * @returns       exit code
 */
export async function runCompat({ readCases, casesOf }, wanted) {
  const all = readCases(readFileSync(join(ROOT, 'docs/COMPATIBILITY.md'), 'utf8'))
  const cases = all.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  const files = [...new Set(cases.flatMap((row) => row.files))]
  const report = new TapReport(files.map(compiledName))
  if (files.length > 0) report.ended(await runTap(files, report))
  const isGood = report.summary()
  console.log('')
  let isAsSaid = true
  for (const { name, outcome } of cases) {
    const results = report.results.filter(({ path }) =>
      path.some((title) => casesOf(title).includes(name)),
    )
    const line = cameTo(outcome, results)
    if (line !== outcome) isAsSaid = false
    console.log(`${name} ${line}`)
  }
  return isGood && isAsSaid ? 0 : 1
}

/** What a case came to, in the words of the table where they are true. */
function cameTo(outcome, results) {
  if (outcome.startsWith('not yet')) return outcome
  const failed = results.filter(({ outcome }) => outcome === 'failed')
  if (failed.length > 0) return `FAILED: ${failed.map(({ path }) => path.join(' › ')).join('; ')}`
  if (results.some(({ outcome }) => outcome === 'passed')) return outcome
  return results.length > 0 ? 'SKIPPED' : 'NOT TESTED'
}
