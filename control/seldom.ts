/**
 * Faults that repeat: each is told when it first shows, and once a minute while it stays.
 */

const PERIOD_MS = 60_000
/** Texts that are remembered; a fault has few. */
const MAX_TEXTS = 16

/**
 * @param tell  writes a line of the log
 * @param now   milliseconds that never go back
 * @returns     what to call instead
 */
export function seldom(
  tell: (text: string) => void,
  now: () => number = () => performance.now(),
): (text: string) => void {
  const toldAt = new Map<string, number>()
  return (text) => {
    const before = toldAt.get(text)
    if (before !== undefined && now() - before < PERIOD_MS) return
    if (before === undefined && toldAt.size >= MAX_TEXTS) toldAt.clear()
    toldAt.set(text, now())
    tell(text)
  }
}
