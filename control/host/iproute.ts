/**
 * Runs the programs of iproute2. Arguments are passed as a list, never through a shell; batch lines are
 * built from checked names, addresses and numbers only.
 */
import { HeddleError } from '../errors.js'
import { runProgram } from './run.js'

export type Program = 'ip' | 'bridge'

/** A device name as the kernel accepts it: no slash, no white space, at most 15 bytes. */
const DEVICE_NAME = /^[^\s/]{1,15}$/

/** Runs a program of iproute2 with optional standard input; answers its standard output. */
export function run(program: Program, args: readonly string[], input = ''): Promise<string> {
  return runProgram({ name: program, package: 'iproute2', code: 'HEDDLE_APPLY' }, args, input)
}

/** Every line is tried, so that one that the kernel refuses does not hold up the others. */
export async function runBatch(program: Program, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return
  await run(program, ['-force', '-batch', '-'], lines.join('\n') + '\n')
}

/** What a program tells as JSON; nothing = an empty list. */
export async function readJson<T>(args: readonly string[], program: Program = 'ip'): Promise<T[]> {
  const text = await run(program, ['-json', ...args])
  return text.trim() === '' ? [] : (JSON.parse(text) as T[])
}

/** The name of a device. @throws HEDDLE_APPLY for a text that the kernel does not take as one */
export function checked(name: string): string {
  if (!DEVICE_NAME.test(name)) {
    throw new HeddleError('HEDDLE_APPLY', `"${name}" is no device name`)
  }
  return name
}
