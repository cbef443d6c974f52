/** ipv4.ts against kernel packets as tshark reads them, and the corners of RFC 791 and RFC 1812. */
import fc from 'fast-check'
import t from 'tap'
import {
  DROP_IPV4_MALFORMED,
  DROP_IPV4_TRUNCATED,
  DROP_NOT_IP,
  FORWARD,
} from '../packet/verdict.js'
import { finish, sum, update } from './checksum.js'
import * as ipv4 from './ipv4.js'
import { createKernelHeaders, createView, describeHex } from './packet-fixture.js'

const hex = (value: number, digits: number): string =>
  `0x${value.toString(16).padStart(digits, '0')}`
const bit = (claim: boolean): string => (claim ? '1' : '0')

/** tshark's field names and formats. */
const FIELDS: Record<string, (v: DataView, at: number) => string> = {
  'ip.version': (v, at) => String(ipv4.version(v, at)),
  'ip.hdr_len': (v, at) => String(ipv4.headerLen(v, at)),
  'ip.dsfield': (v, at) => hex(ipv4.tos(v, at), 2),
  'ip.len': (v, at) => String(ipv4.totalLen(v, at)),
  'ip.id': (v, at) => hex(ipv4.id(v, at), 4),
  'ip.flags.rb': (v, at) => bit((ipv4.flagsAndOffset(v, at) & 0x8000) !== 0),
  'ip.flags.df': (v, at) => bit(ipv4.hasDontFragment(v, at)),
  'ip.flags.mf': (v, at) => bit(ipv4.hasMoreFragments(v, at)),
  'ip.frag_offset': (v, at) => String(ipv4.fragmentOffset(v, at) / 8),
  'ip.ttl': (v, at) => String(ipv4.ttl(v, at)),
  'ip.proto': (v, at) => String(ipv4.protocol(v, at)),
  'ip.checksum': (v, at) => hex(ipv4.checksum(v, at), 4),
  'ip.checksum.status': (v, at) => bit(ipv4.isChecksumRight(v, at)),
  'ip.src': (v, at) => ipv4.describeAddress(ipv4.src(v, at)),
  'ip.dst': (v, at) => ipv4.describeAddress(ipv4.dst(v, at)),
}
const HEADERS = createKernelHeaders('ip')

t.test('take apart: every header of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 20, `${HEADERS.length} headers`)
  for (const { title, view, at, rest, fields } of HEADERS) {
    const got = Object.fromEntries([...fields].map(([key]) => [key, FIELDS[key]?.(view, at)]))
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(ipv4.check(view, at, rest), FORWARD, title)
  }
  t.end()
})

t.test('put together: write() makes the bytes that the kernel sent, over any old bytes', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    if (fields.get('ip.hdr_len') !== '20') continue
    const number = (key: string): number => Number(fields.get(key))
    const bits = (key: string): number =>
      fields
        .get(key)!
        .split('.')
        .reduce((all, byte) => (all << 8) | Number(byte), 0)
    const flags =
      number('ip.flags.df') * ipv4.DONT_FRAGMENT + number('ip.flags.mf') * ipv4.MORE_FRAGMENTS
    for (const old of [0x00, 0xff]) {
      const v = new DataView(new Uint8Array(26).fill(old).buffer)
      ipv4.write(
        v,
        3,
        number('ip.len'),
        number('ip.dsfield'),
        number('ip.id'),
        flags + number('ip.frag_offset'),
        number('ip.ttl'),
        number('ip.proto'),
        bits('ip.src'),
        bits('ip.dst'),
      )
      t.equal(describeHex(v, 3, 20), describeHex(view, at, 20), title)
      t.strictSame([v.getUint8(2), v.getUint8(23)], [old, old], 'neighbours untouched')
    }
  }
  t.end()
})

t.test('round trip: what is set is read back, and nothing else changes', (t) => {
  const byte = fc.nat(0xff)
  const word = fc.nat(0xffff)
  const int32 = fc.integer()
  fc.assert(
    fc.property(
      fc.tuple(word, byte, word, word, byte, byte, int32, int32),
      ([len, tos, id, flags, ttl, protocol, src, dst]) => {
        const v = new DataView(new ArrayBuffer(24))
        ipv4.write(v, 2, len, tos, id, flags, ttl, protocol, src, dst)
        const w = createView('45', 2 + 19)
        const set = new DataView(new Uint8Array(24).buffer)
        set.setUint8(2, w.getUint8(21))
        ipv4.setTotalLen(set, 2, len)
        ipv4.setTos(set, 2, tos)
        ipv4.setId(set, 2, id)
        ipv4.setFlagsAndOffset(set, 2, flags)
        ipv4.setTtl(set, 2, ttl)
        ipv4.setProtocol(set, 2, protocol)
        ipv4.setSrc(set, 2, src)
        ipv4.setDst(set, 2, dst)
        ipv4.finishChecksum(set, 2)
        t.equal(describeHex(set), describeHex(v))
        t.strictSame(
          [
            ipv4.totalLen(v, 2),
            ipv4.tos(v, 2),
            ipv4.id(v, 2),
            ipv4.flagsAndOffset(v, 2),
            ipv4.ttl(v, 2),
            ipv4.protocol(v, 2),
            ipv4.src(v, 2),
            ipv4.dst(v, 2),
            ipv4.isChecksumRight(v, 2),
          ],
          [len, tos, id, flags, ttl, protocol, src, dst, true],
        )
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of a captured packet is refused, padding is not', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const total = Number(fields.get('ip.len'))
    const verdicts = new Set<number>()
    for (let len = 1; len < total; len++) verdicts.add(ipv4.check(view, at, len))
    t.strictSame([...verdicts], [DROP_IPV4_TRUNCATED], title)
    t.equal(ipv4.check(view, at, 0), DROP_NOT_IP, title)
    t.equal(ipv4.check(view, at, total), FORWARD, title)
    t.equal(ipv4.check(view, at, total + 18), FORWARD, `${title}, padded`)
  }
  t.end()
})

/** RFC 1812 §5.2.2: first bytes (zeros follow), bytes there are, verdict. */
const SHAPES: readonly (readonly [string, string, number, number])[] = [
  ['version 6', '60 00 00 14', 40, DROP_NOT_IP],
  ['version 5', '55 00 00 14', 20, DROP_NOT_IP],
  ['version 0', '05 00 00 14', 20, DROP_NOT_IP],
  ['IHL 0', '40 00 00 14', 20, DROP_IPV4_MALFORMED],
  ['IHL 4', '44 00 00 14', 20, DROP_IPV4_MALFORMED],
  ['IHL 5', '45 00 00 14', 20, FORWARD],
  ['IHL 6 in 20 bytes', '46 00 00 18', 20, DROP_IPV4_TRUNCATED],
  ['IHL 6 in 24 bytes', '46 00 00 18', 24, FORWARD],
  ['IHL 6, total length 20', '46 00 00 14', 24, DROP_IPV4_MALFORMED],
  ['IHL 15', '4f 00 00 3c', 60, FORWARD],
  ['total length 0', '45 00 00 00', 60, DROP_IPV4_MALFORMED],
  ['total length 19', '45 00 00 13', 60, DROP_IPV4_MALFORMED],
  ['total length 61 of 60', '45 00 00 3d', 60, DROP_IPV4_TRUNCATED],
  ['total length 65535', '45 00 ff ff', 60, DROP_IPV4_TRUNCATED],
]
for (const [name, start, len, want] of SHAPES) {
  t.test(`shape: ${name}`, (t) => {
    const v = createView(start + '00'.repeat(60), 5)
    t.equal(ipv4.check(v, 5, len), want)
    t.end()
  })
}

t.test('fragments: first, middle, last, and a packet that is none', (t) => {
  for (const [word, isFragment, isLater, offset] of [
    [0x0000, false, false, 0],
    [0x4000, false, false, 0],
    [0x8000, false, false, 0],
    [0x2000, true, false, 0],
    [0x20b9, true, true, 1480],
    [0x00b9, true, true, 1480],
    [0x1fff, true, true, 65528],
  ] as const) {
    const v = new DataView(new ArrayBuffer(20))
    ipv4.setFlagsAndOffset(v, 0, word)
    t.equal(ipv4.isFragment(v, 0), isFragment, hex(word, 4))
    t.equal(ipv4.isLaterFragment(v, 0), isLater, hex(word, 4))
    t.equal(ipv4.fragmentOffset(v, 0), offset, hex(word, 4))
  }
  t.end()
})

t.test('the checksum covers options, and one flipped bit anywhere is noticed', (t) => {
  for (const { title, view, at } of HEADERS) {
    const copy = createView(describeHex(view))
    for (let i = at + 1; i < at + ipv4.headerLen(view, at); i++) {
      copy.setUint8(i, view.getUint8(i) ^ 0x10)
      if (ipv4.isChecksumRight(copy, at)) t.fail(`${title}: byte ${i - at}`)
      copy.setUint8(i, view.getUint8(i))
    }
    ipv4.finishChecksum(copy, at)
    t.equal(describeHex(copy), describeHex(view), title)
  }
  t.end()
})

/** The kernel's ip_decrease_ttl, word by word, on a big-endian reading of the checksum. */
function kernelDecrease(checksum: number): number {
  const patched = checksum + 0x0100
  return (patched + (patched >= 0xffff ? 1 : 0)) & 0xffff
}

t.test('decrementTtl: every checksum value is patched as the kernel patches it', (t) => {
  const v = createView('45 00 00 14 00 00 00 00 40 11 00 00 0a 05 01 07 0a 05 02 09', 1)
  let wrong = 0
  for (let field = 0; field <= 0xffff; field++) {
    ipv4.setTtl(v, 1, 64)
    ipv4.setChecksum(v, 1, field)
    if (ipv4.decrementTtl(v, 1) !== 63 || ipv4.ttl(v, 1) !== 63) wrong++
    if (ipv4.checksum(v, 1) !== kernelDecrease(field)) wrong++
    // RFC 1624 eqn. 3 agrees, but for the two ways to write zero.
    if ((ipv4.checksum(v, 1) - update(field, 0x4011, 0x3f11)) % 0xffff !== 0) wrong++
  }
  t.equal(wrong, 0)
  t.end()
})

t.test('decrementTtl: kernel packets stay right from their TTL down to 0', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const v = createView(describeHex(view))
    const before = describeHex(view, at)
    for (let ttl = Number(fields.get('ip.ttl')) - 1; ttl >= 0; ttl--) {
      if (ipv4.decrementTtl(v, at) !== ttl || !ipv4.isChecksumRight(v, at)) t.fail(title)
    }
    ipv4.setTtl(v, at, Number(fields.get('ip.ttl')))
    ipv4.setChecksum(v, at, Number(fields.get('ip.checksum')))
    t.equal(describeHex(v, at), before, `${title}: nothing else changed`)
  }
  t.end()
})

t.test('decrementTtl: TTL 0 wraps to 255 as the doc warns', (t) => {
  const v = createView('45 00 00 14 00 00 00 00 00 11 00 00 0a 05 01 07 0a 05 02 09')
  t.equal(ipv4.decrementTtl(v, 0), 255)
  t.end()
})

t.test('a known header: 192.168.0.1 to 192.168.0.199, checksum 0xb861', (t) => {
  // The example of the Internet checksum in many textbooks.
  const v = createView('45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7')
  t.ok(ipv4.isChecksumRight(v, 0))
  t.equal(sum(v, 0, 20), 0xffff)
  ipv4.setChecksum(v, 0, 0)
  t.equal(finish(ipv4.headerSum(v, 0)), 0xb861)
  t.end()
})

t.test('describeAddress takes int32 and uint32', (t) => {
  for (const [bits, want] of [
    [0, '0.0.0.0'],
    [-1, '255.255.255.255'],
    [0xffffffff, '255.255.255.255'],
    [0xc0000201, '192.0.2.1'],
    [0xc0000201 | 0, '192.0.2.1'],
    [0x7f000001, '127.0.0.1'],
  ] as const) {
    t.equal(ipv4.describeAddress(bits), want)
  }
  t.end()
})

t.test('markCongested: the checksum is the one of a header written so', (t) => {
  const [marked, fresh] = [0, 1].map(() => new DataView(new ArrayBuffer(ipv4.HEADER_LEN))) as [
    DataView,
    DataView,
  ]
  let wrong = 0
  for (let id = 0; id <= 0xffff; id++) {
    const tos = id & 0xff
    ipv4.write(marked, 0, 1500, tos, id, ipv4.DONT_FRAGMENT, 64, 6, 0x0a050102, 0x0a050203)
    ipv4.write(fresh, 0, 1500, tos | 3, id, ipv4.DONT_FRAGMENT, 64, 6, 0x0a050102, 0x0a050203)
    ipv4.markCongested(marked, 0)
    if (!Buffer.from(marked.buffer).equals(Buffer.from(fresh.buffer))) wrong++
  }
  t.equal(wrong, 0)
  t.end()
})
