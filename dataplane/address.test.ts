import fc from 'fast-check'
import t from 'tap'
import {
  formatAddress4,
  formatAddress6,
  formatPrefix4,
  formatPrefix6,
  mask4,
  maskAddress6,
  parseAddress4,
  parseAddress6,
  parsePrefix4,
  parsePrefix6,
} from './address.js'

const hex = (bytes: Uint8Array | null) => bytes && Buffer.from(bytes).toString('hex')

t.test('IPv4 text to address bits', (t) => {
  const cases: [string, number | null][] = [
    ['0.0.0.0', 0],
    ['10.5.1.7', 0x0a050107],
    ['127.255.255.255', 0x7fffffff],
    ['128.0.0.0', -0x80000000],
    ['255.255.255.255', -1],
    ['10.5.1', null],
    ['10.5.1.256', null],
    ['010.5.1.1', null],
    ['0x0a.5.1.1', null],
    [' 10.5.1.1', null],
    ['10.5.1.1/24', null],
    ['::1', null],
    ['', null],
  ]
  for (const [text, want] of cases) t.equal(parseAddress4(text), want, text)
  t.end()
})

t.test('IPv6 text to bytes', (t) => {
  const cases: [string, string | null][] = [
    ['::', '00000000000000000000000000000000'],
    ['2001:db8::1', '20010db8000000000000000000000001'],
    ['2001:DB8:0:0:8:800:200C:417A', '20010db80000000000080800200c417a'],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
    ['fe80::1%eth0', null],
    ['2001:db8::1::', null],
    ['2001:db8', null],
    ['12345::', null],
    ['192.0.2.1', null],
    ['', null],
  ]
  for (const [text, want] of cases) t.equal(hex(parseAddress6(text)), want, text)
  t.end()
})

t.test('IPv6 bytes to RFC 5952 text (examples of its sections 4 and 5)', (t) => {
  const cases: [string, string][] = [
    ['20010db8000000000000000000020001', '2001:db8::2:1'],
    ['20010db8000000010001000100010001', '2001:db8:0:1:1:1:1:1'],
    ['20010000000000010000000000000001', '2001:0:0:1::1'],
    ['20010db8000000000001000000000001', '2001:db8::1:0:0:1'],
  ]
  for (const [bytes, want] of cases) {
    t.equal(formatAddress6(Buffer.from('ffff' + bytes, 'hex'), 2), want, want)
  }
  t.end()
})

t.test('prefixes', (t) => {
  t.same(parsePrefix4('10.5.0.0/16'), { addr: 0x0a050000, len: 16 })
  t.same(parsePrefix4('0.0.0.0/0'), { addr: 0, len: 0 })
  t.same(parsePrefix4('255.255.255.255/32'), { addr: -1, len: 32 })
  t.equal(formatPrefix4({ addr: 0xc0000200 | 0, len: 24 }), '192.0.2.0/24')
  for (const bad of ['10.5.0.0', '10.5.0.1/16', '10.5.0.0/33', '10.5.0.0/', '10.5.0.0/016', '/8']) {
    t.equal(parsePrefix4(bad), null, bad)
  }
  const prefix6 = parsePrefix6('2001:db8::/33')
  t.equal(hex(prefix6!.addr), '20010db8000000000000000000000000')
  t.equal(prefix6!.len, 33)
  t.equal(formatPrefix6(prefix6!), '2001:db8::/33')
  for (const bad of ['2001:db8::', '2001:db8::/28', '::/129', '::1/127', '::/-1', '::%1/0']) {
    t.equal(parsePrefix6(bad), null, bad)
  }
  t.end()
})

t.test('masks', (t) => {
  const cases: [number, number][] = [
    [0, 0],
    [1, -0x80000000],
    [8, 0xff000000 | 0],
    [31, -2],
    [32, -1],
  ]
  for (const [len, want] of cases) t.equal(mask4(len), want, `/${String(len)}`)
  for (const [len, want] of [
    [0, '0'.repeat(32)],
    [3, 'e0' + '0'.repeat(30)],
    [64, 'f'.repeat(16) + '0'.repeat(16)],
    [127, 'f'.repeat(31) + 'e'],
    [128, 'f'.repeat(32)],
  ] as const) {
    const bytes = new Uint8Array(16).fill(0xff)
    maskAddress6(bytes, len)
    t.equal(hex(bytes), want, `/${String(len)}`)
  }
  t.end()
})

t.test('text and back is the identity', (t) => {
  fc.assert(fc.property(fc.integer(), (addr) => parseAddress4(formatAddress4(addr)) === addr))
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      (bytes) => hex(parseAddress6(formatAddress6(bytes))) === hex(bytes),
    ),
  )
  t.end()
})
