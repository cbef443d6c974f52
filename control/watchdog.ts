/**
 * Tells the service manager's watchdog that the daemon lives: sd_watchdog_enabled(3), sd_notify(3). It hears
 * nothing any more when this thread stands still, or an engine does, and starts the daemon again.
 */
import type { Notify } from './sd-notify.js'

/** Half of the time that the manager waits, as sd_watchdog_enabled(3) recommends. */
const PART = 2

/**
 * Milliseconds between two messages, null = nobody watches this process.
 * @param env  WATCHDOG_USEC, and WATCHDOG_PID where it is meant for one process
 */
export function watchdogPeriod(
  env: Readonly<Record<string, string | undefined>>,
  pid: number,
): number | null {
  const { WATCHDOG_USEC: usec = '', WATCHDOG_PID: whose = '' } = env
  if (!/^[1-9]\d*$/.test(usec)) return null
  if (whose !== '' && whose !== String(pid)) return null
  return Number(usec) / 1000 / PART
}

/**
 * Sends WATCHDOG=1 as long as the daemon lives.
 * @param isAlive  asked before each message
 * @returns        ends it
 */
export function startWatchdog(
  periodMs: number,
  notify: Notify,
  isAlive: () => boolean,
): () => void {
  const timer = setInterval(() => {
    if (isAlive()) notify('WATCHDOG=1')
  }, periodMs)
  return () => {
    clearInterval(timer)
  }
}
