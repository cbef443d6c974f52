/**
 * The kernel as the judge of both halves of the offloads. Super-packets are written to one TUN and
 * forwarded to another, in a network namespace of this test's own (the file starts itself again
 * inside): what a device without offloads gets is what Linux cuts, in software, from them.
 *
 *  - Coalescing: packets → our super-packets → Linux cuts → the same packets.
 *  - Segmentation: a super-packet that Linux hands to a device with offloads → our segments = those
 *    that Linux makes of the same super-packet for a device without.
 */
import { ip } from './netns-fixture.js'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import * as flow from './flow-fixture.js'
import { ACK, ECE, FIN, PSH, UDP, URG } from './flow-fixture.js'
import { ALL_OFFLOADS, Offloads } from './io/offloads.js'
import { openTun, TunDevice } from './io/tun-device.js'
import { native } from './native/native.js'
import { createCoalescer, PIECES_PER_ENTRY, vnetBytes } from './offload/coalesce.js'
import { createSegmenter, HEADER_SLOT } from './offload/segment.js'
import { createArena } from './packet/arena.js'
import { Batch } from './packet/batch.js'
import { Entries } from './packet/entries.js'
import { VNET_HDR_LEN } from './packet/layout.js'
import * as vnethdr from './wire/vnethdr.js'

const ROWS = 64
const SLOT = 65600
const ENTRIES = 256
const VNET_AT = ROWS * SLOT
const HEADERS_AT = VNET_AT + vnetBytes(ENTRIES)
const FREE_AT = HEADERS_AT + 1024 * HEADER_SLOT
const arena = createArena(new ArrayBuffer(FREE_AT + (4 << 20)))
const batch = new Batch(arena, 0, ROWS, SLOT)

/** Where super-packets go in: a TUN with all offloads. */
const entrance = new Offloads(ALL_OFFLOADS)
const into = new TunDevice(entrance.openTun('hdlin'), arena)
/** Where Linux forwards 10.5.1.0/24 to: a TUN without offloads, for which it cuts. */
const cutter = new TunDevice(openTun({ name: 'hdlcut' }), arena)
/** Where it forwards 10.5.3.0/24 to: a TUN with offloads, which gets super-packets whole. */
const whole = new TunDevice(new Offloads(ALL_OFFLOADS).openTun('hdlwhole'), arena)

const set = (path: string, value: string): void => {
  writeFileSync(`/proc/sys/net/${path}`, value)
}
set('ipv4/ip_forward', '1')
set('ipv6/conf/all/forwarding', '1')
for (const [n, name] of ['hdlin', 'hdlcut', 'hdlwhole'].entries()) {
  // No router solicitations and address detection of the kernel's own among the packets.
  set(`ipv6/conf/${name}/addr_gen_mode`, '1')
  set(`ipv6/conf/${name}/accept_dad`, '0')
  set(`ipv4/conf/${name}/rp_filter`, '0')
  ip(`address add 10.77.${n}.1/24 dev ${name}`)
  ip(`-6 address add fd77:${n}::1/64 dev ${name} nodad`)
  ip(`link set ${name} mtu 16000 txqueuelen 5000 up`)
}
ip('route add 10.5.1.0/24 dev hdlcut')
ip('-6 route add fd05:1::/64 dev hdlcut')
ip('route add 10.5.3.0/24 dev hdlwhole')
ip('-6 route add fd05:3::/64 dev hdlwhole')

const FROM6 = [0xfd, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]
const CUT6 = [0xfd, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]
const WHOLE6 = [0xfd, 5, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]
const CUT4 = [10, 5, 1, 7]
const WHOLE4 = [10, 5, 3, 7]
const FROM4 = [10, 5, 2, 9]

/** Packets that a device gets until nothing comes any more. */
function drain(device: TunDevice): { vnet: Uint8Array; packet: Uint8Array }[] {
  const packets: { vnet: Uint8Array; packet: Uint8Array }[] = []
  const events = new Int32Array(1)
  for (;;) {
    batch.rewind()
    if (native.wait(Int32Array.of(device.fd), events, 0, packets.length === 0 ? 1000 : 30) === 0)
      break
    device.read(batch)
    for (let row = 0; row < batch.count; row++) {
      const at = batch.at(row)
      const packet = arena.bytes.slice(at, at + batch.len(row))
      // The kernel says things of its own, IPv6 above all.
      const isV6 = packet[0]! >> 4 === 6
      const from = isV6 ? packet.subarray(8, 24) : packet.subarray(12, 16)
      if (from.join() !== (isV6 ? FROM6 : FROM4).join()) continue
      packets.push({ vnet: arena.bytes.slice(at - VNET_HDR_LEN, at), packet })
    }
  }
  return packets
}

/** UDP super-packets need Linux 6.2. */
const skipped = ({ protocol }: flow.PacketSpec): { skip: string | false } => ({
  skip:
    protocol === UDP && !entrance.options.canJoinUdp && 'this kernel takes no UDP super-packets',
})

/** Headers in hex and a digest of the whole, so that a difference can be read. */
const brief = (packets: readonly Uint8Array[]): string[] =>
  packets.map((packet) => {
    const digest = createHash('sha256').update(flow.describeBytes(packet)).digest('hex')
    return `${Buffer.from(packet.subarray(0, 60)).toString('hex')} ${packet.length} ${digest}`
  })

/** Consecutive packets of one flow. */
function series(spec: flow.PacketSpec, size: number, lens: readonly number[]): Uint8Array[] {
  let seq = 0xffff_ff00
  return lens.map((len, n) => {
    const payload = flow.createPayload(len, n)
    const flags =
      n === lens.length - 1 ? (spec.flags ?? ACK | PSH) : ACK | ((spec.flags ?? 0) & ECE)
    const packet = flow.createPacket({ ...spec, seq, id: (0xfffe + n) & 0xffff, flags, payload })
    seq = (seq + size) >>> 0
    return packet
  })
}
const lens = (count: number, size: number, last: number): number[] => [
  ...new Array<number>(count - 1).fill(size),
  last,
]

const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]
const V4 = { from: FROM4, to: CUT4, ttl: 64 }
const V6 = { from: FROM6, to: CUT6, ttl: 64, fragment: 0 }

const flows: readonly { name: string; spec: flow.PacketSpec; size: number; lens: number[] }[] = [
  { name: 'TCP', spec: V4, size: 1432, lens: lens(40, 1432, 1432) },
  { name: 'TCP, a tiny last one', spec: V4, size: 1432, lens: lens(40, 1432, 1) },
  { name: 'TCP, odd sizes', spec: V4, size: 777, lens: lens(9, 777, 333) },
  { name: 'TCP, two packets', spec: V4, size: 100, lens: [100, 100] },
  { name: 'TCP, FIN', spec: { ...V4, flags: ACK | FIN | PSH }, size: 500, lens: lens(5, 500, 9) },
  { name: 'TCP, ECE', spec: { ...V4, flags: ACK | ECE, tos: 2 }, size: 500, lens: lens(5, 500, 9) },
  { name: 'TCP, no DF', spec: { ...V4, fragment: 0 }, size: 500, lens: lens(5, 500, 500) },
  {
    name: 'TCP, options',
    spec: { ...V4, tcpOptions: TIMESTAMPS },
    size: 1420,
    lens: lens(46, 1420, 7),
  },
  { name: 'TCP, as many as may be', spec: V4, size: 20, lens: lens(64, 20, 20) },
  { name: 'TCP, as long as may be', spec: V4, size: 13099, lens: lens(5, 13099, 13099) },
  { name: 'TCP over IPv6', spec: V6, size: 1412, lens: lens(40, 1412, 3) },
  { name: 'TCP over IPv6, class', spec: { ...V6, tos: 0xb8 }, size: 1412, lens: lens(4, 1412, 3) },
  { name: 'UDP', spec: { ...V4, protocol: UDP }, size: 1444, lens: lens(40, 1444, 1444) },
  {
    name: 'UDP, a tiny last one',
    spec: { ...V4, protocol: UDP },
    size: 999,
    lens: lens(64, 999, 1),
  },
  {
    name: 'UDP, no DF',
    spec: { ...V4, protocol: UDP, fragment: 0 },
    size: 99,
    lens: lens(9, 99, 98),
  },
  { name: 'UDP over IPv6', spec: { ...V6, protocol: UDP }, size: 1424, lens: lens(40, 1424, 3) },
]

for (const { name, spec, size, lens } of flows) {
  t.test(`Linux cuts what was joined: ${name}`, skipped(spec), async (t) => {
    const packets = series(spec, size, lens)
    const out = new Entries(ENTRIES, PIECES_PER_ENTRY)
    const coalescer = createCoalescer(arena, out, VNET_AT, true, true, true)
    let at = FREE_AT
    for (const packet of packets) {
      arena.bytes.set(packet, at)
      coalescer.add(at, packet.length, native.checksum(arena.bytes, at, packet.length))
      at += (packet.length + 63) & ~63
    }
    coalescer.flush()
    t.equal(out.count, 1, 'one super-packet')
    into.write(out)
    t.equal(out.result(0), 0)
    const got = drain(cutter).map(({ packet }) => packet)
    const want = packets.map((_, n) => series({ ...spec, ttl: 63 }, size, lens)[n]!)
    t.strictSame(brief(got), brief(want))
  })
}

const supers: readonly { name: string; spec: flow.PacketSpec; size: number; len: number }[] = [
  { name: 'TCP', spec: {}, size: 1432, len: 60_000 },
  { name: 'TCP, exact multiple', spec: {}, size: 1000, len: 10_000 },
  { name: 'TCP, FIN and PSH', spec: { flags: ACK | FIN | PSH }, size: 1000, len: 3001 },
  { name: 'TCP, URG', spec: { flags: ACK | URG, urgent: 5 }, size: 1000, len: 3001 },
  { name: 'TCP, ECE', spec: { flags: ACK | ECE }, size: 1000, len: 3001 },
  { name: 'TCP, options', spec: { tcpOptions: TIMESTAMPS }, size: 1420, len: 60_001 },
  { name: 'TCP, sequence wraps', spec: { seq: 0xffff_ff00 }, size: 1420, len: 9_001 },
  { name: 'TCP, id wraps, no DF', spec: { id: 0xfffe, fragment: 0 }, size: 1420, len: 9_001 },
  { name: 'TCP, tiny', spec: {}, size: 8, len: 999 },
  { name: 'TCP, IPv4 options', spec: { options: [1, 1, 1, 0] }, size: 1000, len: 9_000 },
  { name: 'UDP', spec: { protocol: UDP }, size: 1444, len: 50_000 },
  { name: 'UDP, odd', spec: { protocol: UDP, fragment: 0 }, size: 333, len: 3_001 },
]

for (const isV6 of [false, true]) {
  for (const { name, spec, size, len } of supers) {
    if (isV6 && spec.options !== undefined) continue
    const title = `our segments are those of Linux: ${name}${isV6 ? ' over IPv6' : ''}`
    t.test(title, skipped(spec), async (t) => {
      const ends = isV6 ? { from: FROM6, to: CUT6, fragment: 0 } : { from: FROM4, to: CUT4 }
      const payload = flow.createPayload(len)
      const make = (to: readonly number[]): Uint8Array =>
        flow.createUnfinished(
          flow.createPacket({
            ...ends,
            ...spec,
            ...(isV6 ? { fragment: 0 } : {}),
            to,
            ttl: 64,
            payload,
          }),
        )
      const send = (packet: Uint8Array): void => {
        const out = new Entries(1, 2)
        arena.bytes.set(flow.createVnet(packet, size), FREE_AT)
        arena.bytes.set(packet, FREE_AT + 64)
        const i = out.begin(-1)
        out.addPiece(i, FREE_AT, VNET_HDR_LEN)
        out.addPiece(i, FREE_AT + 64, packet.length)
        into.write(out)
        t.equal(out.result(i), 0)
      }
      send(make(isV6 ? CUT6 : CUT4))
      const byLinux = drain(cutter).map(({ packet }) => packet)
      send(make(isV6 ? WHOLE6 : WHOLE4))
      const ours = drain(whole).flatMap(({ vnet, packet }) => cut(vnet, packet))
      const isMultiple = byLinux.length > 1
      t.ok(isMultiple, `${byLinux.length} segments`)
      // The destinations differ in one byte of the address, and so do the checksums by it.
      t.strictSame(brief(ours.map((packet) => readdressed(packet, isV6))), brief(byLinux))
    })
  }
}

/** Cuts what Linux handed over whole. */
function cut(vnet: Uint8Array, packet: Uint8Array): Uint8Array[] {
  const view = new DataView(vnet.buffer, vnet.byteOffset)
  const type = vnethdr.gsoType(view, 0)
  if (type === vnethdr.GSO_NONE) throw new Error('Linux cut it by itself')
  const segmenter = createSegmenter(arena, HEADERS_AT, 1024, native)
  arena.bytes.set(packet, FREE_AT)
  const count = segmenter.begin(
    FREE_AT,
    packet.length,
    vnethdr.gsoSize(view, 0),
    type !== vnethdr.GSO_UDP_L4,
  )
  return Array.from({ length: count }, (_, k) => {
    const at = segmenter.header(k)
    const slice = segmenter.sliceAt(k)
    return new Uint8Array(
      Buffer.concat([
        arena.bytes.slice(at, at + segmenter.headerBytes()),
        arena.bytes.slice(slice, slice + segmenter.sliceLen(k)),
      ]),
    )
  })
}

/** The same packet to the other device's network: one byte of the address and the checksums with it. */
function readdressed(packet: Uint8Array, isV6: boolean): Uint8Array {
  const copy = packet.slice()
  const l4 = isV6 ? 40 : (copy[0]! & 15) * 4
  const field = l4 + ((isV6 ? copy[6] : copy[9]) === UDP ? 6 : 16)
  // 10.5.3 → 10.5.1 and fd05:3 → fd05:1: the word is less by 0x200 or by 2.
  copy[isV6 ? 27 : 18] = 1
  const less = isV6 ? 2 : 0x200
  const patch = (at: number): void => {
    const sum = copy[at]! * 256 + copy[at + 1]! + less
    copy.set([(sum % 65535) >> 8, (sum % 65535) & 0xff], at)
  }
  if (!isV6) patch(10)
  patch(field)
  return copy
}

t.teardown(() => {
  for (const device of [into, cutter, whole]) device.close()
})
