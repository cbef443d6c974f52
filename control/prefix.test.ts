import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import t from 'tap'
import {
  contains4,
  contains6,
  formatAddr4,
  formatAddr6,
  formatPrefix4,
  formatPrefix6,
  overlaps4,
  overlaps6,
  parseAddr4,
  parseAddr6,
  parsePrefix4,
  parsePrefix6,
  prefix4,
  prefix6,
} from './prefix.js'

const uint32 = fc.integer({ min: 0, max: 0xffffffff })
const uint128 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
  // Groups that are often zero, so that every shape of `::` comes up.
  fc
    .array(fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn })), {
      minLength: 8,
      maxLength: 8,
    })
    .map((groups) => groups.reduce((addr, group) => (addr << 16n) | group, 0n)),
)

t.test('IPv4 addresses and text', (t) => {
  t.equal(parseAddr4('1.2.3.4'), 0x01020304)
  t.equal(parseAddr4('255.255.255.255'), 0xffffffff)
  t.equal(formatAddr4(0xc0a80001), '192.168.0.1')
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '0x1.2.3.4',
    '::1',
    ' 1.2.3.4',
  ]) {
    t.equal(parseAddr4(text), null, `refuses "${text}"`)
  }
  t.end()
})

t.test('IPv6 text by RFC 5952', (t) => {
  // Section 4 of RFC 5952, and the edges of "longest run, first of equals".
  const cases: readonly [string, string][] = [
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::A', '2001:db8::a'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['1:0:0:0:0:0:0:0', '1::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
  ]
  for (const [text, want] of cases) t.equal(formatAddr6(parseAddr6(text)!), want)
  for (const text of ['', ':', ':::', '1::2::3', '1.2.3.4', 'fe80::1%eth0', '12345::', 'g::']) {
    t.equal(parseAddr6(text), null, `refuses "${text}"`)
  }
  t.end()
})

t.test('prefixes', (t) => {
  t.same(parsePrefix4('10.5.72.1/24'), { addr: 0x0a054800, len: 24 }, 'host bits are cleared')
  t.same(parsePrefix4('0.0.0.0/0'), { addr: 0, len: 0 })
  t.same(parsePrefix4('255.255.255.255/32'), { addr: 0xffffffff, len: 32 })
  t.same(parsePrefix6('fc00::1/48'), { addr: 0xfc00n << 112n, len: 48 })
  for (const text of [
    '',
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    'fc00::/48',
  ]) {
    t.equal(parsePrefix4(text), null, `IPv4 refuses "${text}"`)
  }
  for (const text of ['fc00::', 'fc00::/129', '10.0.0.0/8', 'fc00::/x']) {
    t.equal(parsePrefix6(text), null, `IPv6 refuses "${text}"`)
  }
  const net = parsePrefix4('10.3.0.0/16')!
  t.ok(contains4(net, parseAddr4('10.3.255.255')!))
  t.notOk(contains4(net, parseAddr4('10.4.0.0')!))
  t.notOk(contains4(net, parseAddr4('10.2.255.255')!))
  const net6 = parsePrefix6('fc00::/16')!
  t.ok(contains6(net6, parseAddr6('fc00:ffff::1')!))
  t.notOk(contains6(net6, parseAddr6('fc01::')!))
  t.end()
})

t.test('properties', (t) => {
  fc.assert(fc.property(uint32, (addr) => parseAddr4(formatAddr4(addr)) === addr))
  fc.assert(
    fc.property(uint128, (addr) => {
      const text = formatAddr6(addr)
      // ipaddr.js writes one form of the same rules: the twin.
      return parseAddr6(text) === addr && ipaddr.IPv6.parse(text).toRFC5952String() === text
    }),
  )
  fc.assert(
    fc.property(uint32, fc.integer({ min: 0, max: 32 }), (addr, len) => {
      const prefix = prefix4(addr, len)
      const isSame = isDeepStrictEqual(parsePrefix4(formatPrefix4(prefix)), prefix)
      return isSame && contains4(prefix, addr) && prefix.addr === prefix4(prefix.addr, len).addr
    }),
  )
  fc.assert(
    fc.property(uint128, fc.integer({ min: 0, max: 128 }), (addr, len) => {
      const prefix = prefix6(addr, len)
      const isSame = isDeepStrictEqual(parsePrefix6(formatPrefix6(prefix)), prefix)
      return isSame && contains6(prefix, addr)
    }),
  )
  const prefixes4 = fc.tuple(uint32, fc.integer({ min: 0, max: 32 }))
  fc.assert(
    fc.property(prefixes4, prefixes4, ([a, aLen], [b, bLen]) => {
      // Twin: two prefixes overlap when they agree at the shorter of the two lengths.
      const len = Math.min(aLen, bLen)
      const want = prefix4(a, len).addr === prefix4(b, len).addr
      return overlaps4(prefix4(a, aLen), prefix4(b, bLen)) === want
    }),
  )
  const lengths6 = fc.integer({ min: 0, max: 128 })
  fc.assert(
    fc.property(uint128, lengths6, lengths6, (addr, aLen, bLen) =>
      overlaps6(prefix6(addr, aLen), prefix6(addr, bLen)),
    ),
  )
  t.pass('for all addresses tried')
  t.end()
})
