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
  /** Sums of consecutive ranges of `step` bytes, the last may be shorter, as far as `out` has room. @returns how many */
  checksumSteps(arena: Uint8Array, at: number, len: number, step: number, out: Int32Array): number
  /** Sums of every datagram of a batch's rows, without `skip` bytes before each, as far as `out` has room. @returns how many */
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
  let view: DataView = new DataView(new ArrayBuffer(0))
  const use = (arena: Uint8Array): void => {
    const isSame = view.buffer === arena.buffer && view.byteOffset === arena.byteOffset
    if (!isSame || view.byteLength !== arena.byteLength) view = createView(arena)
  }
  /** Sums of one range's steps from `out[from]` on. @returns where the next one goes */
  const addSteps = (
    at: number,
    len: number,
    step: number,
    skip: number,
    out: Int32Array,
    from: number,
  ): number => {
    let next = from
    for (let done = 0; done < len && next < out.length; done += step) {
      const size = Math.min(step, len - done)
      out[next++] = size > skip ? sum(view, at + done + skip, size - skip) : 0
    }
    return next
  }
  return {
    checksum(arena, at, len) {
      use(arena)
      return sum(view, at, len)
    },
    checksumSteps(arena, at, len, step, out) {
      use(arena)
      return addSteps(at, len, step, 0, out, 0)
    },
    checksumRows(arena, columns, capacity, rows, skip, out) {
      use(arena)
      let count = 0
      for (let row = 0; row < rows; row++) {
        const at = columns[BATCH_COLUMNS.AT * capacity + row] ?? 0
        const len = columns[BATCH_COLUMNS.LEN * capacity + row] ?? 0
        const step = columns[BATCH_COLUMNS.SEGMENT * capacity + row] ?? 0
        count = addSteps(at, len, step > 0 ? step : len, skip, out, count)
      }
      return count
    },
  }
}

function createView(arena: Uint8Array): DataView {
  return new DataView(arena.buffer, arena.byteOffset, arena.byteLength)
}
