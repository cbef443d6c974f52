/**
 * When the kernel's state is compared with what it should be: every five seconds, and at once when
 * something calls for it. What fails is tried again; the log tells it when it changes.
 */
import { describeError } from './errors.js'
import type { Logger } from './log.js'
import { joinSignals, sleep } from './store/abort.js'

/** Period of the comparison. */
const REPAIR_PERIOD_MS = 5000

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

  /** Repairs until the signal fires. */
  async run(repair: () => Promise<void>, signal: AbortSignal): Promise<void> {
    let last = ''
    for (;;) {
      if (!this.isDue) await this.pause(signal)
      if (signal.aborted) return
      this.isDue = false
      let fault = ''
      try {
        await repair()
      } catch (error) {
        fault = describeError(error)
      }
      if (fault !== last && fault !== '') this.log.error(`repair: ${fault}`)
      last = fault
    }
  }

  private async pause(signal: AbortSignal): Promise<void> {
    this.wake = new AbortController()
    const either = joinSignals(signal, this.wake.signal)
    await sleep(REPAIR_PERIOD_MS, either.signal).catch(() => undefined)
    either.dispose()
  }
}
