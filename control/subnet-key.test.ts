import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { prefix4, prefix6 } from './prefix.js'
import { formatSubnet } from './lease.js'
import { formatSubnetKey, parseSubnetKey } from './subnet-key.js'

t.test('IPv4 key, both ways', (t) => {
  const subnet = parseSubnetKey('10.12.13.0-24')
  t.same(subnet, { v4: { addr: 0x0a0c0d00, len: 24 }, v6: null })
  t.equal(formatSubnetKey(subnet!), '10.12.13.0-24')
  t.end()
})

t.test('dual-stack key, both ways', (t) => {
  const subnet = parseSubnetKey('10.12.13.0-24&fd00:12:13::-56')
  t.same(subnet, {
    v4: { addr: 0x0a0c0d00, len: 24 },
    v6: { addr: 0xfd00_0012_0013n << 80n, len: 56 },
  })
  t.equal(formatSubnetKey(subnet!), '10.12.13.0-24&fd00:12:13::-56')
  t.end()
})

t.test('a whole key', (t) => {
  t.same(parseSubnetKey('/coreos.com/network/subnets/10.5.52.0-24'), {
    v4: { addr: 0x0a053400, len: 24 },
    v6: null,
  })
  t.end()
})

const INVALID = [
  // As in flannel's own test.
  ['no subnet', '10'],
  ['no length', '10.12.13.0'],
  ['empty length', '10.12.13.0-'],
  ['three octets', '10.12.13-24'],
  ['octet 300', '10.12.300.0-24'],
  ['text behind', '10.12.13.0-24foo'],
  ['IPv6 only', 'fd00:12:13::-56'],
  ['IPv6 first', 'fd00:12:13::-56&10.12.13.0-24'],
  ['two runs of zeros', '10.12.13.0-24&fd00::12::-56'],
  ['no hexadecimal', '10.12.13.0-24&fg00::-56'],
  ['IPv6 length missing', '10.12.13.0-24&fd00:12:13::'],
  ['IPv6 length empty', '10.12.13.0-24&fd00:12:13::-'],
  // Bounds of the lengths.
  ['/32', '10.12.13.1-32'],
  ['/128', '10.12.13.0-24&fd00::1-128'],
  ['/0', '0.0.0.0-0'],
  ['IPv6 /0', '10.12.13.0-24&::-0'],
  ['IPv6 alone, with IPv4 bits', '10.0.0.0-0&fd00:12:13::-56'],
  ['IPv6 alone, /0', '0.0.0.0-0&::-0'],
  // Forms that would be written back under another key.
  ['host bits', '10.12.13.1-24'],
  ['leading zero', '10.12.13.0-024'],
  ['IPv6 host bits', '10.12.13.0-24&fd00::1-64'],
  ['IPv6 long form', '10.12.13.0-24&fd00:0:0:0:0:0:0:0-64'],
  ['upper case', '10.12.13.0-24&FD00::-64'],
  ['text before', 'x10.12.13.0-24'],
  ['garbage', 'foo'],
  ['empty', ''],
  ['empty segment', '10.12.13.0-24/'],
  ['newline behind', '10.12.13.0-24\n'],
] as const

t.test('a network of IPv6 alone', async (t) => {
  const subnet = parseSubnetKey('0.0.0.0-0&fd00:12:13::-56')
  t.equal(subnet && formatSubnet(subnet), 'fd00:12:13::/56')
  t.equal(subnet && formatSubnetKey(subnet), '0.0.0.0-0&fd00:12:13::-56')
})

t.test('refuses', (t) => {
  for (const [name, key] of INVALID) t.equal(parseSubnetKey(key), null, name)
  t.end()
})

t.test('properties', (t) => {
  const subnets = fc
    .tuple(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 1, max: 31 }),
      fc.option(
        fc.tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 1, max: 127 })),
      ),
    )
    .map(([addr, len, v6]) => ({ v4: prefix4(addr, len), v6: v6 && prefix6(...v6) }))
  fc.assert(
    fc.property(subnets, (subnet) =>
      isDeepStrictEqual(parseSubnetKey(formatSubnetKey(subnet)), subnet),
    ),
  )
  const keyLike = fc.string({ unit: fc.constantFrom(...'0125.-&:adf/'.match(/./g)!) })
  fc.assert(
    fc.property(fc.oneof(fc.string(), keyLike), (text) => {
      const subnet = parseSubnetKey(text)
      return subnet === null || text.endsWith(formatSubnetKey(subnet))
    }),
    { numRuns: 2000 },
  )
  t.pass('for all keys tried')
  t.end()
})
