/**
 * A baseline: one `Map` per prefix length, asked from the longest length in use to the shortest.
 */
import type { Route4, Route6 } from './routes.js'

export class MapPerLength4 {
  private readonly masks: readonly number[]
  private readonly maps: readonly Map<number, number>[]

  constructor(routes: readonly Route4[]) {
    const maps = new Map<number, Map<number, number>>()
    for (const { addr, len, hop } of routes) {
      const map = maps.get(len) ?? new Map<number, number>()
      maps.set(len, map.set(addr, hop))
    }
    const sorted = [...maps].sort(([a], [b]) => b - a)
    this.masks = sorted.map(([len]) => (len === 0 ? 0 : -1 << (32 - len)))
    this.maps = sorted.map(([, map]) => map)
  }

  lookup(dst: number): number {
    for (let i = 0; i < this.maps.length; i++) {
      const hop = this.maps[i]?.get(dst & (this.masks[i] ?? 0))
      if (hop !== undefined) return hop
    }
    return 0
  }
}

function bits6(view: DataView, at: number): bigint {
  return (view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)
}

export class MapPerLength6 {
  private readonly shifts: readonly bigint[]
  private readonly maps: readonly Map<bigint, number>[]

  constructor(routes: readonly Route6[]) {
    const maps = new Map<number, Map<bigint, number>>()
    for (const { addr, len, hop } of routes) {
      const map = maps.get(len) ?? new Map<bigint, number>()
      maps.set(len, map.set(bits6(new DataView(addr.buffer), 0) >> BigInt(128 - len), hop))
    }
    const sorted = [...maps].sort(([a], [b]) => b - a)
    this.shifts = sorted.map(([len]) => BigInt(128 - len))
    this.maps = sorted.map(([, map]) => map)
  }

  lookup(view: DataView, at: number): number {
    const dst = bits6(view, at)
    for (let i = 0; i < this.maps.length; i++) {
      const hop = this.maps[i]?.get(dst >> (this.shifts[i] ?? 0n))
      if (hop !== undefined) return hop
    }
    return 0
  }
}
