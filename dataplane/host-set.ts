/**
 * The outer addresses that datagrams may come from, over shared memory: a table of host routes, since
 * there is one already that many threads can read while one writes.
 */
import type { FibShared } from './fib/layout.js'
import { createFib, type Fib } from './fib/lpm-writer.js'

/** Address space by default: for some ten thousand hosts; only what is used is memory. */
const RESERVE_BYTES = 64 << 20

export class HostSet {
  private readonly fib: Fib
  private readonly present: number
  /** How often each address, as int32, was added and not removed. */
  private readonly uses = new Map<number, number>()

  /**
   * @param readers       threads that ask
   * @param reserveBytes  address space for the table
   */
  constructor(readers: number, reserveBytes = RESERVE_BYTES) {
    this.fib = createFib({ readers, reserveBytes, maxHops: 2 })
    this.present = this.fib.hops.addLocal()
  }

  /** For readers to attach to: a lookup that finds anything means that the address is in the set. */
  get shared(): FibShared {
    return this.fib.shared
  }

  /** @param address  IPv4 address bits; what is added twice is removed twice */
  add(address: number): void {
    const bits = address | 0
    const uses = this.uses.get(bits) ?? 0
    this.uses.set(bits, uses + 1)
    if (uses === 0) this.fib.writer.insert4(bits, 32, this.present)
  }

  /** Takes back one `add`. */
  remove(address: number): void {
    const bits = address | 0
    const uses = this.uses.get(bits) ?? 0
    if (uses > 1) {
      this.uses.set(bits, uses - 1)
      return
    }
    this.uses.delete(bits)
    this.fib.writer.remove4(bits, 32)
  }
}
