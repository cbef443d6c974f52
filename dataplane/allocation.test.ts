/**
 * The engine's loop allocates nothing per packet: the heap is looked at before and after many
 * breaths, with the collector quiet in between. A control run that keeps one small object a packet
 * shows that the measurement would notice. With offloads, super-packets go in on one side and trains
 * on the other.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { addressBytes6 } from './address.js'
import { Counters, COUNTERS_BYTES } from './counters.js'
import { flannelUdp } from './encap/flannel-udp.js'
import { createEngineArena, Engine } from './engine.js'
import { attachFibReader } from './fib/lpm.js'
import { createFib } from './fib/lpm-writer.js'
import { createHopTable } from './fib/nexthop.js'
import * as flow from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  MTU,
  PORT,
  PUBLIC6_B,
  PUBLIC_B,
  SUBNET6_A,
  SUBNET6_B,
  SUBNET_A,
  SUBNET_B,
} from './host-fixture.js'
import { HostSet } from './host-set.js'
import { endpoint4, endpoint6, type Endpoint } from './io/endpoint.js'
import { native } from './native/native.js'
import { NO_OFFLOAD, type OffloadOptions } from './offload/offload.js'
import { BATCH_COLUMNS, type Batch } from './packet/batch.js'
import type { Entries } from './packet/entries.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Bytes a packet; one empty object a packet would be 16 at least. */
const ALLOWED = 0.5

/** Times as many breaths where nothing is wasted: a function that is compiled anew takes its bytes once. */
const LONG = 5

/** What a device hands over again and again. */
interface Load {
  readonly packet: Uint8Array
  /** Virtio-net header, of a super-packet. */
  readonly vnet?: Uint8Array
  /** Bytes per datagram, of a train. */
  readonly segment?: number
  /** Packets that it stands for. */
  readonly count: number
}

/** A device that copies one packet into every slot and takes whatever it is given; nothing is made. */
class Treadmill {
  private readonly load: Load
  private readonly peer: Endpoint
  /** When set, keeps one object a packet, as a careless change would. */
  private readonly waste: object[] | null
  /** Rows handed over. */
  rows = 0
  /** Packets taken, and super-packets or runs of them. */
  packets = 0
  joined = 0

  constructor(load: Load, peer: Endpoint, waste: object[] | null) {
    this.load = load
    this.peer = peer
    this.waste = waste
  }
  read(batch: Batch): number {
    const { packet, vnet, segment = 0, count } = this.load
    for (let row = 0; row < batch.capacity; row++) {
      batch.arena.bytes.set(packet, batch.at(row))
      if (vnet !== undefined) batch.arena.bytes.set(vnet, batch.at(row) - vnet.length)
      const { family, address } = this.peer
      batch.fill(row, packet.length, false, family, address[0] ?? 0, PORT)
      for (let word = 1; word < 4; word++) {
        batch.columns[(BATCH_COLUMNS.SRC + word) * batch.capacity + row] = address[word] ?? 0
      }
      batch.columns[BATCH_COLUMNS.SEGMENT * batch.capacity + row] = segment
      for (let i = 0; this.waste !== null && i < count; i++) this.waste[i] = { row }
    }
    batch.count = batch.capacity
    this.rows += batch.count
    return batch.count
  }
  receive(batch: Batch): number {
    return this.read(batch)
  }
  write(entries: Entries): number {
    for (let i = 0; i < entries.count; i++) {
      entries.setResult(i, 0)
      this.packets += entries.packets(i)
      if (entries.packets(i) > 1) this.joined++
    }
    return entries.count
  }
  send(entries: Entries): number {
    return this.write(entries)
  }
  sendInFragments(entries: Entries): void {
    this.write(entries)
  }
  pathRoom(): number {
    return 0
  }
}

interface Traffic {
  readonly toPeer: Load
  readonly toUs: Load
  readonly offload: OffloadOptions
  readonly breaths: number
  /** Inside and outside; default IPv4. */
  readonly isV6?: boolean
}

const PEER4 = endpoint4(PUBLIC_B, PORT)
const PEER6 = endpoint6(addressBytes6(PUBLIC6_B), PORT)

/** Runs many breaths. @returns heap growth in bytes per packet, packets read, and the devices */
function measure(traffic: Traffic, waste: object[] | null) {
  const { toPeer, toUs, offload, breaths, isV6 = false } = traffic
  const fib = createFib({ readers: 1 })
  fib.writer.insert4(SUBNET_A, 24, fib.hops.addLocal())
  fib.writer.insert4(SUBNET_B, 24, fib.hops.addPeer(PUBLIC_B, PORT))
  fib.writer.insert6(SUBNET6_A, 64, fib.hops.addLocal())
  fib.writer.insert6(SUBNET6_B, 64, fib.hops.addPeer(addressBytes6(PUBLIC6_B), PORT))
  const hosts = new HostSet(1)
  hosts.add(PUBLIC_B)
  hosts.add(PUBLIC6_B)
  const peer = isV6 ? PEER6 : PEER4
  const inside = new Treadmill(toPeer, peer, waste)
  const outside = new Treadmill(toUs, peer, waste)
  const raw = {
    send: (entries: Entries): void => {
      for (let i = 0; i < entries.count; i++) entries.setResult(i, 0)
    },
  }
  let now = 0
  const engine = new Engine({
    arena: createEngineArena(MTU, flannelUdp, offload),
    inside,
    outside,
    icmp: raw,
    fib: attachFibReader(fib.shared, 0),
    hops: createHopTable(fib.shared),
    encap: flannelUdp,
    hasIpv6: isV6,
    icmp6: { port: raw, source: SUBNET6_A },
    ingressCheck: { mode: 'leases', hosts: attachFibReader(hosts.shared, 0), exceptions: [] },
    offload,
    sums: native,
    counters: new Counters(new SharedArrayBuffer(COUNTERS_BYTES)),
    mtu: MTU,
    localAddress: SUBNET_A,
    now: () => now++,
  })
  const read = (): number => inside.rows * toPeer.count + outside.rows * toUs.count
  for (let i = 0; i < breaths; i++) engine.breath()
  const warm = read()
  collect()
  const before = process.memoryUsage().heapUsed
  // What is wasted must fit the young generation, lest it be collected before it is seen.
  const measured = waste === null ? LONG * breaths : breaths
  for (let i = 0; i < measured; i++) engine.breath()
  const grown = process.memoryUsage().heapUsed - before
  return { perPacket: grown / (read() - warm), read: read(), inside, outside }
}

const single = (from: readonly number[], to: readonly number[], ttl = 63): Load => ({
  packet: flow.createPacket({ from, to, ttl, protocol: flow.UDP, payload: new Uint8Array(32) }),
  count: 1,
})

const plain6: Traffic = {
  toPeer: single(flow.HOST_A6, flow.HOST_B6),
  toUs: single(flow.HOST_B6, flow.HOST_A6),
  offload: NO_OFFLOAD,
  breaths: 4000,
  isV6: true,
}
const expired6: Traffic = {
  ...plain6,
  toPeer: single(flow.HOST_A6, flow.HOST_B6, 1),
  toUs: single(flow.HOST_B6, flow.HOST_A6, 1),
}

const SIZE = 1000
const COUNT = 30
const payload = flow.createPayload(SIZE * COUNT)
const tcp = flow.createPacket({ from: flow.HOST_A, to: flow.HOST_B, payload })
const train = flow.createSegments(
  flow.createPacket({ from: flow.HOST_B, to: flow.HOST_A, payload }),
  SIZE,
)

const plain: Traffic = {
  toPeer: single(flow.HOST_A, flow.HOST_B),
  toUs: single(flow.HOST_B, flow.HOST_A),
  offload: NO_OFFLOAD,
  breaths: 4000,
}
const dropped: Traffic = {
  ...plain,
  toPeer: single(flow.HOST_A, [10, 5, 3, 9]),
  toUs: single(flow.HOST_B, [10, 5, 3, 7]),
}
/** Packets whose TTL runs out, either way. */
const expired: Traffic = {
  ...plain,
  toPeer: single(flow.HOST_A, flow.HOST_B, 1),
  toUs: single(flow.HOST_B, flow.HOST_A, 1),
}
const offloaded: Traffic = {
  toPeer: {
    packet: flow.createUnfinished(tcp),
    vnet: flow.createVnet(tcp, SIZE),
    count: COUNT,
  },
  toUs: {
    packet: new Uint8Array(Buffer.concat(train)),
    segment: train[0]!.length,
    count: COUNT,
  },
  offload: ALL_OFFLOADS,
  breaths: 3200,
}
/** Super-packets without a route, about which ICMP errors quote the first segment. */
const lost: Traffic = {
  ...offloaded,
  toPeer: { ...offloaded.toPeer, packet: readdressed(offloaded.toPeer.packet) },
}

/** The same to a subnet that nobody has; its checksums do not matter. */
function readdressed(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  copy[18] = 3
  return copy
}

t.test('packets that go on', async (t) => {
  const { perPacket, read, inside, outside } = measure(plain, null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
  t.equal(inside.packets + outside.packets, read)
})

t.test('packets that are dropped, and the ICMP errors about them', async (t) => {
  for (const traffic of [dropped, expired]) {
    const { perPacket, inside, outside } = measure(traffic, null)
    t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
    t.equal(inside.packets + outside.packets, 0)
  }
})

t.test('IPv6 packets over IPv6, and the ICMPv6 errors about them', async (t) => {
  const { perPacket, read, inside, outside } = measure(plain6, null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
  t.equal(inside.packets + outside.packets, read)
  const lost = measure(expired6, null)
  t.ok(lost.perPacket < ALLOWED, `${lost.perPacket.toFixed(4)} bytes a packet`)
  t.equal(lost.inside.packets + lost.outside.packets, 0)
})

t.test('one small object a packet is noticed', async (t) => {
  const { perPacket } = measure(plain, [])
  t.ok(perPacket > ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
})

t.test('super-packets that are cut, trains that are joined', async (t) => {
  const { perPacket, read, inside, outside } = measure(offloaded, null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
  t.equal(inside.packets + outside.packets, read)
  t.equal(inside.joined, outside.rows, 'a super-packet of every train')
  t.ok(outside.joined > 0, 'runs')
})

t.test('super-packets that are dropped', async (t) => {
  const { perPacket, outside } = measure(lost, null)
  t.ok(perPacket < ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
  t.equal(outside.packets, 0)
})

t.test('one small object a packet is noticed with offloads, too', async (t) => {
  const { perPacket } = measure(offloaded, [])
  t.ok(perPacket > ALLOWED, `${perPacket.toFixed(4)} bytes a packet`)
})
