/**
 * The daemon's log on stderr: klog's line format for drop-in use, or one JSON object a line.
 *
 * klog: `I0629 14:28:35.866987    5522 agent.js:259] message`, local time, the pid in seven
 * columns. File and line are those of the calling statement as the running program knows it: of
 * the compiled file, or of the source when Node runs with --enable-source-maps. One call is one
 * line: control characters in a message are escaped, so what a store or a peer says cannot forge
 * lines. Fields follow the message as `name=value`; in JSON they are members.
 */
import pino from 'pino'

export type LogFields = Readonly<Record<string, string | number | boolean | null>>

export interface Logger {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** Says why the process is about to end; the caller ends it. */
  fatal(message: string, fields?: LogFields): void
  /** An info line only when the verbosity (flag -v) is at least `level`. */
  verbose(level: number, message: string, fields?: LogFields): void
  isVerbose(level: number): boolean
  /** The same log; JSON lines carry `module`, klog lines use it where no call site is known. */
  child(module: string): Logger
}

export interface LogStream {
  write(line: string): void
}

export interface LogOptions {
  /** Default `klog`. */
  readonly format?: 'klog' | 'json'
  /** Default 0. */
  readonly verbosity?: number
  /** Default: stderr, written synchronously. */
  readonly stream?: LogStream
  /** Default: the wall clock with microseconds. Unix time, ms. */
  readonly now?: () => number
}

type Severity = 'info' | 'warn' | 'error' | 'fatal'

/** Writes one record; `site` is `file:line`. */
type Sink = (
  severity: Severity,
  site: string,
  module: string,
  text: string,
  fields: LogFields,
) => void

/** Creates the log; writing to it never throws. */
export function createLogger(options: LogOptions = {}): Logger {
  const stream = options.stream ?? pino.destination({ fd: 2, sync: true })
  const sink =
    options.format === 'json'
      ? createJsonSink(stream)
      : createKlogSink(stream, options.now ?? createWallClock())
  return createChild(sink, options.verbosity ?? 0, 'heddled')
}

function createChild(sink: Sink, verbosity: number, module: string): Logger {
  const at =
    (severity: Severity) =>
    (message: string, fields: LogFields = {}): void => {
      log(severity, message, fields)
    }
  const log = (severity: Severity, message: string, fields: LogFields) => {
    try {
      sink(severity, callSite() ?? `${module}:0`, module, message, fields)
    } catch {
      // A log that cannot be written must not stop the daemon.
    }
  }
  return {
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
    verbose: (level, message, fields = {}) => {
      if (level <= verbosity) log('info', message, fields)
    },
    isVerbose: (level) => level <= verbosity,
    child: (name) => createChild(sink, verbosity, name),
  }
}

/** Stack frames of this file between the caller and `callSite`: that, `log` and the level's own. */
const OWN_FRAMES = 3

/** `file:line` of the statement that logs; null when the stack does not tell. */
function callSite(): string | null {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = OWN_FRAMES + 1
  const stack = new Error().stack ?? ''
  Error.stackTraceLimit = limit
  const frame = stack.split('\n').at(OWN_FRAMES + 1) ?? ''
  const match = /([^/\\\s():\]]+):(\d+):\d+\)?$/.exec(frame)
  return match && `${String(match[1])}:${String(match[2])}`
}

function createJsonSink(stream: LogStream): Sink {
  const log = pino({ base: { pid: process.pid } }, stream)
  return (severity, source, module, text, fields) => {
    log[severity]({ ...fields, module, source }, text)
  }
}

const LETTERS: Readonly<Record<Severity, string>> = { info: 'I', warn: 'W', error: 'E', fatal: 'F' }

function createKlogSink(stream: LogStream, now: () => number): Sink {
  const pid = String(process.pid).padStart(7)
  return (severity, site, _module, text, fields) => {
    const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${fieldText(value)}`)
    const header = `${LETTERS[severity]}${formatTime(now())} ${pid} ${site}]`
    stream.write(`${header} ${escapeControls(text + pairs.join(''))}\n`)
  }
}

function fieldText(value: LogFields[string]): string {
  return typeof value === 'string' && !/^[\w.:/@&-]+$/.test(value)
    ? JSON.stringify(value)
    : String(value)
}

/** Beyond this the wall clock was set, or the machine slept, ms. */
const CLOCK_STEP_MS = 20

/** Unix time in ms with microseconds: the monotonic clock, set right whenever it strays. */
function createWallClock(): () => number {
  let origin = performance.timeOrigin
  return () => {
    const drift = Date.now() - (origin + performance.now())
    if (Math.abs(drift) > CLOCK_STEP_MS) origin += drift
    return origin + performance.now()
  }
}

/** `MMDD HH:MM:SS.µµµµµµ` in local time. */
function formatTime(ms: number): string {
  const date = new Date(ms)
  const two = (n: number) => String(n).padStart(2, '0')
  const day = two(date.getMonth() + 1) + two(date.getDate())
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')
  const micros = date.getMilliseconds() * 1000 + Math.floor((ms - Math.floor(ms)) * 1000)
  return `${day} ${time}.${String(micros).padStart(6, '0')}`
}

/** C0, DEL, C1 and the line separators, as escapes. */
function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, (char) => {
    const named = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[char]
    return named ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}
