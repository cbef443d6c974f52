/**
 * A daemon that starts anew without a gap, for another version of itself: the process becomes the program
 * again (execve). Its TUN devices and sockets stay open over that, so what comes meanwhile waits in their queues and
 * nothing of it is lost; an environment variable tells the new program which they are.
 */
import {
  becomeProgram,
  closeDescriptor,
  descriptorsOf,
  setInherited,
  type OpenDevices,
} from '../dataplane/index.js'

/** Why a run ends whose devices are to stay open: reason of its signal. */
export class Handover extends Error {
  override readonly name = 'AbortError'
}

/** A tunnel's devices that a program left open. */
export interface HandedTunnel {
  /** What the devices were opened with: they serve a tunnel of the very same. */
  readonly key: string
  readonly devices: OpenDevices
}

/** Standard streams: Node keeps them from programs that are started, too. */
const STANDARD = [0, 1, 2]
const VARIABLE = 'HEDDLE_HANDOVER'
/** Changes with the shape of what is handed over. */
const FORMAT = 1

/** The value of the variable. */
interface Note {
  readonly format: number
  /** Process that it is for: an environment may get into other hands. */
  readonly pid: number
  /** Every descriptor, also for a version that does not understand the rest. */
  readonly fds: readonly number[]
  readonly tunnels: readonly HandedTunnel[]
}

/**
 * Becomes the program of this process again, with its arguments and environment.
 * @throws NativeError when the kernel refuses
 */
export function becomeAnew(tunnels: readonly HandedTunnel[]): void {
  const fds = tunnels.flatMap(({ devices }) => descriptorsOf(devices))
  for (const fd of [...STANDARD, ...fds]) setInherited(fd, true)
  const note: Note = { format: FORMAT, pid: process.pid, fds, tunnels }
  const env = { ...definedOf(process.env), [VARIABLE]: JSON.stringify(note) }
  becomeProgram(process.execPath, [...process.execArgv, ...process.argv.slice(1)], env)
}

function definedOf(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}

/**
 * What the program before this one left; none of it is handed on to programs that are started. The variable goes.
 * @returns empty where nothing was left, or what was is of another format and is closed
 */
export function takeHanded(env: NodeJS.ProcessEnv, pid: number): readonly HandedTunnel[] {
  const text = env[VARIABLE]
  Reflect.deleteProperty(env, VARIABLE)
  if (text === undefined) return []
  const note = parseNote(text)
  if (note?.pid !== pid) return []
  const open = note.fds.filter(keepToOurselves)
  if (note.format === FORMAT && open.length === note.fds.length) return note.tunnels
  open.forEach(closeDescriptor)
  return []
}

/** @returns whether it is open */
function keepToOurselves(fd: number): boolean {
  try {
    setInherited(fd, false)
    return true
  } catch {
    return false
  }
}

function parseNote(text: string): Note | null {
  try {
    const note = JSON.parse(text) as Note | null
    return Array.isArray(note?.fds) && Array.isArray(note.tunnels) ? note : null
  } catch {
    return null
  }
}

/** Closes devices that nobody goes on with. */
export function closeHanded(tunnels: readonly HandedTunnel[]): void {
  for (const { devices } of tunnels) descriptorsOf(devices).forEach(closeDescriptor)
}
