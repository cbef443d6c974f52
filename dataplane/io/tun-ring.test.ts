/**
 * Reading a real TUN through a ring, in a network namespace of this test's own: the file starts itself
 * again inside. The packets are the kernel's, sent into the TUN by a socket whose route leads there.
 */
import { ip } from '../netns-fixture.js'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readdirSync, writeFileSync } from 'node:fs'
import { constants as os } from 'node:os'
import t from 'tap'
import { native } from '../native/native.js'
import type { Batch } from '../packet/batch.js'
import { createBench, openPort, whyNoRing } from './device-fixture.js'
import { encodeName, endpoint4 } from './endpoint.js'
import { openTun, type RingUse, TunDevice } from './tun-device.js'

const FAR = 0x0a630002
const PAYLOAD_AT = 28
const PORT = 9
const ROWS = 64
const { READ_ALONE } = native.layout
const skip = whyNoRing()

/** A ring, and what was told of it. */
function createUse(): { use: RingUse; told: { packets: number; refusals: number[] } } {
  const told = { packets: 0, refusals: [] as number[] }
  const use: RingUse = {
    ring: native.openRing(),
    onRead: (packets) => (told.packets += packets),
    onRefused: (errno) => told.refusals.push(errno),
  }
  return { use, told }
}

function up(name: string): void {
  writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, '1')
  ip(`address add 10.99.0.1/24 dev ${name}`)
  ip(`link set ${name} mtu 1472 txqueuelen 1000 up`)
}

/** The numbers that the packets of a batch carry. */
function numbers(batch: Batch): number[] {
  return Array.from({ length: batch.count }, (_, row) =>
    batch.arena.view.getUint32(batch.at(row) + PAYLOAD_AT),
  )
}

function slots(batch: Batch): number[] {
  return Array.from({ length: batch.capacity }, (_, row) => batch.at(row)).sort((a, b) => a - b)
}

t.test(
  'any number of waiting packets, in their order, in as many reads as they need',
  async (t) => {
    const { arena, batch, entries, names, free } = createBench(ROWS)
    const { use, told } = createUse()
    const device = new TunDevice(openTun({ name: 'hdl%d' }), arena, use)
    up(device.name)
    const port = openPort(arena, { address: '10.99.0.1' })
    encodeName(endpoint4(FAR, PORT), names, 0)
    const before = slots(batch)
    let next = 0
    for (const waiting of [0, 1, 2, 3, 9, 10, 11, 26, 63, 64, 65, 100, 128, 200]) {
      const first = next
      for (let i = 0; i < waiting; i++, next++) {
        entries.clear()
        arena.view.setUint32(free, next)
        entries.add(free, 4, 0, 4)
        port.send(entries, names)
      }
      const got: number[] = []
      const reads: number[] = []
      for (let rest = waiting; rest >= 0; rest -= ROWS) {
        told.packets = 0
        batch.rewind()
        const count = device.read(batch)
        t.equal(told.packets, Math.max(0, count - READ_ALONE))
        reads.push(count)
        got.push(...numbers(batch))
      }
      t.same(
        got,
        Array.from({ length: waiting }, (_, i) => first + i),
        `${String(waiting)} packets in reads of ${reads.join(', ')}`,
      )
      t.ok(reads.slice(0, -1).every((count) => count === ROWS))
    }
    t.same(slots(batch), before, 'no slot is lost, none is there twice')
    t.same(told.refusals, [])
    port.close()
    device.close()
  },
)

t.test('packets that come while they are read', { skip }, async (t) => {
  const { arena, batch } = createBench(ROWS)
  const { use, told } = createUse()
  const device = new TunDevice(openTun({ name: 'hdl%d' }), arena, use)
  up(device.name)
  const before = slots(batch)
  const sender = spawn(
    process.execPath,
    [
      '-e',
      `const socket = require('dgram').createSocket('udp4')
      let next = 0
      const bytes = Buffer.alloc(4)
      socket.connect(${String(PORT)}, '10.99.0.2', function send() {
        bytes.writeUInt32BE(next++)
        if (next === 20000) return socket.send(bytes, () => socket.close())
        // The last one comes alone, so that it finds room in the queue.
        socket.send(bytes, next < 19999 ? send : () => setTimeout(send, 200))
      })`,
    ],
    { stdio: 'inherit' },
  )
  const ended = once(sender, 'exit')
  let last = -1
  let seen = 0
  let disorder = 0
  const events = new Int32Array(1)
  while (last < 19_999 && native.wait(Int32Array.of(device.fd), events, 0, 5000) > 0) {
    batch.rewind()
    device.read(batch)
    for (const number of numbers(batch)) {
      if (number <= last) disorder++
      last = number
      seen++
    }
  }
  t.same(await ended, [0, null])
  t.equal(last, 19_999)
  t.equal(disorder, 0)
  t.ok(seen > 10_000, `${String(seen)} packets, ${String(told.packets)} by the ring`)
  t.same(slots(batch), before, 'no slot is lost, none is there twice')
  device.close()
})

t.test('a device that no ring can read is read all the same', { skip }, async (t) => {
  // A regular file of procfs: single reads bring bytes, and a ring is refused (it knows no RWF_NOWAIT).
  const fd = openSync('/proc/self/maps', 'r')
  const { arena, batch } = createBench(ROWS)
  const { use, told } = createUse()
  const device = new TunDevice({ fd, name: 'maps', vnetHdr: false }, arena, use)
  const count = device.read(batch)
  t.ok(count > READ_ALONE, `${String(count)} reads`)
  t.same(told, { packets: 0, refusals: [os.errno.EOPNOTSUPP] }, 'and that is told')
  t.throws(() => native.closeRing(use.ring), { code: 'EBADF' }, 'its ring is closed')
  batch.rewind()
  device.read(batch)
  t.equal(told.refusals.length, 1, 'once')
  device.close()
})

t.test('a device that was deleted is an error of the device', { skip }, async (t) => {
  const { arena, batch } = createBench(ROWS)
  const { use, told } = createUse()
  const device = new TunDevice(openTun({ name: 'hdl%d' }), arena, use)
  ip(`link delete ${device.name}`)
  t.throws(() => device.read(batch), { code: 'EBADFD' })
  t.same(told, { packets: 0, refusals: [] })
  device.close()
})

t.test('rings leave nothing behind', { skip }, async (t) => {
  const open = (): number => readdirSync('/proc/self/fd').length
  const before = open()
  const rings = Array.from({ length: 20 }, () => native.openRing())
  t.equal(open(), before + 20)
  for (const ring of rings) t.equal(native.closeRing(ring), 0)
  t.equal(open(), before)
  t.throws(() => native.closeRing({} as never), { code: 'ERR_INVALID_ARG_TYPE' })
})
