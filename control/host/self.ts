/**
 * The program that this process runs, as it is installed now: another version perhaps.
 */
import { isHeddleError } from '../errors.js'
import { runProgram } from './run.js'

/** Why it would not start with the flags of this one, null = it does: it is asked for its version. */
export async function whyNotStarting(): Promise<string | null> {
  const program = { name: process.execPath, package: 'nodejs', code: 'HEDDLE_COMMAND' } as const
  const [script = '', ...flags] = process.argv.slice(1)
  try {
    await runProgram(program, [...process.execArgv, script, '--version', ...flags])
    return null
  } catch (error) {
    if (!isHeddleError(error)) throw error
    return error.message
  }
}
