/**
 * Data that looks random and is the same for the same seed, for transfers checked by hash.
 */

/**
 * Fills a buffer with the bytes of a stream from its beginning (xorshift32, Marsaglia 2003, "Xorshift RNGs").
 * @param seed  any integer; streams of different seeds differ
 * @returns     state to continue the stream with {@link continuePattern}
 */
export function fillPattern(target: Uint8Array, seed: number): number {
  // Zero is the one state xorshift never leaves; neighbouring seeds are spread by an odd factor.
  return continuePattern(target, Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995 || 1)
}

/** Continues a stream; a multiple of 4 bytes at a time, except for its last piece. */
export function continuePattern(target: Uint8Array, state: number): number {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength)
  const whole = target.length & ~3
  let x = state | 0
  for (let at = 0; at < whole; at += 4) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    view.setInt32(at, x)
  }
  for (let at = whole; at < target.length; at++) target[at] = x >>> (8 * (at & 3))
  return x
}
