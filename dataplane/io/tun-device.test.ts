/**
 * A real TUN in a network namespace of this test's own, which ends with it: the file starts itself
 * again inside. Packets are sent into the TUN by the kernel (a socket whose route leads there) and
 * written back, so both directions are judged by the kernel and not by us.
 */
import { ip } from '../netns-fixture.js'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { constants as os } from 'node:os'
import t from 'tap'
import { native } from '../native/native.js'
import type { Arena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { ENTRY_FIELDS } from '../packet/entries.js'
import { HEADROOM, VNET_HDR_LEN } from '../packet/layout.js'
import { createBench, openPort, pattern, results, rows } from './device-fixture.js'
import { encodeName, endpoint4 } from './endpoint.js'
import { TunDevice, openTun } from './tun-device.js'
import type { TunOptions } from './tun-device.js'

/** 10.99.0.1, ours, and 10.99.0.2, behind the TUN. */
const NEAR = 0x0a630001
const FAR = 0x0a630002
const IP_LEN = 20
const UDP_LEN = 8
const MTU = 1472

/** Opens a TUN and brings it up with 10.99.0.1/24 and without IPv6, whose packets would disturb. */
function up(arena: Arena, options: Partial<TunOptions> = {}): TunDevice {
  const device = new TunDevice(openTun({ name: 'hdl%d', ...options }), arena)
  writeFileSync(`/proc/sys/net/ipv6/conf/${device.name}/disable_ipv6`, '1')
  ip(`address add 10.99.0.1/24 dev ${device.name}`)
  ip(`link set ${device.name} mtu ${String(MTU)} txqueuelen 1000 up`)
  return device
}

/** Datagram i: its number, then bytes that follow from it. */
function datagram(i: number): Buffer {
  const bytes = pattern(i, 4 + ((i * 37) % (MTU - IP_LEN - UDP_LEN - 4)))
  bytes.writeUInt32BE(i, 0)
  return bytes
}

/** Swaps source and destination, address and port, of a UDP packet; all sums stay right. */
function turnRound(view: DataView, at: number): void {
  const [src, dst] = [view.getInt32(at + 12), view.getInt32(at + 16)]
  view.setInt32(at + 12, dst)
  view.setInt32(at + 16, src)
  const ports = view.getUint32(at + IP_LEN)
  view.setUint32(at + IP_LEN, ((ports << 16) | (ports >>> 16)) >>> 0)
}

/** The next packets from the TUN; the kernel hands them over within a moment. */
function read(device: TunDevice, batch: Batch): number {
  batch.rewind()
  native.wait(Int32Array.of(device.fd), new Int32Array(1), 0, 1000)
  return device.read(batch)
}

t.test('10 000 packets out of the TUN and back into it, with their bytes', (t) => {
  const { arena, batch, entries, names, free } = createBench(64)
  const device = up(arena)
  const port = openPort(arena, { address: '10.99.0.1' })
  const echoes = new Batch(arena, free + 300_000, 64, 2048)
  encodeName(endpoint4(FAR, 4242), names, 0)
  let sent = 0
  let wrong = 0
  let back = 0
  while (back < 10_000 && wrong === 0) {
    entries.clear()
    const burst = Math.min(50 + (sent % 29), 10_000 - sent)
    for (let i = 0, at = free; i < burst; i++, sent++) {
      const bytes = datagram(sent)
      arena.bytes.set(bytes, at)
      entries.add(at, bytes.length, 0, bytes.length)
      at += bytes.length
    }
    port.send(entries, names)
    for (let seen = 0; seen < burst;) {
      const got = read(device, batch)
      if (got === 0) wrong++
      entries.clear()
      for (let row = 0; row < got; row++, seen++) {
        const at = batch.at(row)
        const bytes = datagram(back + seen)
        const isRight =
          at % 64 === 0 &&
          batch.len(row) === IP_LEN + UDP_LEN + bytes.length &&
          batch.family(row) === 0 &&
          arena.view.getUint8(at) === 0x45 &&
          arena.view.getUint16(at + 2) === batch.len(row) &&
          native.checksum(arena.bytes, at, IP_LEN) === 0xffff &&
          arena.view.getInt32(at + 12) === NEAR &&
          arena.view.getInt32(at + 16) === FAR &&
          arena.view.getUint16(at + IP_LEN) === port.port &&
          bytes.equals(arena.bytes.subarray(at + IP_LEN + UDP_LEN, at + batch.len(row)))
        if (!isRight) wrong++
        turnRound(arena.view, at)
        entries.add(at, batch.len(row), -1, bytes.length)
      }
      device.write(entries)
      for (let i = 0; i < entries.count; i++) if (entries.result(i) !== 0) wrong++
    }
    for (let got = 1; got > 0;) {
      echoes.rewind()
      got = port.receive(echoes)
      for (let row = 0; row < got; row++, back++) {
        const at = echoes.at(row)
        const isRight =
          echoes.source(row, 0) === FAR &&
          echoes.port(row) === 4242 &&
          datagram(back).equals(arena.bytes.subarray(at, at + echoes.len(row)))
        if (!isRight) wrong++
      }
    }
    if (back !== sent) wrong++
  }
  t.equal(wrong, 0)
  t.equal(back, 10_000)
  port.close()
  device.close()
  t.throws(() => device.read(batch), { code: 'EBADF' })
  t.notOk(existsSync(`/proc/sys/net/ipv4/conf/${device.name}`), 'the device is gone')
  t.end()
})

t.test('what the kernel refuses costs one entry', (t) => {
  const { arena, batch, entries, free } = createBench(64)
  const device = up(arena)
  arena.bytes.fill(0, free, free + 64)
  arena.bytes[free] = 0x45
  arena.bytes[free + 32] = 0x15
  entries.add(free, 20, -1, 0)
  entries.add(free + 32, 20, -1, 0) // version 1: tun(4) tells the protocol by the first nibble
  entries.add(free, 0, -1, 0)
  entries.add(free, 20, -1, 0)
  device.write(entries)
  t.same(results(entries), [0, os.errno.EINVAL, os.errno.EINVAL, 0])
  ip(`link set ${device.name} down`)
  device.write(entries)
  t.equal(entries.result(0), os.errno.EIO, 'a device that is down')
  ip(`link del ${device.name}`)
  t.throws(() => device.read(batch), { code: 'EBADFD', syscall: 'read' }, 'a device that is gone')
  device.close()
  t.end()
})

t.test('a super-packet that is refused ends the call, and the rest goes from there', (t) => {
  const { arena, entries, free } = createBench(64)
  const device = up(arena, { vnetHdr: true })
  arena.bytes.fill(0, free, free + 64)
  arena.bytes[free + VNET_HDR_LEN] = 0x45
  arena.bytes.copyWithin(free + 32, free, free + 32)
  arena.bytes[free + 32 + 1] = 0x7f // no GSO type (virtio_net_hdr_to_skb)
  for (const at of [free, free + 32, free]) {
    entries.add(at, VNET_HDR_LEN + 20, -1, 0)
    entries.setResult(entries.count - 1, 99)
  }
  entries.setSegment(1, 1000)
  t.equal(device.write(entries), 2)
  t.same(results(entries), [0, os.errno.EINVAL, 99])
  t.equal(device.write(entries, 2), 3)
  t.same(results(entries), [0, os.errno.EINVAL, 0])
  device.close()
  t.end()
})

t.test('a read takes no more than the room of a slot', (t) => {
  const { arena, batch, entries, names, free } = createBench(4, HEADROOM + 64)
  const device = up(arena)
  const port = openPort(arena, { address: '0.0.0.0' })
  encodeName(endpoint4(FAR, 9), names, 0)
  arena.bytes.fill(0xee)
  arena.bytes.fill(0x33, free, free + 200)
  for (const len of [200, 36, 8]) entries.add(free, len, 0, len)
  port.send(entries, names)
  t.equal(read(device, batch), 3)
  t.same(
    rows(batch, (row) => batch.len(row)),
    [64, 64, 36],
  )
  t.equal(arena.bytes[batch.at(0) + 63], 0x33)
  t.equal(arena.bytes[batch.at(0) + 64], 0xee, 'the next headroom is untouched')
  port.close()
  device.close()
  t.end()
})

t.test('with vnetHdr a header precedes every packet', (t) => {
  const { arena, batch, entries, names, free } = createBench(4, HEADROOM + 65535)
  const device = up(arena, { vnetHdr: true })
  const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 } = native.constants
  const port = openPort(arena, { address: '10.99.0.1' })
  encodeName(endpoint4(FAR, 4242), names, 0)
  const header = (row: number): string => {
    const at = batch.at(row)
    return Buffer.from(arena.bytes.slice(at - VNET_HDR_LEN, at)).toString('hex')
  }
  // struct virtio_net_hdr: flags, gso_type, then hdr_len, gso_size, csum_start, csum_offset, each
  // 16 bits, little endian here and on every machine that this test meets.
  entries.add(free, 10, 0, 10)
  port.send(entries, names)
  t.equal(read(device, batch), 1)
  t.equal(header(0), '00000000000000000000', 'without offloads nothing is left to do')
  t.equal(batch.len(0), 38)
  t.equal(arena.view.getUint8(batch.at(0)), 0x45, 'the packet begins at its headroom all the same')

  device.setOffload(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6)
  port.send(entries, names)
  t.equal(read(device, batch), 1)
  t.equal(header(0), '01000000000014000600', 'NEEDS_CSUM, from byte 20, into byte 6 of UDP')

  // Three datagrams of 1000, 1000 and 500 bytes as one packet, as TCP super-packets come.
  entries.clear()
  entries.add(free, 2500, 0, 2500)
  entries.entries[ENTRY_FIELDS.SEGMENT] = 1000
  port.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(read(device, batch), 1)
  t.equal(batch.len(0), 2528)
  t.equal(header(0), '01051c00e80314000600', 'GSO_UDP_L4 (5), header 28, size 1000')

  // Written back, the kernel cuts it into its datagrams for a socket that does not merge.
  const at = batch.at(0)
  turnRound(arena.view, at)
  entries.clear()
  entries.add(at - VNET_HDR_LEN, VNET_HDR_LEN + 2528, -1, 2500)
  device.write(entries)
  t.equal(entries.result(0), 0)
  const echoes = new Batch(arena, free, 8, 4096)
  t.equal(port.receive(echoes), 3)
  t.same(
    rows(echoes, (row) => echoes.len(row)),
    [1000, 1000, 500],
  )

  entries.clear()
  entries.add(at, 9, -1, 9)
  device.write(entries)
  t.equal(entries.result(0), os.errno.EINVAL, 'shorter than the header')
  t.throws(
    () => {
      device.setOffload(1 << 20)
    },
    { code: 'EINVAL' },
  )
  port.close()
  device.close()
  t.end()
})

t.test('several queues of one device share its packets', (t) => {
  const { arena, batch, entries, names, free } = createBench(64)
  const first = up(arena, { multiQueue: true })
  const second = new TunDevice(openTun({ name: first.name, multiQueue: true }), arena)
  t.equal(second.name, first.name)
  encodeName(endpoint4(FAR, 9), names, 0)
  entries.add(free, 10, 0, 10)
  const counts = [0, 0]
  for (let flow = 0; flow < 64; flow++) {
    const port = openPort(arena, { address: '0.0.0.0' })
    port.send(entries, names)
    port.close()
  }
  for (const [i, device] of [first, second].entries()) {
    for (let got = 1; got > 0;) {
      batch.rewind()
      got = device.read(batch)
      counts[i]! += got
    }
  }
  t.equal(counts[0]! + counts[1]!, 64)
  t.ok(counts[0]! > 0 && counts[1]! > 0, `${counts.join(' and ')} packets`)
  second.close()
  first.close()
  t.end()
})

t.test('names', (t) => {
  const before = readdirSync('/proc/self/fd').length
  const opened = ['flannel%d', 'flannel%d', 'exactly15bytes_'].map((name) => openTun({ name }))
  t.same(
    opened.map((each) => each.name),
    ['flannel0', 'flannel1', 'exactly15bytes_'],
  )
  const cases: [string, string, string][] = [
    ['another process or queue has it', 'flannel0', 'EBUSY'],
    ['it is no TUN', 'lo', 'EINVAL'],
    ['a slash', 'a/b', 'EINVAL'],
    ['16 bytes', 'exactly16bytes_x', 'ERR_OUT_OF_RANGE'],
  ]
  for (const [why, name, code] of cases) t.throws(() => openTun({ name }), { code }, why)
  for (const { fd } of opened) native.close(fd)
  t.equal(readdirSync('/proc/self/fd').length, before, 'no descriptor is left')
  t.end()
})
