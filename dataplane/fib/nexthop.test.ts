import t from 'tap'
import { attachFibReader } from './lpm.js'
import { createFib } from './lpm-writer.js'
import { HopTable, NAME_SIZE, createHopTable, writeName } from './nexthop.js'
import { parseAddress6 } from '../address.js'

const RESERVE = 8 << 20

function hex(hops: HopTable, hop: number): string {
  const at = hops.name(hop)
  return Buffer.from(hops.names.subarray(at, at + NAME_SIZE)).toString('hex')
}

/** An integer of the machine's byte order as hex. */
function native(value: number, bytes: 2 | 4): string {
  const array = bytes === 2 ? new Uint16Array([value]) : new Uint32Array([value])
  return Buffer.from(array.buffer).toString('hex')
}

t.test('columns and socket addresses', (t) => {
  const { shared, hops: writer } = createFib({ readers: 1, reserveBytes: RESERVE, maxHops: 16 })
  const four = writer.addPeer(0xc0000202, 8285)
  const six = writer.addPeer(parseAddress6('2001:db8:1:2:3:4:5:6')!, 0x1234)
  const local = writer.addLocal()
  const hops = createHopTable(shared)
  t.same([four, six, local], [1, 2, 3], 'indices begin with 1')

  const vtep = writer.addPeer(0xc0000203, 8472, { high: 0xc6d2, low: 0x826f8f44 | 0 })
  t.same([hops.macHigh(vtep), hops.macLow(vtep)], [0xc6d2, 0x826f8f44 | 0])
  t.same([hops.macHigh(four), hops.macLow(four)], [0, 0], 'none given')
  writer.retire(vtep)
  t.equal(writer.addPeer(0xc0000203, 8472), vtep)
  t.same([hops.macHigh(vtep), hops.macLow(vtep)], [0, 0], 'not that of the hop before')
  writer.retire(vtep)

  t.notOk(hops.isLocal(four))
  t.equal(hops.family(four), 4)
  t.equal(hops.port(four), 8285)
  t.equal(hops.addressWord(four, 0), 0xc0000202 | 0)
  // struct sockaddr_in: family 2, port 8285 = 0x205d, 192.0.2.2, zeros; then its length, 16.
  t.equal(hex(hops, four), `${native(2, 2)}205dc0000202${'00'.repeat(20)}${native(16, 4)}`)

  t.notOk(hops.isLocal(six))
  t.equal(hops.family(six), 6)
  t.equal(hops.port(six), 0x1234)
  t.same(
    [0, 1, 2, 3].map((word) => hops.addressWord(six, word) >>> 0),
    [0x20010db8, 0x00010002, 0x00030004, 0x00050006],
  )
  // struct sockaddr_in6: family 10, port, flow info, address, scope; then its length, 28.
  const address = '20010db8000100020003000400050006'
  t.equal(hex(hops, six), `${native(10, 2)}123400000000${address}00000000${native(28, 4)}`)

  t.ok(hops.isLocal(local))
  t.equal(hops.family(local), 0)
  t.equal(hex(hops, local), '00'.repeat(NAME_SIZE))
  t.equal(writer.size, 3)
  t.end()
})

t.test('a name covers all its bytes, and only those', (t) => {
  const names = new Uint8Array(3 * NAME_SIZE).fill(0xaa)
  writeName(names, NAME_SIZE, 4, 0x7f000001, 9, 9, 9, 65535)
  const text = Buffer.from(names).toString('hex')
  const untouched = 'aa'.repeat(NAME_SIZE)
  t.equal(
    text,
    `${untouched}${native(2, 2)}ffff7f000001${'00'.repeat(20)}${native(16, 4)}${untouched}`,
  )
  t.end()
})

t.test('arguments that are no peer', (t) => {
  const { hops } = createFib({ readers: 1, reserveBytes: RESERVE, maxHops: 16 })
  for (const port of [65536, -1, 1.5, NaN]) {
    t.throws(() => hops.addPeer(1, port), RangeError, `port ${port}`)
  }
  for (const address of [
    2 ** 32,
    -(2 ** 31) - 1,
    0.5,
    NaN,
    new Uint8Array(4),
    new Uint8Array(17),
  ]) {
    t.throws(() => hops.addPeer(address, 1), RangeError, String(address))
  }
  for (const hop of [0, 1, -1, 99])
    t.throws(
      () => {
        hops.retire(hop)
      },
      RangeError,
      `retire ${hop}`,
    )
  t.equal(hops.size, 0)
  t.end()
})

t.test('a retired hop keeps its content until no reader can look at it', (t) => {
  const fib = createFib({ readers: 1, reserveBytes: RESERVE, maxHops: 3 })
  const reader = attachFibReader(fib.shared, 0)
  const hops = createHopTable(fib.shared)
  const old = fib.hops.addPeer(0x0a000001, 1)
  fib.hops.addLocal()
  fib.writer.insert4(0, 0, old)
  reader.enter()
  const seen = reader.lookup4(5)
  fib.writer.remove4(0, 0)
  fib.hops.retire(old)
  t.throws(
    () => {
      fib.hops.retire(old)
    },
    RangeError,
    'not twice',
  )
  t.throws(() => fib.hops.addPeer(0x0a000002, 2), /all 2 next hops are in use; raise maxHops/)
  t.equal(hops.addressWord(seen, 0), 0x0a000001)
  reader.leave()
  t.equal(fib.hops.addPeer(0x0a000002, 2), old, 'free after the breath')
  t.equal(hops.addressWord(old, 0), 0x0a000002)
  t.end()
})

t.test('a hop cannot be retired while the update that removes its routes is open', (t) => {
  const { writer, hops } = createFib({ readers: 1, reserveBytes: RESERVE, maxHops: 16 })
  const hop = hops.addPeer(1, 1)
  t.throws(() => {
    writer.update(() => {
      hops.retire(hop)
    })
  }, /after the update/)
  hops.retire(hop)
  t.equal(hops.size, 0)
  t.end()
})
