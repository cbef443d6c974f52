/**
 * One ping without pause from a namespace, and when each answer came: how long a path was broken,
 * and from when on it works.
 */
import type { Netns } from '../lab/netns.js'
import type { ManagedProcess } from '../lab/process.js'
import { until } from './overlay.js'

/** Milliseconds between two echo requests. */
export const INTERVAL_MS = 20

export class Pinger {
  readonly #child: ManagedProcess

  private constructor(child: ManagedProcess) {
    this.#child = child
  }

  static async start(from: Netns, address: string): Promise<Pinger> {
    // -D: every line begins with the time of the answer; -O: a line for each missing answer too.
    const args = ['-D', '-O', '-n', '-i', String(INTERVAL_MS / 1000), address]
    return new Pinger(await from.spawn('stdbuf', ['-oL', 'ping', ...args], { name: 'ping' }))
  }

  /** Unix times of the answers so far, ms. */
  answers(): number[] {
    const lines = this.#child.stdout().matchAll(/^\[(\d+\.\d+)\] \d+ bytes from/gm)
    return [...lines].map((match) => Number(match[1]) * 1000)
  }

  /** Waits for an answer that came after a moment. @returns when it came, Unix ms */
  async answerAfter(momentMs: number, timeoutMs: number): Promise<number> {
    const after = (): number | undefined => this.answers().find((at) => at > momentMs)
    await until('a ping is answered', timeoutMs, () => after() !== undefined)
    return after() ?? Number.NaN
  }

  /** Waits until no answer has come for a while. @returns when the last one came, Unix ms */
  async silence(forMs: number, timeoutMs: number): Promise<number> {
    const last = (): number => this.answers().at(-1) ?? 0
    await until('pings are no longer answered', timeoutMs, () => Date.now() - last() > forMs)
    return last()
  }

  /** The longest time without an answer between the first and the last one, ms. */
  longestGap(): number {
    const answers = this.answers()
    return Math.max(0, ...answers.slice(1).map((at, i) => at - (answers[i] ?? at)))
  }

  async stop(): Promise<void> {
    await this.#child.stop()
  }
}
