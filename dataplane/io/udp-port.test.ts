/**
 * Real sockets on the loopback of a network namespace of this test's own, which ends with it: the
 * file starts itself again inside, where a slow neighbour can be made and nobody else sends.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { constants as os } from 'node:os'
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import type { Arena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { ENTRY_FIELDS, Entries } from '../packet/entries.js'
import { HEADROOM } from '../packet/layout.js'
import { encodeName, endpoint4, endpoint6 } from './endpoint.js'
import { RawPort, openRaw } from './raw-port.js'
import { UdpPort, openUdp } from './udp-port.js'
import type { UdpOptions } from './udp-port.js'

if (process.env['HEDDLE_TEST_NETNS'] === undefined) {
  const args = ['--net', process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const env = { ...process.env, HEDDLE_TEST_NETNS: '1' }
  process.exit(spawnSync('unshare', args, { stdio: 'inherit', env }).status ?? 1)
}
const { default: t } = await import('tap')

const LOCALHOST = 0x7f000001
const SLOT = 2048
const ROWS = 128

function ip(...args: string[]): void {
  const run = spawnSync('ip', args, { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`ip ${args.join(' ')}: ${run.stderr}`)
}
ip('link', 'set', 'lo', 'up')

interface Bench {
  arena: Arena
  batch: Batch
  entries: Entries
  names: Uint8Array
  /** First byte of the arena that belongs to no slot. */
  free: number
}

function createBench(rows = ROWS, slot = SLOT, spare = 1 << 20): Bench {
  const arena = createArena(new SharedArrayBuffer(rows * slot + spare))
  const batch = new Batch(arena, 0, rows, slot)
  const names = new Uint8Array(4 * native.layout.NAME_SIZE)
  return { arena, batch, entries: new Entries(512, 4096), names, free: rows * slot }
}

function open(arena: Arena, options: Partial<UdpOptions> = {}, index = 0): UdpPort {
  return new UdpPort(
    openUdp({ family: 4, address: '127.0.0.1', port: 0, ...options }),
    arena,
    index,
  )
}

/** Length and bytes of datagram i: the number, then bytes that follow from it. */
function pattern(i: number): Buffer {
  const bytes = Buffer.alloc(4 + ((i * 37) % 1400))
  for (let at = 4; at < bytes.length; at++) bytes[at] = (i * 31 + at * 7) & 255
  bytes.writeUInt32BE(i, 0)
  return bytes
}

function payload(batch: Batch, row: number): Buffer {
  const at = batch.at(row)
  return Buffer.from(batch.arena.bytes.slice(at, at + batch.len(row)))
}

function results(entries: Entries): number[] {
  return Array.from({ length: entries.count }, (_, i) => entries.result(i))
}

t.test('10 000 datagrams arrive with their bytes, order and source', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const from = open(arena)
  const to = open(arena, {}, 5)
  encodeName(endpoint4(LOCALHOST, to.port), names, 32)
  let next = 0
  let wrong = 0
  while (next < 10_000) {
    entries.clear()
    const burst = Math.min(100 + (next % 29), 10_000 - next)
    let at = free
    for (let i = 0; i < burst; i++) {
      const bytes = pattern(next + i)
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
          payload(batch, row).equals(pattern(next)) &&
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
  const port = open(arena)
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
  const port = open(arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  arena.bytes.fill(0xee)
  arena.bytes.fill(0x22, free, free + 200)
  for (const len of [101, 100, 200]) entries.add(free, len, 0, len)
  port.send(entries, names)
  t.equal(port.receive(batch), 3)
  t.same(
    [0, 1, 2].map((row) => batch.len(row)),
    [100, 100, 100],
  )
  t.same(
    [0, 1, 2].map((row) => batch.isTruncated(row)),
    [true, false, true],
  )
  t.equal(arena.bytes[batch.at(0) + 99], 0x22)
  t.equal(arena.bytes[batch.at(0) + 100], 0xee, 'the next headroom is untouched')
  port.close()
  t.end()
})

t.test('an entry gathers its pieces in their order', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const port = open(arena)
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
  const port = open(arena, { family: 6, address: '::', dualStack: true })
  const from6 = open(arena, { family: 6, address: '::1' })
  const from4 = open(arena)
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
  batch.columns.fill(-1, ROWS)
  t.equal(port.receive(batch), 2)
  const row = (i: number): number[] => [
    batch.len(i),
    batch.family(i),
    batch.port(i),
    ...[0, 1, 2, 3].map((word) => batch.source(i, word)),
  ]
  t.same(row(0), [5, 6, from6.port, 0, 0, 0, 1])
  t.same(row(1), [6, 4, from4.port, LOCALHOST, 0, 0, 0])
  const plain = open(arena, { family: 6, address: '::' })
  encodeName(endpoint4(LOCALHOST, plain.port), names, 32)
  from4.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(plain.receive(batch), 0, 'without dualStack an IPv6 port takes IPv6 only')
  for (const each of [port, from6, from4, plain]) each.close()
  t.end()
})

t.test('an entry that is refused costs only itself', (t) => {
  const { arena, batch, entries, names, free } = createBench(ROWS * 2)
  const port = open(arena)
  const receiver = open(arena)
  const broadcast = 32 // not allowed without SO_BROADCAST (udp(7))
  encodeName(endpoint4(LOCALHOST, receiver.port), names, 0)
  encodeName(endpoint4(0xffffffff, 9), names, broadcast)
  const want: number[] = []
  for (let i = 0; i < 200; i++) {
    const [len, name, errno] =
      i % 7 === 3
        ? [8, broadcast, os.errno.EACCES]
        : i % 7 === 5
          ? [8, -1, os.errno.EDESTADDRREQ]
          : i === 66
            ? [65508, 0, os.errno.EMSGSIZE]
            : [8, 0, 0]
    entries.add(free, len, name, len)
    entries.setResult(i, 99)
    want.push(errno)
  }
  port.send(entries, names)
  t.same(results(entries), want)
  t.equal(receiver.receive(batch), want.filter((errno) => errno === 0).length)
  port.close()
  receiver.close()
  t.end()
})

t.test('segmentation: one entry leaves as many datagrams, GRO brings them back as one', (t) => {
  const { arena, batch, entries, names, free } = createBench(4, HEADROOM + 65535)
  const sender = open(arena)
  const plain = open(arena)
  const merging = open(arena, { gro: true })
  encodeName(endpoint4(LOCALHOST, plain.port), names, 0)
  encodeName(endpoint4(LOCALHOST, merging.port), names, 32)
  const bytes = Buffer.from(Array.from({ length: 2500 }, (_, i) => (i * 11) & 255))
  arena.bytes.set(bytes, free)
  const run = (name: number): void => {
    entries.clear()
    entries.add(free, 2500, name, 2500)
    entries.entries[ENTRY_FIELDS.SEGMENT] = 1000
    sender.send(entries, names)
    t.equal(entries.result(0), 0)
    batch.rewind()
  }
  run(0)
  t.equal(plain.receive(batch), 3)
  t.same(
    [0, 1, 2].map((row) => batch.len(row)),
    [1000, 1000, 500],
  )
  t.same(
    [0, 1, 2].map((row) => batch.segment(row)),
    [0, 0, 0],
  )
  t.ok(Buffer.concat([0, 1, 2].map((row) => payload(batch, row))).equals(bytes))
  run(32)
  t.equal(merging.receive(batch), 1)
  t.equal(batch.segment(0), 1000)
  t.ok(payload(batch, 0).equals(bytes))
  for (const each of [sender, plain, merging]) each.close()
  t.end()
})

t.test('a full socket: the rest is not tried and gets the same errno', (t) => {
  // Nobody answers for 10.98.0.2, so what is sent to it waits for its address in the socket's
  // own send buffer.
  ip('link', 'add', 'slow0', 'type', 'veth', 'peer', 'name', 'slow1')
  ip('address', 'add', '10.98.0.1/24', 'dev', 'slow0')
  ip('link', 'set', 'slow1', 'up')
  ip('link', 'set', 'slow0', 'up')
  const { arena, batch, entries, names, free } = createBench()
  const port = open(arena, { address: '0.0.0.0', sendBuffer: 8192 })
  encodeName(endpoint4(0x0a620002, 9), names, 0)
  encodeName(endpoint4(LOCALHOST, port.port), names, 32)
  for (let i = 0; i < 40; i++) {
    entries.add(free, 1000, 0, 1000)
    entries.setResult(i, 99)
  }
  entries.add(free, 1, 32, 1)
  port.send(entries, names)
  const list = results(entries)
  const sent = list.indexOf(os.errno.EAGAIN)
  t.ok(sent > 0 && sent < 40, `${sent} datagrams had room`)
  t.same(list, [...Array<number>(sent).fill(0), ...Array<number>(41 - sent).fill(os.errno.EAGAIN)])
  t.equal(port.receive(batch), 0, 'not even the one to another host was tried')
  port.close()
  ip('link', 'del', 'slow0')
  t.end()
})

t.test(
  'buffers: what was asked for is achieved beyond the system limit, drops are counted',
  (t) => {
    const { arena, batch, entries, names, free } = createBench()
    const big = open(arena, { receiveBuffer: 16 << 20, sendBuffer: 8 << 20 })
    t.equal(big.receiveBuffer, 16 << 20)
    t.equal(big.sendBuffer, 8 << 20)
    const small = open(arena, { receiveBuffer: 8192 })
    t.equal(small.receiveBuffer, 8192)
    encodeName(endpoint4(LOCALHOST, small.port), names, 0)
    for (let i = 0; i < 100; i++) entries.add(free, 1000, 0, 1000)
    big.send(entries, names)
    const got = small.receive(batch)
    t.ok(got > 0 && got < 100)
    t.equal(got + small.drops(), 100)
    big.close()
    small.close()
    t.end()
  },
)

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
  const port = open(arena)
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

t.test('a raw port sends a packet whose source address is chosen by the sender', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const receiver = open(arena)
  const raw = new RawPort(openRaw(), arena)
  // RFC 791 header: version 4, 20 bytes, id 0, TTL 8, UDP, sum left to the kernel, from
  // 127.0.0.77 to 127.0.0.1; RFC 768 header: ports 7777 and the receiver's, 10 bytes, no sum.
  const packet = Buffer.from(
    '4500001e0000000008110000 7f00004d 7f000001'.replaceAll(' ', ''),
    'hex',
  )
  const udp = Buffer.from('1e610000000a00006869', 'hex')
  udp.writeUInt16BE(receiver.port, 2)
  arena.bytes.set(Buffer.concat([packet, udp]), free)
  encodeName(endpoint4(LOCALHOST, 0), names, 0)
  entries.add(free, 30, 0, 30)
  raw.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(receiver.receive(batch), 1)
  t.equal(payload(batch, 0).toString(), 'hi')
  t.equal(batch.source(0, 0), 0x7f00004d)
  t.equal(batch.port(0), 7777)
  raw.close()
  receiver.close()
  t.end()
})
