/**
 * The slow, trusted twin: a list of prefixes, searched from end to end.
 *
 * It exists to be obviously right. Property tests compare the fast table with it, and benches show
 * what the fast table is worth. It keeps no memory in common with other threads, so `enter()` and
 * `leave()` have nothing to do.
 */
import type { FibReader, FibWriter } from './fib.js'

interface Route {
  readonly addr: bigint
  readonly len: number
  hop: number
}

/** Routes of one family, whose addresses have `width` bits. */
class RouteList {
  readonly routes: Route[] = []
  readonly width: number

  constructor(width: number) {
    this.width = width
  }

  insert(addr: bigint, len: number, hop: number): void {
    const known = this.find(addr, len)
    if (known) known.hop = hop
    else this.routes.push({ addr, len, hop })
  }

  remove(addr: bigint, len: number): boolean {
    const known = this.find(addr, len)
    if (known) this.routes.splice(this.routes.indexOf(known), 1)
    return known !== undefined
  }

  lookup(dst: bigint): number {
    let best: Route | undefined
    for (const route of this.routes) {
      const shift = BigInt(this.width - route.len)
      const isMatch = dst >> shift === route.addr >> shift
      if (isMatch && (!best || route.len > best.len)) best = route
    }
    return best?.hop ?? 0
  }

  private find(addr: bigint, len: number): Route | undefined {
    return this.routes.find((route) => route.addr === addr && route.len === len)
  }
}

function bits6(view: DataView, at: number): bigint {
  return (view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)
}

function addr6(addr: Uint8Array): bigint {
  return bits6(new DataView(addr.buffer, addr.byteOffset, 16), 0)
}

export class LinearFib implements FibReader, FibWriter {
  private readonly list4 = new RouteList(32)
  private readonly list6 = new RouteList(128)

  get size4(): number {
    return this.list4.routes.length
  }
  get size6(): number {
    return this.list6.routes.length
  }

  enter(): void {
    return
  }
  leave(): void {
    return
  }

  lookup4(dst: number): number {
    return this.list4.lookup(BigInt(dst >>> 0))
  }
  lookup6(view: DataView, at: number): number {
    return this.list6.lookup(bits6(view, at))
  }

  insert4(addr: number, len: number, hop: number): void {
    this.list4.insert(BigInt(addr >>> 0), len, hop)
  }
  remove4(addr: number, len: number): boolean {
    return this.list4.remove(BigInt(addr >>> 0), len)
  }
  insert6(addr: Uint8Array, len: number, hop: number): void {
    this.list6.insert(addr6(addr), len, hop)
  }
  remove6(addr: Uint8Array, len: number): boolean {
    return this.list6.remove(addr6(addr), len)
  }
}
