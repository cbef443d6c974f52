/**
 * Which labs exist on this machine, and how a lab disappears.
 *
 * Every lab has a record in /run/heddle-lab. A lab ends with `close()`, with the exit of its process
 * (also by SIGINT, SIGTERM, SIGHUP or an exception), or, when the process was killed, at the start of
 * the next lab, which removes every lab whose owner is dead. A kept lab stays until it is removed by
 * name. Removing is synchronous, since it must work in an exit handler: it kills what runs in the
 * lab's namespaces and deletes them; their interfaces go with them.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { killManaged, labEnvironment } from './process.js'

const RECORDS = '/run/heddle-lab'
const NETNS = '/run/netns'

export interface LabRecord {
  /** Unique name; every namespace of the lab is called `<prefix>-…`. */
  readonly prefix: string
  /** Process that made the lab, and its start time in clock ticks since boot (a pid is used again). */
  readonly pid: number
  readonly startTime: string
  /** Folder to delete with the lab, null when it belongs to the caller. */
  readonly ownDir: string | null
  /** Whether the lab outlives its process. */
  readonly kept: boolean
}

const open = new Map<string, LabRecord>()
let hooked = false

/**
 * Start time of a process in clock ticks since boot (proc(5), stat field 22).
 * @returns null when there is no such process, or only its exit status is left (a zombie)
 */
export function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is a name in parentheses that may hold anything; count from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}

/** Writes a lab's record and makes sure that the lab ends with this process. */
export function register(record: LabRecord): void {
  hook()
  open.set(record.prefix, record)
  save(record)
}

/** Takes a lab out of this process's care: it stays until {@link removeLab}. */
export function keep(prefix: string): void {
  const record = open.get(prefix)
  if (record === undefined) return
  open.delete(prefix)
  save({ ...record, kept: true })
}

/** All labs with a record, kept ones included. */
export function listLabs(): LabRecord[] {
  return namesIn(RECORDS).flatMap((name) => {
    const record = load(`${RECORDS}/${name}`)
    return record === null ? [] : [record]
  })
}

/** Ends every process in the lab's namespaces and deletes namespaces, folder and record. Idempotent. */
export function removeLab(record: LabRecord): void {
  const mine = namesIn(NETNS).filter((name) => name.startsWith(`${record.prefix}-`))
  for (const name of mine) removeNamespace(name)
  if (record.ownDir !== null) rmSync(record.ownDir, { recursive: true, force: true })
  rmSync(recordFile(record.prefix), { force: true })
  open.delete(record.prefix)
}

/**
 * Removes labs whose process is gone, also those whose record is lost.
 * @returns their prefixes
 */
export function removeStaleLabs(): string[] {
  const labs = listLabs()
  const stale = labs.filter((lab) => !lab.kept && startTime(lab.pid) !== lab.startTime)
  for (const lab of stale) removeLab(lab)
  const known = new Set(labs.map((lab) => lab.prefix))
  const orphans = namesIn(NETNS).filter((name) => {
    const match = /^(hdl(\d+)-\d+)-/.exec(name)
    return match !== null && !known.has(match[1] ?? '') && startTime(Number(match[2])) === null
  })
  for (const name of orphans) removeNamespace(name)
  return [...stale.map((lab) => lab.prefix), ...orphans]
}

function removeNamespace(name: string): void {
  for (const pid of quietly('ip', ['netns', 'pids', name]).split('\n').map(Number)) {
    if (pid > 1) killQuietly(pid)
  }
  quietly('ip', ['netns', 'del', name])
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Ended by itself since it was listed.
  }
}

function quietly(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, {
      env: labEnvironment(),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 10_000,
    })
  } catch {
    return ''
  }
}

function hook(): void {
  if (hooked) return
  hooked = true
  process.on('exit', () => {
    killManaged()
    for (const record of [...open.values()]) removeLab(record)
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      // Another handler may have taken the labs over (closed or kept them); the exit handler does the rest.
      process.exit(128 + constants.signals[signal])
    })
  }
}

function recordFile(prefix: string): string {
  return `${RECORDS}/${prefix}.json`
}

function save(record: LabRecord): void {
  mkdirSync(RECORDS, { recursive: true, mode: 0o755 })
  writeFileSync(recordFile(record.prefix), `${JSON.stringify(record)}\n`)
}

function load(file: string): LabRecord | null {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

function isRecord(value: unknown): value is LabRecord {
  if (typeof value !== 'object' || value === null) return false
  const lab = value as Partial<Record<keyof LabRecord, unknown>>
  return (
    typeof lab.prefix === 'string' &&
    /^hdl\d+-\d+$/.test(lab.prefix) &&
    typeof lab.pid === 'number' &&
    typeof lab.startTime === 'string' &&
    (lab.ownDir === null || typeof lab.ownDir === 'string') &&
    typeof lab.kept === 'boolean'
  )
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
