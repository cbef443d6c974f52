/**
 * The engine's loop allocates nothing per packet: the heap is looked at before and after many
 * breaths, with the collector quiet in between. A control run that keeps one small object a packet
 * shows that the measurement would notice.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { parseAddress4 } from './address.js'
import { Counters, COUNTERS_BYTES } from './counters.js'
import { flannelUdp } from './encap/flannel-udp.js'
import { BATCH_SIZE, createEngineArena, Engine } from './engine.js'
import { attachFibReader } from './fib/lpm.js'
import { createFib } from './fib/lpm-writer.js'
import { createHopTable } from './fib/nexthop.js'
import type { Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const BREATHS = 4000
const PACKETS = BREATHS * BATCH_SIZE * 2
/** Bytes a packet; one empty object a packet would be 16 at least. */
const ALLOWED = 0.5

const LEN = 60
const MTU = 1472

/** A device that copies one packet into every slot and takes whatever it is given; nothing is made. */
class Treadmill {
  private readonly packet: Uint8Array
  /** When set, keeps one object a packet, as a careless change would. */
  private readonly waste: object[] | null
  written = 0

  constructor(packet: Uint8Array, waste: object[] | null) {
    this.packet = packet
    this.waste = waste
  }
  read(batch: Batch): number {
    for (let row = 0; row < batch.capacity; row++) {
      batch.arena.bytes.set(this.packet, batch.at(row))
      batch.fill(row, LEN, false, 4, 0, 8285)
      if (this.waste !== null) this.waste[row] = { row }
    }
    batch.count = batch.capacity
    return batch.count
  }
  receive(batch: Batch): number {
    return this.read(batch)
  }
  write(entries: Entries): void {
    for (let i = 0; i < entries.count; i++) entries.setResult(i, 0)
    this.written += entries.count
  }
  send(entries: Entries): void {
    this.write(entries)
  }
}

function packet(dst: string, ttl: number): Uint8Array {
  const bytes = new Uint8Array(LEN)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, 0x4500)
  view.setUint16(2, LEN)
  view.setUint8(8, ttl)
  view.setUint8(9, 17)
  view.setInt32(12, parseAddress4('10.5.1.7')!)
  view.setInt32(16, parseAddress4(dst)!)
  let sum = 0
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at)
  view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff)
  return bytes
}

/** Heap growth in bytes per packet over many breaths. */
function measure(toPeer: Uint8Array, toUs: Uint8Array, waste: object[] | null): number {
  const fib = createFib({ readers: 1 })
  fib.writer.insert4(parseAddress4('10.5.1.0')!, 24, fib.hops.addLocal())
  fib.writer.insert4(
    parseAddress4('10.5.2.0')!,
    24,
    fib.hops.addPeer(parseAddress4('172.30.0.12')!, 8285),
  )
  const inside = new Treadmill(toPeer, waste)
  const outside = new Treadmill(toUs, waste)
  const raw = {
    send: (entries: Entries): void => {
      outside.send(entries)
    },
  }
  let now = 0
  const engine = new Engine({
    arena: createEngineArena(MTU, flannelUdp),
    inside,
    outside,
    icmp: raw,
    fib: attachFibReader(fib.shared, 0),
    hops: createHopTable(fib.shared),
    encap: flannelUdp,
    counters: new Counters(new SharedArrayBuffer(COUNTERS_BYTES)),
    mtu: MTU,
    localAddress: parseAddress4('10.5.1.0')!,
    now: () => now++,
  })
  for (let i = 0; i < BREATHS; i++) engine.breath()
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < BREATHS; i++) engine.breath()
  return (process.memoryUsage().heapUsed - before) / PACKETS
}

t.test('packets that go on', async (t) => {
  const perPacket = measure(packet('10.5.2.9', 63), packet('10.5.1.7', 63), null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
})

t.test('packets that are dropped, and the ICMP errors about them', async (t) => {
  const perPacket = measure(packet('10.5.3.9', 63), packet('10.5.3.7', 63), null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
})

t.test('one small object a packet is noticed', async (t) => {
  const perPacket = measure(packet('10.5.2.9', 63), packet('10.5.1.7', 63), [])
  t.ok(perPacket > ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
})
