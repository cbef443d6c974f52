/**
 * The steering programs as the kernel runs them, against a slow twin, in a network namespace of this
 * test's own (the file starts itself again inside). Packets written to one TUN are forwarded to
 * another with four queues; datagrams are sent to sockets that share a port.
 */
import { ip } from '../netns-fixture.js'
import { writeFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { createPacket, DF, HOST_A, HOST_A6, TCP, UDP, type PacketSpec } from '../flow-fixture.js'
import { native } from '../native/native.js'
import { assemble, constant, exit, jump } from './bpf.js'
import { createBench, openPort, whyNoRing } from './device-fixture.js'
import { encodeName, endpoint4 } from './endpoint.js'
import { openSockets, openTunQueues, whyNoSteering } from './queues.js'
import { sourcePort } from './steering.js'
import { openTun, TunDevice } from './tun-device.js'
import { UdpPort } from './udp-port.js'

const why = whyNoSteering()
const skip = why !== null && why
const QUEUES = 4

/** The hash of a packet, byte by byte. */
function slowQueue(packet: Uint8Array): number {
  const word = (at: number): bigint =>
    BigInt('0x' + Buffer.from(packet.subarray(at, at + 4)).toString('hex'))
  const isV6 = packet[0]! >> 4 === 6
  let hash = 0n
  for (let at = isV6 ? 8 : 12; at < (isV6 ? 40 : 20); at += 4) hash ^= word(at)
  const isFragment = !isV6 && ((packet[6]! << 8) | packet[7]!) % 0x4000 !== 0
  const ports = isV6 ? 40 : 4 * (packet[0]! & 15)
  if (packet[isV6 ? 6 : 9] === TCP && !isFragment) hash ^= word(ports)
  const folded = (hash & 0xffffn) ^ (hash >> 16n)
  const spread = (folded * 0x9e3779b1n) & 0xffffffffn
  return Number((spread >> 16n) % BigInt(QUEUES))
}

/** The packet of the other direction: addresses and ports swapped. */
function reverse(spec: PacketSpec): PacketSpec {
  const [from, to] = spec.ports ?? [0, 0]
  return { ...spec, from: spec.to!, to: spec.from!, ports: [to, from] }
}

const port = fc.integer({ min: 1, max: 65535 })
const last = fc.integer({ min: 2, max: 254 })
const specs: fc.Arbitrary<PacketSpec> = fc
  .record({
    isV6: fc.boolean(),
    from: last,
    to: last,
    protocol: fc.constantFrom(TCP, TCP, TCP, UDP),
    ports: fc.tuple(port, port),
    fragment: fc.constantFrom(DF, DF, 0, 0x2000, 0x2000 | 8, 16),
    options: fc.constantFrom([], [], [1, 1, 1, 0]),
    len: fc.integer({ min: 0, max: 64 }),
  })
  .map(({ isV6, from, to, fragment, options, len, ...rest }) => ({
    ...rest,
    from: isV6 ? [0xfd, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, from] : [10, 5, 2, from],
    to: isV6 ? [...HOST_A6.slice(0, 15), to] : [...HOST_A.slice(0, 3), to],
    ...(isV6 ? { fragment: 7 } : { fragment, options }),
    payload: new Uint8Array(len),
  }))

t.test('a flow has one queue of the TUN, whatever its packets are', { skip }, (t) => {
  const { arena, batch, entries, free } = createBench(64, 2048)
  const into = new TunDevice(openTun({ name: 'hdlin' }), arena)
  const fds: number[] = []
  const first = openTun({ name: 'hdlout', multiQueue: true })
  const tuns = openTunQueues(first, QUEUES, (fd) => fds.push(fd))
  const queues = tuns.map((tun) => new TunDevice(tun, arena))
  t.equal(queues.length, QUEUES)
  t.equal(fds.length, QUEUES - 1)
  for (const name of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) {
    writeFileSync(`/proc/sys/net/${name}`, '1')
  }
  for (const [n, name] of ['hdlin', 'hdlout'].entries()) {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/addr_gen_mode`, '1')
    ip(`address add 10.77.${String(n)}.1/24 dev ${name}`)
    ip(`-6 address add fd77:${String(n)}::1/64 dev ${name} nodad`)
    ip(`link set ${name} up`)
  }
  ip('route add 10.5.1.0/24 dev hdlout')
  ip('-6 route add fd05:1::/64 dev hdlout')

  /** Which queue a packet comes out of, and what else came meanwhile is passed over. */
  const steer = (packet: Uint8Array): number => {
    arena.bytes.set(packet, free)
    entries.clear()
    entries.add(free, packet.length, -1, packet.length)
    into.write(entries)
    if (entries.result(0) !== 0) throw new Error(`write: errno ${String(entries.result(0))}`)
    const wanted = Buffer.from(packet)
    for (let tries = 0; tries < 50; tries++) {
      const events = new Int32Array(QUEUES)
      native.wait(
        Int32Array.from(tuns, ({ fd }) => fd),
        events,
        0,
        100,
      )
      for (const [i, queue] of queues.entries()) {
        batch.rewind()
        queue.read(batch)
        for (let row = 0; row < batch.count; row++) {
          const got = Buffer.from(arena.bytes.slice(batch.at(row), batch.at(row) + batch.len(row)))
          const isV6 = wanted[0]! >> 4 === 6
          const from = isV6 ? 8 : 12
          if (got.subarray(from).equals(wanted.subarray(from))) return i
        }
      }
    }
    throw new Error('the packet did not come out')
  }

  const seen = new Set<number>()
  fc.assert(
    fc.property(specs, (spec) => {
      const packet = createPacket(spec)
      const queue = slowQueue(packet)
      seen.add(queue)
      return steer(packet) === queue && slowQueue(createPacket(reverse(spec))) === queue
    }),
    { numRuns: 400 },
  )
  t.same([...seen].sort(), [0, 1, 2, 3], 'every queue had some')
  for (const { fd } of tuns) native.close(fd)
  into.close()
  t.end()
})

t.test('a datagram goes to the socket that its source port names', { skip }, (t) => {
  ip('link set lo up')
  for (const family of [4, 6] as const) {
    const { arena, batch, entries, free, names } = createBench()
    const address = family === 4 ? '127.0.0.1' : '::1'
    const fds: number[] = []
    const opened = (fd: number): number => fds.push(fd)
    const ports = openSockets({ family, address, port: 8285 }, 3, 0, opened).map(
      (socket, i) => new UdpPort(socket, arena, i),
    )
    t.equal(fds.length, 5, 'three sockets, two of them with one to send from')
    const senders = [8285, 40_000, ...[0, 1, 2, 5, 15].map((queue) => sourcePort(queue, 77))]
    const wanted = [0, 0, 0, 1, 2, 2, 0]
    const bits = family === 4 ? [127, 0, 0, 1] : [...new Array<number>(15).fill(0), 1]
    const got = senders.map((port) => {
      const sender =
        port === 8285 ? ports[0]! : openPort(arena, { family, address, port, reusePort: true })
      const name = Buffer.alloc(native.layout.NAME_SIZE)
      // struct sockaddr_in and sockaddr_in6: family in host order, port, then the address.
      const order = new Uint16Array([family === 4 ? 2 : 10])
      Buffer.from(order.buffer).copy(name)
      name.writeUInt16BE(8285, 2)
      Buffer.from(bits).copy(name, family === 4 ? 4 : 8)
      new DataView(name.buffer, name.byteOffset).setInt32(
        native.layout['NAME_LENGTH_AT'],
        family === 4 ? 16 : 28,
        true,
      )
      names.set(name)
      entries.clear()
      entries.add(free, 32, 0, 32)
      sender.send(entries, names)
      t.equal(entries.result(0), 0)
      if (port !== 8285) sender.close()
      return ports.findIndex((port) => {
        batch.rewind()
        return port.receive(batch) > 0
      })
    })
    t.same(got, wanted, `IPv${String(family)}`)

    // Where an engine sends from, nothing is received.
    const own = native.localAddress(fds[2]!)
    const probe = openPort(arena, { family, address })
    t.equal(own.port % 16, 1)
    new DataView(names.buffer, names.byteOffset).setUint16(2, own.port)
    entries.clear()
    entries.add(free, 32, 0, 32)
    probe.send(entries, names)
    t.equal(native.wait(Int32Array.of(fds[2]!), new Int32Array(1), 0, 20), 0)
    probe.close()
    for (const fd of fds) native.close(fd)
  }
  t.end()
})

t.test(
  'several source ports an engine: its number in each, nothing received there',
  { skip },
  (t) => {
    const { arena, batch, entries, free, names } = createBench()
    const fds: number[] = []
    const all = openSockets({ family: 4, address: '127.0.0.1', port: 0 }, 2, 8, (fd) =>
      fds.push(fd),
    )
    for (const [queue, { port, sendFds = [] }] of all.entries()) {
      const ports = sendFds.map((fd) => native.localAddress(fd).port)
      t.equal(new Set(ports).size, 8, 'each another')
      t.ok(ports.every((own) => own % 16 === queue && own >= 49152 && own !== port))
    }
    const receiver = openPort(arena)
    encodeName(endpoint4(0x7f000001, receiver.port), names, 0)
    const port = new UdpPort(all[1]!, arena)
    entries.clear()
    for (const socket of [7, 0, 3, 3, 7]) entries.append(entries.begin(0, socket), free, 32, 32)
    t.equal(port.send(entries, names), 5)
    batch.rewind()
    receiver.receive(batch)
    t.same(
      Array.from({ length: batch.count }, (_, row) => batch.port(row)),
      [7, 0, 3, 3, 7].map((socket) => native.localAddress(all[1]!.sendFds![socket]!).port),
      'in the order of the entries, each from its port',
    )
    receiver.close()
    for (const fd of fds) native.close(fd)
    t.end()
  },
)

t.test('another socket at the port', { skip }, (t) => {
  const { arena } = createBench()
  const fds: number[] = []
  const opened = (fd: number): number => fds.push(fd)
  const taken = openPort(arena)
  const options = { family: 4, address: '127.0.0.1', port: taken.port } as const
  t.throws(() => openSockets(options, 2, 0, opened), { code: 'EADDRINUSE' })
  const shared = openSockets({ ...options, port: 0 }, 2, 0, opened)
  t.throws(() => openSockets({ ...options, port: shared[0].port }, 2, 0, opened), {
    code: 'EADDRINUSE',
  })
  for (const fd of fds) native.close(fd)
  taken.close()
  t.end()
})

const skipRing = skip === false ? whyNoRing() : skip
t.test('a ring just closed does not keep a program from being loaded', { skip: skipRing }, (t) => {
  // The kernel ends a ring's work later, by a signal of its own that the verifier gives up at (EAGAIN).
  const program = assemble([...Array.from({ length: 3000 }, () => constant('mov', 0, 1)), exit])
  for (let i = 0; i < 500; i++) {
    native.closeRing(native.openRing())
    native.close(native.loadFilter(program))
  }
  t.pass('500 times')
  t.end()
})

t.test('programs that are none', (t) => {
  t.throws(() => assemble([jump('nowhere'), exit]), /no label "nowhere"/)
  t.throws(() => native.loadFilter(new Uint8Array(0)), RangeError)
  t.throws(() => native.loadFilter(new Uint8Array(7)), RangeError)
  t.throws(() => native.loadFilter(new Uint8Array(8 * 4097)), RangeError)
  if (skip === false) {
    t.throws(() => native.loadFilter(assemble([constant('add', 3, 1), exit])), { code: 'EACCES' })
  }
  t.throws(() => {
    native.setTunSteering(0, 0)
  }, /TUNSETSTEERINGEBPF/)
  t.end()
})
