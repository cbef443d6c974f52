import { endianness } from 'node:os'
import fc from 'fast-check'
import t from 'tap'
import { NAME_SIZE } from '../fib/nexthop.js'
import {
  decodeName,
  describeEndpoint,
  encodeName,
  endpoint4,
  endpoint6,
  isSameEndpoint,
} from './endpoint.js'

const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const isLittle = endianness() === 'LE'
// By hand from netinet/in.h: family and the trailing length are native, everything else big endian.
const SOCKADDR_IN = hex(
  `${isLittle ? '0200' : '0002'} 205d c0000202 0000000000000000 000000000000000000000000 ` +
    (isLittle ? '10000000' : '00000010'),
)
const SOCKADDR_IN6 = hex(
  `${isLittle ? '0a00' : '000a'} 205d 00000000 20010db8000000000000000000000002 00000000 ` +
    (isLittle ? '1c000000' : '0000001c'),
)
const V4 = endpoint4(0xc0000202, 8285)
const V6 = endpoint6(hex('20010db8 00000000 00000000 00000002'), 8285)

t.test('a name is a sockaddr and its length', (t) => {
  t.strictSame(decodeName(SOCKADDR_IN, 0), V4)
  t.strictSame(decodeName(SOCKADDR_IN6, 0), V6)
  const table = new Uint8Array(3 * NAME_SIZE).fill(0xee)
  encodeName(V4, table, NAME_SIZE)
  t.strictSame(table.slice(NAME_SIZE, 2 * NAME_SIZE), SOCKADDR_IN)
  encodeName(V6, table, NAME_SIZE)
  t.strictSame(table.slice(NAME_SIZE, 2 * NAME_SIZE), SOCKADDR_IN6)
  t.ok(
    table.subarray(0, NAME_SIZE).every((byte) => byte === 0xee),
    'the name before is untouched',
  )
  t.ok(
    table.subarray(2 * NAME_SIZE).every((byte) => byte === 0xee),
    'the name after is untouched',
  )
  t.end()
})

t.test('what is no name is refused', (t) => {
  const wrongLength = SOCKADDR_IN.slice()
  wrongLength[isLittle ? 28 : 31] = 28
  const cases = [
    { name: 'empty slot', names: new Uint8Array(NAME_SIZE), at: 0 },
    { name: 'length of the other family', names: wrongLength, at: 0 },
    { name: 'before the table', names: SOCKADDR_IN, at: -1 },
    { name: 'past the table', names: SOCKADDR_IN, at: 1 },
  ]
  for (const c of cases) t.equal(decodeName(c.names, c.at), null, c.name)
  t.end()
})

t.test('text and sameness', (t) => {
  t.equal(describeEndpoint(V4), '192.0.2.2:8285')
  t.equal(describeEndpoint(V6), '[2001:db8::2]:8285')
  t.equal(describeEndpoint({ ...V4, port: 0 }), '192.0.2.2')
  t.ok(isSameEndpoint(V4, endpoint4(0xc0000202 | 0, 8285)))
  t.notOk(isSameEndpoint(V4, endpoint4(0xc0000202, 8286)))
  t.notOk(isSameEndpoint(V4, endpoint4(0xc0000203, 8285)))
  t.notOk(isSameEndpoint(V4, V6))
  t.end()
})

t.test('names round trip', (t) => {
  const table = new Uint8Array(2 * NAME_SIZE)
  const port = fc.integer({ min: 0, max: 65535 })
  const any = fc.oneof(
    fc.tuple(fc.integer(), port).map(([address, p]) => endpoint4(address, p)),
    fc
      .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), port)
      .map(([a, p]) => endpoint6(a, p)),
  )
  fc.assert(
    fc.property(any, (endpoint) => {
      encodeName(endpoint, table, NAME_SIZE)
      const back = decodeName(table, NAME_SIZE)
      return back !== null && isSameEndpoint(back, endpoint)
    }),
  )
  t.end()
})
