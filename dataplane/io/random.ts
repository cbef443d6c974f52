/**
 * A small seeded random generator for test tools: the same seed gives the same numbers on every
 * platform. Not for secrets.
 *
 * Source: Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003, triple 13/17/5;
 * seeds are spread by the 32-bit finalizer of MurmurHash3 (Appleby), so that neighbouring seeds have
 * nothing in common.
 */
export interface Random {
  /** An integer 0 .. limit − 1. @param limit  1 .. 2³² */
  below(limit: number): number
  /** Whether an event of this probability (0..1) happens now; 0 = never, 1 = always. */
  happens(probability: number): boolean
}

/** A generator. @param seed  any integer; its low 32 bits count */
export function createRandom(seed: number): Random {
  let state = spread(seed)
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  return {
    below: (limit) => Math.floor((next() / 0x1_0000_0000) * limit),
    happens: (probability) => next() / 0x1_0000_0000 < probability,
  }
}

/** Mixes a seed into a state; never 0, where the generator would stay for ever. */
function spread(seed: number): number {
  let bits = seed | 0
  bits = Math.imul(bits ^ (bits >>> 16), 0x85eb_ca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2_ae35)
  bits ^= bits >>> 16
  return bits === 0 ? 1 : bits
}
