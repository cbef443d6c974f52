/**
 * Commands of the operator's own, without a shell: split at white space, then `$NAME` and `${NAME}` filled in, so
 * that what comes from a peer stays one literal argument (flannel behaviour, backend/extension).
 */
import { execFile } from 'node:child_process'
import { HeddleError } from '../errors.js'

const TIMEOUT_MS = 300_000
const VARIABLE = /\$(?:(\w+)|\{(\w+)\})/g

/** Program and arguments of a command. A variable that nobody has set is empty. */
export function splitCommand(
  command: string,
  variables: Readonly<Record<string, string | undefined>>,
): string[] {
  return command
    .trim()
    .split(/\s+/)
    .map((word) =>
      word.replace(VARIABLE, (_all, bare?: string, braced?: string) => {
        return variables[bare ?? braced ?? ''] ?? ''
      }),
    )
}

/**
 * Runs a command to its end.
 * @param variables  beside the daemon's own environment
 * @param input      what it reads from its standard input
 * @returns          what it printed
 * @throws           HeddleError HEDDLE_COMMAND that tells the command, its end and what it said
 */
export function runCommand(
  command: string,
  variables: Readonly<Record<string, string>>,
  input: string,
): Promise<string> {
  const [program = '', ...args] = splitCommand(command, { ...process.env, ...variables })
  return runArguments({ title: command, program, args, variables, input })
}

export interface CommandRun {
  /** What it is called in an error. */
  readonly title: string
  readonly program: string
  /** Taken as they are. */
  readonly args: readonly string[]
  /** Beside the daemon's own environment. */
  readonly variables: Readonly<Record<string, string>>
  /** What it reads from its standard input. */
  readonly input: string
}

/** Runs a command whose arguments are known one by one. @throws as {@link runCommand} */
export function runArguments(run: CommandRun): Promise<string> {
  const { title, program, args, variables, input } = run
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...variables }
    const options = { env, timeout: TIMEOUT_MS, maxBuffer: 1 << 20 }
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout)
        return
      }
      const said = stderr.trim() || error.message
      const ended = error.signal ?? error.code
      reject(
        new HeddleError('HEDDLE_COMMAND', `\`${title}\` ended with ${String(ended)}: ${said}`, {
          cause: error,
        }),
      )
    })
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}
