/**
 * When may replaced memory be used again? Once every reader has left the breath it was in.
 *
 * Each reader has an epoch word, odd inside a breath and even outside. What the writer retires waits
 * in two lists: the older one has a copy of all epoch words, taken after its last member became
 * unreachable, and is released when each word was even in that copy or has changed since. The
 * younger one is next. A reader that sleeps outside a breath never holds anything up.
 *
 * Items are numbers: node blocks are positive, hops negative; `release` tells them apart.
 */
import { epochWord } from './layout.js'

export class GraceList {
  /** An update is under way: its replaced nodes are not unreachable yet. */
  isUpdateOpen = false
  private readonly control: Int32Array
  private readonly readers: number
  private readonly release: (item: number) => void
  private readonly seen: Int32Array
  private older: number[] = []
  private younger: number[] = []

  /**
   * @param control  shared words with the epochs
   * @param readers  number of readers
   * @param release  takes an item that nobody can see any more
   */
  constructor(control: Int32Array, readers: number, release: (item: number) => void) {
    this.control = control
    this.readers = readers
    this.release = release
    this.seen = new Int32Array(readers)
  }

  /** Number of items that still wait. */
  get waiting(): number {
    return this.older.length + this.younger.length
  }

  /** Hands over an item that no published root leads to any more. */
  retire(item: number): void {
    this.younger.push(item)
  }

  /** Releases what no reader can see any more. Costs one atomic load per reader while something waits. */
  collect(): void {
    while (this.waiting > 0) {
      if (this.older.length > 0 && !this.hasPassed()) return
      for (const item of this.older) this.release(item)
      this.older = this.younger
      this.younger = []
      for (let reader = 0; reader < this.readers; reader++) {
        this.seen[reader] = Atomics.load(this.control, epochWord(reader))
      }
    }
  }

  /** Collects until nothing waits, sleeping between looks; breaths are short. */
  collectWithin(ms: number): void {
    const until = Date.now() + ms
    this.collect()
    while (this.waiting > 0 && Date.now() < until) {
      for (let reader = 0; reader < this.readers; reader++) {
        const word = epochWord(reader)
        const epoch = Atomics.load(this.control, word)
        // Nobody notifies: the sleep ends by its time, one millisecond.
        if (epoch & 1) Atomics.wait(this.control, word, epoch, 1)
      }
      this.collect()
    }
  }

  private hasPassed(): boolean {
    for (let reader = 0; reader < this.readers; reader++) {
      const seen = this.seen[reader] ?? 0
      if (seen & 1 && Atomics.load(this.control, epochWord(reader)) === seen) return false
    }
    return true
  }
}
