/**
 * The outer addresses that datagrams may come from, over shared memory: a table of host routes, since
 * there is one already that many threads can read while one writes.
 */
import { addressBytes6 } from './address.js'
import type { FibShared } from './fib/layout.js'
import { createFib, type Fib } from './fib/lpm-writer.js'

/** Address space by default: for some ten thousand hosts; only what is used is memory. */
const RESERVE_BYTES = 64 << 20

export class HostSet {
  private readonly fib: Fib
  private readonly present: number
  /** How often each address was added and not removed. */
  private readonly uses = new Map<number | bigint, number>()

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

  /** @param address  IPv4 address bits, or the 128 bits of IPv6; what is added twice is removed twice */
  add(address: number | bigint): void {
    const key = keyOf(address)
    const uses = this.uses.get(key) ?? 0
    this.uses.set(key, uses + 1)
    if (uses > 0) return
    if (typeof address === 'number') this.fib.writer.insert4(address | 0, 32, this.present)
    else this.fib.writer.insert6(addressBytes6(address), 128, this.present)
  }

  /** Takes back one `add`. */
  remove(address: number | bigint): void {
    const key = keyOf(address)
    const uses = this.uses.get(key) ?? 0
    if (uses > 1) {
      this.uses.set(key, uses - 1)
      return
    }
    this.uses.delete(key)
    if (typeof address === 'number') this.fib.writer.remove4(address | 0, 32)
    else this.fib.writer.remove6(addressBytes6(address), 128)
  }
}

function keyOf(address: number | bigint): number | bigint {
  return typeof address === 'number' ? address | 0 : address
}
