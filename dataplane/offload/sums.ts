/**
 * The sums over payload that the path asks of the native side, as an interface, and their twin in
 * TypeScript for engines that run without the addon.
 */
import { BATCH_COLUMNS } from '../packet/batch.js'
import { sum } from '../wire/checksum.js'

/** One's-complement sums, folded to 16 bits and not inverted. */
export interface Sums {
  /** Sum of a range. */
  checksum(arena: Uint8Array, at: number, len: number): number
  /** Sums of consecutive ranges of `step` bytes, the last may be shorter. @returns how many */
  checksumSteps(arena: Uint8Array, at: number, len: number, step: number, out: Int32Array): number
  /** Sums of every datagram of a batch's rows, without `skip` bytes before each. @returns how many */
  checksumRows(
    arena: Uint8Array,
    columns: Int32Array,
    capacity: number,
    count: number,
    skip: number,
    out: Int32Array,
  ): number
}

/** The sums in TypeScript: slower, the same results. */
export function createPlainSums(): Sums {
  const of = (arena: Uint8Array, at: number, len: number): number =>
    sum(new DataView(arena.buffer, arena.byteOffset, arena.byteLength), at, len)
  const steps = (
    arena: Uint8Array,
    at: number,
    len: number,
    step: number,
    skip: number,
    put: (value: number) => void,
  ): void => {
    for (let done = 0; done < len; done += step) {
      const size = Math.min(step, len - done)
      put(size > skip ? of(arena, at + done + skip, size - skip) : 0)
    }
  }
  return {
    checksum: of,
    checksumSteps(arena, at, len, step, out) {
      let count = 0
      steps(arena, at, len, step, 0, (value) => (out[count++] = value))
      return count
    },
    checksumRows(arena, columns, capacity, rows, skip, out) {
      let count = 0
      for (let row = 0; row < rows; row++) {
        const at = columns[BATCH_COLUMNS.AT * capacity + row] ?? 0
        const len = columns[BATCH_COLUMNS.LEN * capacity + row] ?? 0
        const step = columns[BATCH_COLUMNS.SEGMENT * capacity + row] || len || 1
        steps(arena, at, len, step, skip, (value) => (out[count++] = value))
      }
      return count
    },
  }
}
