/**
 * The one place that runs programs of the host. Arguments are a list, never a line for a shell.
 */
import { execFile } from 'node:child_process'
import { HeddleError, type ErrorCode } from '../errors.js'

const TIMEOUT_MS = 30_000
/** Lines of an error message that are passed on. */
const MAX_SAID = 6

/** A program of the host, and what to do where it is not there. */
export interface Program {
  readonly name: string
  /** Debian's package that has it. */
  readonly package: string
  /** Code of the error when it fails. */
  readonly code: ErrorCode
}

/** How a program failed. */
export interface RunFault {
  readonly isMissing: boolean
  readonly stderr: string
}

/** What is known of the failure of a program, null when the error is of something else. */
export function runFault(error: unknown): RunFault | null {
  return error instanceof RunError ? error.fault : null
}

class RunError extends HeddleError {
  readonly fault: RunFault

  constructor(program: Program, args: readonly string[], fault: RunFault, cause: Error) {
    const why = fault.isMissing
      ? `the program is not installed (package ${program.package})`
      : fault.stderr
    super(program.code, `${[program.name, ...args].join(' ')}: ${why || cause.message}`, {
      cause,
      retryable: !fault.isMissing,
    })
    this.fault = fault
  }
}

/** What a batch of thousands of lines says may be as long. */
function firstFew(text: string): string {
  const lines = text.trim().split('\n')
  const more = lines.length > MAX_SAID ? [`and ${String(lines.length - MAX_SAID)} more lines`] : []
  return [...lines.slice(0, MAX_SAID), ...more].join('\n')
}

/**
 * Runs a program with arguments and optional standard input.
 * @returns its standard output
 * @throws  HeddleError with the program's code and its own words; {@link runFault} knows more of it
 */
export function runProgram(program: Program, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program.name,
      args,
      { timeout: TIMEOUT_MS, maxBuffer: 256 << 20, env: { ...process.env, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout)
          return
        }
        const isMissing = 'code' in error && error.code === 'ENOENT'
        reject(new RunError(program, args, { isMissing, stderr: firstFew(stderr) }, error))
      },
    )
    // A program may exit before it has read its input; what it says then is in its exit code.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}
