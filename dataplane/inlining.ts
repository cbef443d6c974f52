/**
 * How much of the way of a packet the compiler makes one piece of code of.
 *
 * The way is a tree of small functions. V8 takes calls in, the most frequent first, until it has spent a
 * budget, by default 920 bytes of bytecode; the rest stays calls, of about 3 ns each. With the budget
 * below nearly all of a direction becomes one function: a packet takes a fifth to a quarter less time
 * (bench:flow). Beyond 5000 bytes it takes more again, since there are only so many registers.
 */
import { setFlagsFromString } from 'node:v8'

/** Bytes of bytecode. */
const BUDGET = 4000

/** The option of V8 that holds the budget (Node 20 and later). */
export const INLINING_OPTION = `--max-inlined-bytecode-size-cumulative=${BUDGET}`

/** Sets the budget, for the whole process. To be called before the engine's first breath. */
export function widenInlining(): void {
  setFlagsFromString(INLINING_OPTION)
}
