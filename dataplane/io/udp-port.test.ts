import { readdirSync } from 'node:fs'
import { constants as os } from 'node:os'
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import t from 'tap'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { HEADROOM } from '../packet/layout.js'
import {
  LOCALHOST,
  createBench,
  openPort,
  pattern,
  payload,
  results,
  rows,
} from './device-fixture.js'
import { encodeName, endpoint4, endpoint6 } from './endpoint.js'
import { UdpPort, openUdp } from './udp-port.js'
import type { UdpOptions } from './udp-port.js'

/** Datagram i: its number, then bytes that follow from it; lengths from 4 to 1403. */
function datagram(i: number): Buffer {
  const bytes = pattern(i, 4 + ((i * 37) % 1400))
  bytes.writeUInt32BE(i, 0)
  return bytes
}

t.test('10 000 datagrams arrive with their bytes, order and source', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const from = openPort(arena)
  const to = openPort(arena, {}, 5)
  encodeName(endpoint4(LOCALHOST, to.port), names, 32)
  let next = 0
  let wrong = 0
  while (next < 10_000) {
    entries.clear()
    const burst = Math.min(100 + (next % 29), 10_000 - next)
    let at = free
    for (let i = 0; i < burst; i++) {
      const bytes = datagram(next + i)
      arena.bytes.set(bytes, at)
      entries.add(at, bytes.length, 32, bytes.length)
      at += bytes.length
    }
    from.send(entries, names)
    if (results(entries).some((errno) => errno !== 0)) wrong++
    let got: number
    do {
      batch.rewind()
      got = to.receive(batch)
      for (let row = 0; row < got; row++) {
        const isRight =
          payload(batch, row).equals(datagram(next)) &&
          batch.family(row) === 4 &&
          batch.source(row, 0) === LOCALHOST &&
          batch.port(row) === from.port &&
          batch.socket(row) === 5 &&
          batch.segment(row) === 0 &&
          !batch.isTruncated(row)
        if (!isRight) wrong++
        next++
      }
    } while (got > 0)
  }
  t.equal(next, 10_000)
  t.equal(wrong, 0)
  t.equal(to.drops(), 0)
  from.close()
  to.close()
  t.end()
})

t.test('sizes from nothing to the largest', (t) => {
  const { arena, batch, entries, names, free } = createBench(2, HEADROOM + 65507)
  const port = openPort(arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  for (const len of [0, 1, 1472, 65507, 65508]) {
    entries.clear()
    entries.add(free, len, 0, len)
    port.send(entries, names)
    batch.rewind()
    const isTooLong = len > 65507
    t.equal(entries.result(0), isTooLong ? os.errno.EMSGSIZE : 0, `${len} bytes sent`)
    t.equal(port.receive(batch), isTooLong ? 0 : 1, `${len} bytes received`)
    if (!isTooLong) t.equal(batch.len(0), len)
  }
  port.close()
  t.end()
})

t.test('a datagram longer than its slot is cut and marked, the next one is not', (t) => {
  const { arena, batch, entries, names, free } = createBench(4, HEADROOM + 100)
  const port = openPort(arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  arena.bytes.fill(0xee)
  arena.bytes.fill(0x22, free, free + 200)
  for (const len of [101, 100, 200]) entries.add(free, len, 0, len)
  port.send(entries, names)
  t.equal(port.receive(batch), 3)
  t.same(
    rows(batch, (row) => batch.len(row)),
    [100, 100, 100],
  )
  t.same(
    rows(batch, (row) => batch.isTruncated(row)),
    [true, false, true],
  )
  t.equal(arena.bytes[batch.at(0) + 99], 0x22)
  t.equal(arena.bytes[batch.at(0) + 100], 0xee, 'the next headroom is untouched')
  port.close()
  t.end()
})

t.test('an entry gathers its pieces in their order', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const port = openPort(arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  arena.bytes.set(Buffer.from('heddle'), free)
  entries.pieces.set([free + 3, 3, free, 0, free, 3, free + 1, 1])
  entries.entries.set([0, 4, 0, 0, 99])
  entries.count = 1
  port.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(port.receive(batch), 1)
  t.equal(payload(batch, 0).toString(), 'dlehede')
  port.close()
  t.end()
})

t.test('IPv6, and IPv4 on a dual-stack socket', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const port = openPort(arena, { family: 6, address: '::', dualStack: true })
  const from6 = openPort(arena, { family: 6, address: '::1' })
  const from4 = openPort(arena)
  const loopback = new Uint8Array(16)
  loopback[15] = 1
  encodeName(endpoint6(loopback, port.port), names, 0)
  encodeName(endpoint4(LOCALHOST, port.port), names, 32)
  entries.add(free, 5, 0, 5)
  from6.send(entries, names)
  t.equal(entries.result(0), 0)
  entries.clear()
  entries.add(free, 6, 32, 6)
  from4.send(entries, names)
  batch.columns.fill(-1, batch.capacity)
  t.equal(port.receive(batch), 2)
  const row = (i: number): number[] => [
    batch.len(i),
    batch.family(i),
    batch.port(i),
    ...[0, 1, 2, 3].map((word) => batch.source(i, word)),
  ]
  t.same(row(0), [5, 6, from6.port, 0, 0, 0, 1])
  t.same(row(1), [6, 4, from4.port, LOCALHOST, 0, 0, 0])
  const plain = openPort(arena, { family: 6, address: '::' })
  encodeName(endpoint4(LOCALHOST, plain.port), names, 32)
  from4.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(plain.receive(batch), 0, 'without dualStack an IPv6 port takes IPv6 only')
  for (const each of [port, from6, from4, plain]) each.close()
  t.end()
})

t.test('a port is used on another thread by its descriptor, which is plain data', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(openUdp({ family: 4, address: '127.0.0.1', port: 0 }))
  const { message } = receiveMessageOnPort(port2) as { message: ReturnType<typeof openUdp> }
  const port = new UdpPort(message, arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  entries.add(free, 3, 0, 3)
  port.send(entries, names)
  t.equal(port.receive(batch), 1)
  port.close()
  port1.close()
  t.end()
})

t.test('failures to open close the socket again', (t) => {
  const arena = createArena(new ArrayBuffer(64))
  const port = openPort(arena)
  const before = readdirSync('/proc/self/fd').length
  const options = { family: 4, address: '127.0.0.1', port: port.port } as const
  const cases: [string, UdpOptions, string][] = [
    ['the port is taken', options, 'EADDRINUSE'],
    ['the address is foreign', { ...options, address: '192.0.2.1' }, 'EADDRNOTAVAIL'],
    ['there is no such device', { ...options, device: 'none0' }, 'ENODEV'],
    ['the address is of the other family', { ...options, address: '::1' }, 'ERR_OUT_OF_RANGE'],
    ['the port is no port', { ...options, port: 65536 }, 'ERR_OUT_OF_RANGE'],
  ]
  for (const [name, wrong, code] of cases) t.throws(() => openUdp(wrong), { code }, name)
  t.equal(readdirSync('/proc/self/fd').length, before)
  const shared = openUdp({ ...options, port: 0, reusePort: true })
  const second = openUdp({ ...options, port: shared.port, reusePort: true })
  native.close(shared.fd)
  native.close(second.fd)
  port.close()
  t.throws(() => port.receive(new Batch(createArena(new ArrayBuffer(256)), 0, 1, 256)), {
    code: 'EBADF',
  })
  t.end()
})
