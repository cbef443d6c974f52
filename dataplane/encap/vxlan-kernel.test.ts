/**
 * The kernel's own VXLAN device as the judge, programmed as flannel programs it, in a network
 * namespace of this test's own (the file starts itself again inside). The underlay is a TUN, so that
 * what the device sends can be read there and what is written there arrives at the device:
 *
 *     inside TUN ── forwarding ── flannel.1 ── outside TUN
 *
 *  - The kernel sends for an inner packet what our host sends for it, byte for byte behind the outer
 *    UDP header.
 *  - The kernel delivers what our host sends.
 *  - Where the two judge a header differently (reserved bits), the difference is as documented.
 */
import { ip } from '../netns-fixture.js'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import * as flow from '../flow-fixture.js'
import { ACK, PSH, UDP } from '../flow-fixture.js'
import { createTestHost, MAC_A, MAC_B, PUBLIC_B } from '../host-fixture.js'
import { endpoint4 } from '../io/endpoint.js'
import { openTun, TunDevice } from '../io/tun-device.js'
import { formatMac } from '../mac.js'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import * as ipv4 from '../wire/ipv4.js'

const set = (path: string, value: string): void => {
  writeFileSync(`/proc/sys/net/${path}`, value)
}

const PORT = 8472
const OUTER_HEADERS = 28
const ROWS = 64
const SLOT = 2048
const arena = createArena(new ArrayBuffer((ROWS + 1) * SLOT))
const batch = new Batch(arena, 0, ROWS, SLOT)
const inside = new TunDevice(openTun({ name: 'hdlin' }), arena)
const outside = new TunDevice(openTun({ name: 'hdlout' }), arena)

set('ipv4/ip_forward', '1')
// The kernel is host A: 10.5.1.0/24, 172.30.0.11, and B is its peer.
ip('link add flannel.1 type vxlan id 1 dev hdlout local 172.30.0.11 dstport 8472 nolearning')
ip(`link set flannel.1 address ${formatMac(MAC_A)} mtu 1450`)
for (const name of ['hdlin', 'hdlout', 'flannel.1']) {
  set(`ipv6/conf/${name}/addr_gen_mode`, '1')
  set(`ipv4/conf/${name}/rp_filter`, '0')
  ip(`link set ${name} up`)
}
set('ipv4/conf/all/rp_filter', '0')
ip('address add 172.30.0.11/24 dev hdlout')
ip('address add 10.5.1.0/32 dev flannel.1')
ip('route add 10.5.1.0/24 dev hdlin')
ip(`neigh add 10.5.2.0 lladdr ${formatMac(MAC_B)} dev flannel.1 nud permanent`)
ip(`fdb add ${formatMac(MAC_B)} dev flannel.1 dst 172.30.0.12 self permanent`, 'bridge')
ip('route add 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink')

/** Packets that a device gets until nothing comes any more. */
function drain(device: TunDevice): Uint8Array[] {
  const packets: Uint8Array[] = []
  const events = new Int32Array(1)
  while (native.wait(Int32Array.of(device.fd), events, 0, packets.length === 0 ? 1000 : 50) !== 0) {
    batch.rewind()
    device.read(batch)
    for (let row = 0; row < batch.count; row++) {
      packets.push(arena.bytes.slice(batch.at(row), batch.at(row) + batch.len(row)))
    }
  }
  return packets
}

function write(device: TunDevice, packet: Uint8Array): void {
  const entries = new Entries(1)
  const at = ROWS * SLOT
  arena.bytes.set(packet, at)
  entries.add(at, packet.length, -1, packet.length)
  device.write(entries)
  if (entries.result(0) !== 0) throw new Error(`errno ${entries.result(0)}`)
}

const FROM_A = { from: flow.HOST_A, to: flow.HOST_B }
const FROM_B = { from: flow.HOST_B, to: flow.HOST_A }
const specs: readonly flow.PacketSpec[] = [
  { protocol: UDP, payload: [] },
  { protocol: UDP, payload: [1] },
  { protocol: UDP, payload: flow.createPayload(1422) },
  { flags: ACK | PSH, payload: flow.createPayload(1410), fragment: 0, tos: 0 },
  { flags: ACK, payload: [] },
  { options: [148, 4, 0, 0], payload: flow.createPayload(99), ttl: 3 },
  { fragment: 0x2000, payload: flow.createPayload(480) },
]
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const MTU = 1450

/** A datagram of host B's reaches the kernel's device. */
function arrive(payload: Uint8Array): void {
  const [from, to] = [
    [172, 30, 0, 12],
    [172, 30, 0, 11],
  ]
  const ports = [50_000, PORT] as const
  write(outside, flow.createPacket({ from, to, protocol: UDP, ports, payload }))
}

t.test('the kernel and we send the same frames', async (t) => {
  for (const spec of specs) {
    const packet = { ...FROM_A, ttl: 64, ...spec }
    write(inside, flow.createPacket(packet))
    const [outer, ...more] = drain(outside)
    t.same(more, [])
    const host = createTestHost({ encap: 'vxlan', mtu: MTU })
    // The kernel forwards, and then hands the packet to us.
    host.inside.inject(flow.createPacket({ ...packet, ttl: packet.ttl - 1 }))
    host.engine.breath()
    const [sent] = host.outside.drain()
    t.equal(
      hex(outer!.subarray(OUTER_HEADERS)),
      hex(sent!.bytes),
      JSON.stringify(spec).slice(0, 60),
    )
    const view = new DataView(outer!.buffer)
    t.equal(ipv4.protocol(view, 0), UDP)
    t.equal(view.getUint16(22), PORT, 'destination port')
  }
})

t.test('the kernel delivers what we send', async (t) => {
  for (const spec of specs) {
    const packet = { ...FROM_B, ttl: 64, ...spec }
    const host = createTestHost({ encap: 'vxlan', mtu: MTU, isB: true })
    host.inside.inject(flow.createPacket(packet))
    host.engine.breath()
    const [sent] = host.outside.drain()
    arrive(sent!.bytes)
    const delivered = drain(inside).map(hex)
    t.same(delivered, [hex(flow.createPacket({ ...packet, ttl: packet.ttl - 1 }))])
  }
})

type Header = readonly [what: string, changes: Readonly<Record<number, number>>]
/** Taken by both, and by neither. */
const alike: readonly (readonly [...Header, isTaken: boolean])[] = [
  ['as sent', {}, true],
  ['no flag', { 0: 0x00 }, false],
  ['every flag but I', { 0: 0xf7 }, false],
]
const reserved: readonly Header[] = [
  ['G of the group policy extension', { 0: 0x88 }],
  ['P of the generic protocol extension', { 0: 0x0c }],
  ['every flag', { 0: 0xff }],
  ...[0x01, 0x02, 0x10, 0x20, 0x40].map((flag): Header => [`flag ${flag}`, { 0: 0x08 | flag }]),
  ...[1, 2, 3, 7].map((at): Header => [`reserved byte ${at}`, { [at]: 1 }]),
]

/** Linux drops a header with a bit that its device was not set up for (vxlan_rcv); RFC 7348 §5 has it ignored. */
t.test('reserved bits: the kernel drops the frame, we ignore them', async (t) => {
  const host = (isB: boolean) => createTestHost({ encap: 'vxlan', mtu: MTU, isB })
  const frame = (payload: readonly number[]): [packet: string, datagram: Uint8Array] => {
    const packet = { ...FROM_B, protocol: UDP, ttl: 64, payload }
    const sender = host(true)
    sender.inside.inject(flow.createPacket(packet))
    sender.engine.breath()
    return [
      hex(flow.createPacket({ ...packet, ttl: packet.ttl - 1 })),
      sender.outside.drain()[0]!.bytes,
    ]
  }
  const [packet, datagram] = frame([1, 2, 3])
  // Behind each one: what is not there before it was dropped.
  const [marker, markerDatagram] = frame([4, 5, 6])
  const rows = [
    ...alike.map(([what, changes, isTaken]) => ({
      what,
      changes,
      byKernel: isTaken,
      byUs: isTaken,
    })),
    ...reserved.map(([what, changes]) => ({ what, changes, byKernel: false, byUs: true })),
  ]
  for (const { what, changes, byKernel, byUs } of rows) {
    const changed = datagram.slice()
    for (const [at, value] of Object.entries(changes)) changed[Number(at)] = value
    arrive(changed)
    arrive(markerDatagram)
    t.same(drain(inside).map(hex), byKernel ? [packet, marker] : [marker], `the kernel: ${what}`)
    const receiver = host(false)
    receiver.outside.inject(changed, endpoint4(PUBLIC_B, PORT))
    receiver.engine.breath()
    t.equal(receiver.inside.drain().length, byUs ? 1 : 0, `we: ${what}`)
  }
})
