/**
 * Numbers that look random and are the same in every run: xorshift32 (Marsaglia, "Xorshift RNGs", 2003).
 */

/**
 * Makes a generator.
 * @param seed  any int32 but 0
 * @returns     a function that gives the next uint32
 */
export function createRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}
