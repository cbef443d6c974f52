/**
 * Programs run by the lab: short ones to their end, long ones under a handle.
 *
 * A managed program writes its output to files instead of pipes, so it survives the end of the
 * process that started it (`heddle demo --keep`) and its output can be read at any moment. It is a
 * process group of its own: Ctrl-C at the terminal reaches the lab, and the lab ends the program.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'

export interface RunResult {
  /** Exit code; 128 + n when signal n ended the program, 124 when its time was up. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** Milliseconds until SIGKILL, default 15000. */
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
  /** Text for standard input; none by default. */
  readonly input?: string
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Path of the output files without their endings `.out` and `.err`. */
  readonly log: string
}

export interface ExitStatus {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Variables of a test runner or npm, and settings of another daemon, that a lab's programs must not inherit. */
const FOREIGN =
  /^(NODE_OPTIONS|NODE_V8_COVERAGE|TAP|TAP_.*|_TAPJS_.*|TS_NODE_.*|npm_.*|FLANNELD_.*|ETCDCTL_.*|ETCD_.*|NOTIFY_SOCKET)$/

/** The environment of every program in a lab. */
export function labEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const clean = Object.entries(process.env).filter(([name]) => !FOREIGN.test(name))
  return { ...Object.fromEntries(clean), LC_ALL: 'C', ETCDCTL_API: '3', ...extra }
}

/** Runs a program to its end, without a shell. Never rejects: a program that cannot start is code 127. */
export function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return new Promise((resolve) => {
    const child = execFile(
      command,
      args,
      {
        env: labEnvironment(options.env),
        timeout: options.timeoutMs ?? 15_000,
        killSignal: 'SIGKILL',
        maxBuffer: 64 * 1024 * 1024,
      },
      (error, stdout, stderr) => {
        resolve({ code: exitCode(child, error), stdout, stderr: stderr || startFault(error) })
      },
    )
    // A program may end before it has read its input; its exit code tells more than EPIPE does.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input ?? '')
  })
}

function exitCode(child: ChildProcess, error: Error | null): number {
  if (error === null) return 0
  if (child.exitCode !== null && child.exitCode >= 0) return child.exitCode
  if (child.killed) return 124
  if (child.signalCode !== null) return 128 + constants.signals[child.signalCode]
  return 127
}

function startFault(error: Error | null): string {
  return error !== null && 'syscall' in error ? error.message : ''
}

/** Like {@link run}, but a failure is an error that carries the command and its output. */
export async function must(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await run(command, args, options)
  if (result.code !== 0) {
    const said = (result.stderr || result.stdout).trim()
    throw new HeddleError(
      'HEDDLE_APPLY',
      `\`${[command, ...args].join(' ')}\` ended with ${result.code}: ${said}`,
    )
  }
  return result.stdout
}

/** Programs that must not outlive this process. */
const running = new Set<ManagedProcess>()

/**
 * Kills every managed program that has not been released; for exit handlers. One that was started a
 * moment ago may not have entered its namespace yet, so looking there would miss it.
 */
export function killManaged(): void {
  for (const child of running) child.kill('SIGKILL')
}

/** A program that runs until it is told to end. */
export class ManagedProcess {
  readonly pid: number
  readonly command: string
  readonly log: string
  /** Settles when the program has ended, however it did. */
  readonly exited: Promise<ExitStatus>
  #status: ExitStatus | null = null
  readonly #child: ChildProcess

  private constructor(command: string, log: string, pid: number, child: ChildProcess) {
    this.command = command
    this.log = log
    this.pid = pid
    this.#child = child
    running.add(this)
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        running.delete(this)
        this.#status = { code, signal }
        resolve(this.#status)
      })
    })
  }

  /**
   * Starts a program.
   * @throws HeddleError HEDDLE_APPLY when there is no such program
   */
  static async start(
    command: string,
    args: readonly string[],
    options: SpawnOptions,
  ): Promise<ManagedProcess> {
    const out = openSync(`${options.log}.out`, 'a')
    const err = openSync(`${options.log}.err`, 'a')
    const child = spawn(command, args, {
      env: labEnvironment(options.env),
      stdio: ['ignore', out, err],
      detached: true,
    })
    closeSync(out)
    closeSync(err)
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', (cause) => {
        reject(
          new HeddleError('HEDDLE_APPLY', `${command} cannot be started: ${cause.message}`, {
            cause,
          }),
        )
      })
    })
    return new ManagedProcess([command, ...args].join(' '), options.log, child.pid ?? 0, child)
  }

  /** Exit code or signal once the program has ended, null while it runs. */
  get status(): ExitStatus | null {
    return this.#status
  }

  get running(): boolean {
    return this.#status === null
  }

  /** Everything written to standard output so far. */
  stdout(): string {
    return readFileSync(`${this.log}.out`, 'utf8')
  }

  /** Everything written to standard error so far. */
  stderr(): string {
    return readFileSync(`${this.log}.err`, 'utf8')
  }

  /**
   * Waits until either output contains a match.
   * @returns the match
   * @throws  HeddleError HEDDLE_ABORTED when the time is up or the program ended without it
   */
  async waitFor(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpMatchArray> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const ended = !this.running
      const match = this.stdout().match(pattern) ?? this.stderr().match(pattern)
      if (match !== null) return match
      if (ended || Date.now() > deadline) {
        const why = ended ? 'it ended' : `${timeoutMs} ms passed`
        const tail = (this.stdout() + this.stderr()).slice(-2000)
        throw new HeddleError(
          'HEDDLE_ABORTED',
          `\`${this.command}\` never said ${pattern.source}: ${why}\n${tail}`,
        )
      }
      await sleep(20)
    }
  }

  /** Sends a signal; does nothing once the program has ended. */
  kill(signal: NodeJS.Signals): void {
    if (this.running) process.kill(this.pid, signal)
  }

  /** SIGTERM, then SIGKILL after the grace time. Settles when the program has ended. */
  async stop(graceMs = 3000): Promise<ExitStatus> {
    this.kill('SIGTERM')
    const timer = setTimeout(() => {
      this.kill('SIGKILL')
    }, graceMs)
    const status = await this.exited
    clearTimeout(timer)
    return status
  }

  /** Lets this process end while the program goes on. */
  release(): void {
    running.delete(this)
    this.#child.unref()
  }
}
