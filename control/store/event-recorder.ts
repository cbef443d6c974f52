/**
 * A watch being followed in a test: what came, in order, and waiting for what should come.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Lease } from '../lease.js'
import { formatSubnetKey } from '../subnet-key.js'
import type { StoreEvent, SubnetStore } from './store.js'

export class EventRecorder {
  readonly events: StoreEvent[] = []
  /** Settles when the watch has ended; rejects if it threw. */
  readonly ended: Promise<void>
  /** What a reader of the events believes to be there, by key. */
  readonly leases = new Map<string, Lease>()
  readonly #stop = new AbortController()

  constructor(store: Pick<SubnetStore, 'watch'>) {
    this.ended = this.#follow(store.watch(this.#stop.signal))
    this.ended.catch(() => undefined)
  }

  /** Events as short lines: `snapshot 10.5.1.0-24 10.5.2.0-24`, `put 10.5.1.0-24`, `delete …`. */
  get lines(): string[] {
    return this.events.map((event) => {
      const names =
        event.type === 'snapshot'
          ? event.leases.map((lease) => formatSubnetKey(lease.subnet))
          : [formatSubnetKey(event.type === 'put' ? event.lease.subnet : event.subnet)]
      return [event.type, ...names].join(' ')
    })
  }

  /** Waits until a condition holds. @throws after the time in ms, with what came instead */
  async until(condition: () => boolean, what: string, ms = 5000): Promise<void> {
    for (const end = Date.now() + ms; !condition();) {
      if (Date.now() > end) throw new Error(`${what} did not come; came: ${this.lines.join(', ')}`)
      await pause(5)
    }
  }

  /** Waits until a line has come, counted from an index in the events. */
  line(text: string, ms = 5000, from = 0): Promise<void> {
    return this.until(() => this.lines.slice(from).includes(text), text, ms)
  }

  /** Waits for the first event. */
  ready(): Promise<void> {
    return this.until(() => this.events.length > 0, 'a snapshot')
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.ended
  }

  async #follow(events: AsyncIterable<StoreEvent>): Promise<void> {
    for await (const event of events) {
      if (event.type === 'snapshot') {
        this.leases.clear()
        for (const lease of event.leases) this.leases.set(formatSubnetKey(lease.subnet), lease)
      } else if (event.type === 'put') {
        this.leases.set(formatSubnetKey(event.lease.subnet), event.lease)
      } else {
        this.leases.delete(formatSubnetKey(event.subnet))
      }
      this.events.push(event)
    }
  }
}
