/**
 * Whether engines live: each one turns once a second at least, busy or idle, and its count of turns moves.
 */

/** Two and a half turns of an engine that has nothing to do. */
const SILENCE_MS = 2500

export class Turns {
  private counts: readonly number[] = []
  /** When each count moved last, as far as anybody looked. */
  private movedAt: number[] = []

  /**
   * @param counts  turns of each engine; other engines than last time count as new ones
   * @param now     milliseconds that never go back
   */
  areMoving(counts: readonly number[], now: number): boolean {
    const { counts: before, movedAt } = this
    const isOther = counts.length !== before.length
    this.counts = counts
    this.movedAt = counts.map((count, i) =>
      isOther || count !== before[i] ? now : (movedAt[i] ?? now),
    )
    return this.movedAt.every((at) => now - at <= SILENCE_MS)
  }
}
