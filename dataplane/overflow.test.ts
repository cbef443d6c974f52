/**
 * The counts of what the kernel lost, against what was sent and what could be read: on real sockets
 * and a real TUN, in a network namespace of this test's own (the file starts itself again inside).
 */
import { ip } from './netns-fixture.js'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { native } from './native/native.js'
import { Counters, COUNTERS_BYTES, describeCounters, SOCKET_OVERFLOW } from './counters.js'
import { createBench, LOCALHOST, openPort } from './io/device-fixture.js'
import { encodeName, endpoint4 } from './io/endpoint.js'
import { openTun, TunDevice } from './io/tun-device.js'
import type { UdpPort } from './io/udp-port.js'
import { OverflowMeter, parseTransmitDrops } from './overflow.js'
import type { Batch } from './packet/batch.js'

const SIZE = 100
const BURST = 64

ip('link set lo up')

const createCounters = (): Counters => new Counters(new ArrayBuffer(COUNTERS_BYTES))
const gauges = (...engines: Counters[]) => describeCounters(engines).gauges
const overflow = (counters: Counters): number => counters.gaugeValue(SOCKET_OVERFLOW)

/** A sender of bursts to a port of 127.0.0.1 or, for a TUN, to an address behind it. */
function createSender(to: number, port: number): { send(bursts: number, isRun: boolean): number } {
  const { arena, entries, names, free } = createBench(1)
  const sender = openPort(arena, { address: to === LOCALHOST ? '127.0.0.1' : '0.0.0.0' })
  encodeName(endpoint4(to, port), names, 0)
  return {
    /** @returns datagrams that the kernel took */
    send(bursts, isRun) {
      let sent = 0
      for (let n = 0; n < bursts; n++) {
        entries.clear()
        if (isRun) {
          const run = entries.begin(0)
          for (let i = 0; i < BURST; i++) entries.addPiece(run, free, SIZE)
          entries.setSegment(run, SIZE)
        } else for (let i = 0; i < BURST; i++) entries.add(free, SIZE, 0, SIZE)
        sender.send(entries, names)
        for (let i = 0; i < entries.count; i++)
          if (entries.result(i) === 0) sent += isRun ? BURST : 1
      }
      return sent
    },
  }
}

/** Datagrams that wait in a socket, trains counted as what they carry. */
function drain(port: UdpPort, batch: Batch): number {
  let datagrams = 0
  for (;;) {
    batch.rewind()
    const count = port.receive(batch)
    if (count === 0) return datagrams
    for (let row = 0; row < count; row++) {
      const size = batch.segment(row)
      datagrams += size === 0 ? 1 : Math.ceil(batch.len(row) / size)
    }
  }
}

t.test('a full socket: sent = read + socket_overflow, exact before the next datagram', (t) => {
  const { arena, batch } = createBench()
  const ports = [openPort(arena, { receiveBuffer: 50_000 }), openPort(arena)] as const
  const counters = [createCounters(), createCounters()] as const
  const meter = new OverflowMeter('lo', ports, counters)
  const { send } = createSender(LOCALHOST, ports[0].port)
  let read = 0
  let sent = 0
  for (const bursts of [50, 1, 200]) {
    sent += send(bursts, false)
    meter.sample()
    t.ok(overflow(counters[0]) > 0)
    read += drain(ports[0], batch)
    t.equal(read + overflow(counters[0]), sent)
  }
  meter.sample()
  t.equal(read + overflow(counters[0]), sent, 'a second reading adds nothing')
  t.equal(overflow(counters[1]), 0, 'the other engine lost nothing')
  t.equal(gauges(...counters)['socket_overflow'], overflow(counters[0]))
  t.equal(gauges(...counters)['tun_overflow'], 0)
  meter.stop()
  for (const port of ports) port.close()
  t.end()
})

t.test('what was lost before the meter began is not counted', (t) => {
  const { arena, batch } = createBench()
  const port = openPort(arena, { receiveBuffer: 50_000 })
  createSender(LOCALHOST, port.port).send(50, false)
  const counters = createCounters()
  const meter = new OverflowMeter('lo', [port], [counters])
  drain(port, batch)
  meter.sample()
  t.equal(overflow(counters), 0)
  meter.stop()
  port.close()
  t.end()
})

t.test('what was lost between one meter and the next that goes on is counted, once', (t) => {
  const { arena, batch } = createBench()
  const port = openPort(arena, { receiveBuffer: 50_000 })
  const { send } = createSender(LOCALHOST, port.port)
  const [first, second] = [createCounters(), createCounters()]
  const before = new OverflowMeter('lo', [port], [first])
  let sent = send(50, false)
  before.sample()
  before.stop()
  sent += send(50, false)
  const after = new OverflowMeter('lo', [port], [second], before.drops)
  sent += send(50, false)
  after.sample()
  t.ok(overflow(first) > 0)
  t.equal(drain(port, batch) + overflow(first) + overflow(second), sent)
  after.stop()
  port.close()
  t.end()
})

t.test('a train that is lost counts as one', (t) => {
  const { arena, batch } = createBench(128, 16_384)
  const port = openPort(arena, { receiveBuffer: 50_000, gro: true })
  const counters = createCounters()
  const meter = new OverflowMeter('lo', [port], [counters])
  const sent = createSender(LOCALHOST, port.port).send(50, true)
  meter.sample()
  t.ok(overflow(counters) > 0)
  t.equal(drain(port, batch) + BURST * overflow(counters), sent)
  meter.stop()
  port.close()
  t.end()
})

t.test('a datagram whose outer checksum turns out wrong when it is read counts, too', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const port = openPort(arena)
  const raw = native.rawSocket(4, 17, false)
  const counters = createCounters()
  const meter = new OverflowMeter('lo', [port], [counters])
  encodeName(endpoint4(LOCALHOST, 0), names, 0)
  // RFC 768: source port, destination port, length, checksum. Linux sums a short one before it knows
  // the socket (CHECKSUM_BREAK, linux/skbuff.h); this one it sums while copying.
  arena.view.setUint16(free, 4242)
  arena.view.setUint16(free + 2, port.port)
  arena.view.setUint16(free + 4, SIZE)
  arena.view.setUint16(free + 6, 0xbad)
  entries.add(free, SIZE, 0, SIZE)
  native.send(Int32Array.of(raw), arena.bytes, entries.pieces, entries.entries, 1, names)
  t.equal(entries.result(0), 0)
  t.equal(drain(port, batch), 0)
  meter.sample()
  t.equal(overflow(counters), 1)
  meter.stop()
  native.close(raw)
  port.close()
  t.end()
})

t.test('a full TUN: sent = read + tun_overflow', (t) => {
  const { arena, batch } = createBench()
  const device = new TunDevice(openTun({ name: 'hdl%d' }), arena)
  writeFileSync(`/proc/sys/net/ipv6/conf/${device.name}/disable_ipv6`, '1')
  ip(`address add 10.99.0.1/24 dev ${device.name}`)
  ip(`link set ${device.name} up`)
  const [counters, second] = [createCounters(), createCounters()]
  const meter = new OverflowMeter(device.name, [], [counters, second])
  const { send } = createSender(0x0a630002, 4242)
  let sent = 0
  let read = 0
  for (const bursts of [50, 1, 100]) {
    sent += send(bursts, false)
    meter.sample()
    for (;;) {
      batch.rewind()
      const got = device.read(batch)
      if (got === 0) break
      read += got
    }
    const lost = gauges(counters)['tun_overflow'] ?? NaN
    t.ok(lost > 0, `${lost} had no room`)
    t.equal(read + lost, sent)
  }
  t.equal(gauges(second)['tun_overflow'], 0, 'a device’s losses are counted once')
  const before = gauges(counters)
  device.close()
  meter.sample()
  t.same(gauges(counters), before, 'a device that is gone loses nothing')
  meter.stop()
  t.end()
})

t.test('the text of /proc/net/dev', (t) => {
  const text = readFileSync('/proc/net/dev', 'utf8')
  t.equal(parseTransmitDrops(text, 'lo'), 0, 'of this machine')
  t.equal(parseTransmitDrops(text, 'Inter-|   Receive  |'), null)
  t.equal(parseTransmitDrops(text, 'nothing'), null)
  const written = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    '    lo:       1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16',
    'flannel0:101     102  103  104  105   106        107       108 18446744073709551615 110 111 112 113 114 115 116',
  ].join('\n')
  t.equal(parseTransmitDrops(written, 'lo'), 12)
  t.equal(parseTransmitDrops(written, 'flannel0'), 112, 'no room left before a large number')
  t.equal(parseTransmitDrops(written, 'flannel'), null)
  t.end()
})
