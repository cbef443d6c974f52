/**
 * Commands of the operator's own, without a shell: split at white space, then `$NAME` and `${NAME}` filled in, so
 * that what comes from a peer stays one literal argument (flannel behaviour, backend/extension).
 */
import { execFile } from 'node:child_process'
import { HeddleError } from '../errors.js'

const TIMEOUT_MS = 300_000
/** Characters of what a command said that an error repeats. */
const MAX_SAID = 2000
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
  return runArguments({ title: command, program, args, variables, input, timeoutMs: TIMEOUT_MS })
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
  readonly timeoutMs: number
}

/** Runs a command whose arguments are known one by one. @throws as {@link runCommand} */
export function runArguments(run: CommandRun): Promise<string> {
  const { title, program, args, variables, input, timeoutMs } = run
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...variables }
    const options = { env, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1 << 20 } as const
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout)
        return
      }
      // Not the error's own message, and no cause: it repeats the arguments, which may hold secrets.
      const said = stderr.trim().slice(0, MAX_SAID)
      const ended = `\`${title}\` ended with ${String(error.signal ?? error.code)}`
      reject(new HeddleError('HEDDLE_COMMAND', said === '' ? ended : `${ended}: ${said}`))
    })
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}
