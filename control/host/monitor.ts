/**
 * What the kernel says of changes while they happen, as `ip monitor` tells: whoever takes away what is ours is
 * answered at once, and not only at the next look.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { sleep } from '../store/abort.js'
import type { HostState } from './state.js'

/** Pause before the program is started again if it ends. */
const RESTART_MS = 30_000
/** Changes seldom come alone. */
const GATHER_MS = 100

/** A neighbour's line, or one of a forwarding entry, ends in what is known of it. */
const IS_NEIGHBOUR = /\b(REACHABLE|STALE|DELAY|PROBE|FAILED|INCOMPLETE|PERMANENT|NOARP)\b/

/** Of a route: how it ends packets, if it does, and its destination. */
const ROUTE = /^(?:Deleted )?(?:(?:unreachable|blackhole|prohibit|throw) )?(\S+)/

/** Whether a line of `ip -o monitor` tells of something that should be as `wanted` says. */
export function isAbout(line: string, wanted: HostState): boolean {
  if (destinationsOf(wanted).has(ROUTE.exec(line)?.[1] ?? '')) return true
  const device = /(?:^(?:Deleted )?\d+: | dev )([^\s:@]+)/.exec(line)?.[1]
  if (device === undefined) return false
  if (wanted.links.some(({ name }) => name === device)) return true
  // Neighbours on the underlay come and go; routes by it, and itself, are of interest.
  return !IS_NEIGHBOUR.test(line) && wanted.routes.some((route) => route.device === device)
}

const known = new WeakMap<HostState, ReadonlySet<string>>()

/** Destinations of routes, each state's put together once. */
function destinationsOf(wanted: HostState): ReadonlySet<string> {
  const destinations =
    known.get(wanted) ?? new Set(wanted.routes.map(({ destination }) => destination))
  known.set(wanted, destinations)
  return destinations
}

/**
 * Watches until the signal fires. Without the program there is nothing to see, and the look every few seconds
 * has to do. When it says that it missed something, that counts as a change.
 * @param wanted    what should be there as of now
 * @param isEcho    whether a line tells of a change that we made ourselves
 * @param onChange  told after other changes
 * @param onRunning told whether the program runs, whenever that changes
 */
export async function monitor(
  wanted: () => HostState,
  isEcho: (line: string) => boolean,
  onChange: () => void,
  onRunning: (isRunning: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  let isGathering = false
  const gather = (): void => {
    isGathering = true
    setTimeout(() => {
      isGathering = false
      onChange()
    }, GATHER_MS).unref()
  }
  while (!signal.aborted) {
    const args = ['-o', 'monitor', 'link', 'address', 'route', 'neigh']
    const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'pipe'], signal })
    child.once('spawn', () => {
      onRunning(true)
    })
    const ended = new Promise<void>((resolve) => {
      const end = (): void => {
        resolve()
      }
      child.once('close', end)
      // One that runs and is told to end errs first, and is over when it has closed.
      child.once('error', () => {
        if (child.pid === undefined) end()
      })
    })
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!isGathering && !isEcho(line) && isAbout(line, wanted())) gather()
    })
    child.stderr.on('data', () => {
      if (!isGathering) gather()
    })
    await ended
    onRunning(false)
    await sleep(RESTART_MS, signal).catch(() => undefined)
  }
}
