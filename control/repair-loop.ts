/**
 * When the kernel's state is compared with what it should be: at once when something calls for it, and every
 * five seconds. While the kernel tells of changes by itself, a look at many entries is taken less often. What
 * fails is tried again; the log tells it when it changes.
 */
import { describeError } from './errors.js'
import type { Logger } from './log.js'
import { joinSignals, sleep } from './store/abort.js'

/** Period of the comparison. */
const REPAIR_PERIOD_MS = 5000
/** It is longer where looks would take more than this share of the time, up to a minute. */
const MOST_SHARE = 0.01
const LONGEST_PERIOD_MS = 60_000

/**
 * The pause before the next comparison, ms.
 * @param tookMs  how long one takes
 * @param isTold  whether the kernel tells of all that one would find
 */
export function pauseAfter(tookMs: number, isTold: boolean): number {
  if (!isTold) return REPAIR_PERIOD_MS
  return Math.min(Math.max(REPAIR_PERIOD_MS, tookMs / MOST_SHARE), LONGEST_PERIOD_MS)
}

export class RepairLoop {
  private readonly log: Logger
  /** Ends the pause before the next repair. */
  private wake = new AbortController()
  private isDue = false

  constructor(log: Logger) {
    this.log = log
  }

  /** Ends the pause; a repair that is under way is followed by another at once. */
  now(): void {
    this.isDue = true
    this.wake.abort()
  }

  /**
   * Repairs until the signal fires.
   * @param isTold  whether the kernel tells of all that a repair would find
   */
  async run(
    repair: () => Promise<void>,
    isTold: () => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    let last = ''
    let tookMs = 0
    let leastMs = 0
    for (;;) {
      if (!this.isDue) await this.pause(pauseAfter(leastMs, last === '' && isTold()), signal)
      if (signal.aborted) return
      this.isDue = false
      let fault = ''
      const start = performance.now()
      try {
        await repair()
      } catch (error) {
        fault = describeError(error)
      }
      // One that was held up says nothing.
      const ms = performance.now() - start
      leastMs = Math.min(tookMs, ms)
      tookMs = ms
      if (fault !== last && fault !== '') this.log.error(`repair: ${fault}`)
      last = fault
    }
  }

  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    this.wake = new AbortController()
    const either = joinSignals(signal, this.wake.signal)
    await sleep(ms, either.signal).catch(() => undefined)
    either.dispose()
  }
}
