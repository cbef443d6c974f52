/**
 * Guards around the packets of an engine: before each breath the slots and the bytes behind the arena
 * are filled with one byte, and after it only the packets that were read, with room for their headers,
 * may have changed. Test support, used by no other code.
 *
 * Two hosts that differ in the filling alone must do the same: what they read outside packets would
 * show.
 */
import type { Batch } from './packet/batch.js'
import { GUARD_BYTES, type TestHost } from './host-fixture.js'

/** Bytes before a packet that encapsulation or a virtio-net header may take. Source: packet/layout.ts */
const HEADERS = 22

export class Guard {
  private readonly host: TestHost
  private readonly filling: number
  private readonly image: Uint8Array
  /** Byte ranges of the packets of this breath: begin and end. */
  private readonly packets: [number, number][] = []

  /** @param filling  0..255 */
  constructor(host: TestHost, filling: number) {
    this.host = host
    this.filling = filling
    this.image = new Uint8Array(host.engine.slotBytes)
    const { inside, outside } = host
    const read = inside.read.bind(inside)
    const receive = outside.receive.bind(outside)
    inside.read = (batch) => this.note(batch, read(batch))
    outside.receive = (batch) => this.note(batch, receive(batch))
    this.slots().fill(filling)
    this.behind().fill(filling)
  }

  /** Breathes until nothing waits. @throws an error when bytes changed that no packet has */
  breathe(): void {
    const slots = this.slots()
    for (let moved = 1; moved > 0;) {
      slots.fill(this.filling)
      this.packets.length = 0
      moved = this.host.engine.breath()
      this.image.fill(this.filling)
      for (const [at, end] of this.packets) this.image.set(slots.subarray(at, end), at)
      if (Buffer.compare(slots, this.image) !== 0) {
        const at = slots.findIndex((byte, n) => byte !== this.image[n])
        throw new Error(`byte ${at} changed, packets: ${JSON.stringify(this.packets)}`)
      }
      if (this.behind().some((byte) => byte !== this.filling)) {
        throw new Error('bytes behind the arena changed')
      }
    }
  }

  private note(batch: Batch, count: number): number {
    for (let row = 0; row < count; row++) {
      const at = batch.at(row)
      this.packets.push([at - HEADERS, at + batch.len(row)])
    }
    return count
  }

  private slots(): Uint8Array {
    return this.host.arena.bytes.subarray(0, this.host.engine.slotBytes)
  }
  private behind(): Uint8Array {
    return this.host.arena.bytes.subarray(-GUARD_BYTES)
  }
}
