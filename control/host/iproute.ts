/**
 * Runs the programs of iproute2. Arguments are passed as a list, never through a shell; batch lines are
 * built from checked names, addresses and numbers only.
 */
import { execFile } from 'node:child_process'
import { HeddleError } from '../errors.js'

export type Program = 'ip' | 'bridge'

/** A device name as the kernel accepts it: no slash, no white space, at most 15 bytes. */
const DEVICE_NAME = /^[^\s/]{1,15}$/
const TIMEOUT_MS = 30_000
/** Lines of an error message that are passed on. */
const MAX_SAID = 6

/** Runs a program of iproute2 with optional standard input; answers its standard output. */
export function run(program: Program, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { timeout: TIMEOUT_MS, maxBuffer: 256 << 20 },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout)
          return
        }
        const isMissing = 'code' in error && error.code === 'ENOENT'
        const why = isMissing ? 'the program is not installed (package iproute2)' : firstFew(stderr)
        reject(
          new HeddleError('HEDDLE_APPLY', `${program} ${args.join(' ')}: ${why || error.message}`, {
            cause: error,
            retryable: !isMissing,
          }),
        )
      },
    )
    // It may exit before it has read its input; what it says then is in its exit code.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}

/** What a batch with thousands of lines says may be as long. */
function firstFew(text: string): string {
  const lines = text.trim().split('\n')
  const more = lines.length > MAX_SAID ? [`and ${String(lines.length - MAX_SAID)} more lines`] : []
  return [...lines.slice(0, MAX_SAID), ...more].join('\n')
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
