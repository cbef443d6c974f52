/** ipv6.ts against kernel packets as tshark reads them, RFC 8200's corners, and RFC 5952's rules for text. */
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import t from 'tap'
import * as ipv6 from './ipv6.js'
import { createKernelHeaders, createView, describeHex } from './packet-fixture.js'

const hex = (value: number, digits: number): string =>
  `0x${value.toString(16).padStart(digits, '0')}`

/** tshark's field names and formats. */
const FIELDS: Record<string, (v: DataView, at: number) => string> = {
  'ipv6.version': (v, at) => String(v.getUint8(at) >>> 4),
  'ipv6.tclass': (v, at) => hex(ipv6.trafficClass(v, at), 8),
  'ipv6.flow': (v, at) => hex(ipv6.flowLabel(v, at), 6),
  'ipv6.plen': (v, at) => String(ipv6.payloadLen(v, at)),
  'ipv6.nxt': (v, at) => String(ipv6.nextHeader(v, at)),
  'ipv6.hlim': (v, at) => String(ipv6.hopLimit(v, at)),
  'ipv6.src': (v, at) => ipv6.describeAddress(v, at + ipv6.SRC_AT),
  'ipv6.dst': (v, at) => ipv6.describeAddress(v, at + ipv6.DST_AT),
}
const HEADERS = createKernelHeaders('ipv6')

/** 16 bytes of an address, by a library of its own. */
function addressView(text: string): DataView {
  return new DataView(Uint8Array.from(ipaddr.parse(text).toByteArray()).buffer)
}

t.test('take apart: every header of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 15, `${HEADERS.length} headers`)
  for (const { title, view, at, rest, fields } of HEADERS) {
    const got = Object.fromEntries([...fields].map(([key]) => [key, FIELDS[key]?.(view, at)]))
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(ipv6.check(view, at, rest), ipv6.OK, title)
    t.equal(ipv6.totalLen(view, at), 40 + Number(fields.get('ipv6.plen')), title)
  }
  t.end()
})

t.test('put together: write() makes the bytes that the kernel sent, over any old bytes', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const number = (key: string): number => Number(fields.get(key))
    for (const old of [0x00, 0xff]) {
      const v = new DataView(new Uint8Array(46).fill(old).buffer)
      ipv6.write(
        v,
        3,
        number('ipv6.plen'),
        number('ipv6.tclass'),
        number('ipv6.flow'),
        number('ipv6.nxt'),
        number('ipv6.hlim'),
        addressView(fields.get('ipv6.src')!),
        0,
        addressView(fields.get('ipv6.dst')!),
        0,
      )
      t.equal(describeHex(v, 3, 40), describeHex(view, at, 40), title)
      t.strictSame([v.getUint8(2), v.getUint8(43)], [old, old], 'neighbours untouched')
    }
  }
  t.end()
})

t.test('round trip: setters leave their neighbours alone', (t) => {
  fc.assert(
    fc.property(
      fc.tuple(fc.nat(0xff), fc.nat(0xfffff), fc.nat(0xffff), fc.nat(0xff), fc.nat(0xff)),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.constantFrom(0x00, 0xff),
      ([tclass, flow, len, next, hops], bytes, old) => {
        const addresses = new DataView(bytes.buffer)
        const v = new DataView(new Uint8Array(44).fill(old).buffer)
        ipv6.write(v, 2, len, tclass, flow, next, hops, addresses, 0, addresses, 16)
        const set = new DataView(new Uint8Array(44).fill(old).buffer)
        set.setUint8(2, 0x60 | (old & 15))
        ipv6.setFlowLabel(set, 2, flow)
        ipv6.setTrafficClass(set, 2, tclass)
        ipv6.setPayloadLen(set, 2, len)
        ipv6.setNextHeader(set, 2, next)
        ipv6.setHopLimit(set, 2, hops)
        ipv6.setSrc(set, 2, addresses, 0)
        ipv6.setDst(set, 2, addresses, 16)
        t.equal(describeHex(set), describeHex(v))
        t.strictSame(
          [
            ipv6.trafficClass(v, 2),
            ipv6.flowLabel(v, 2),
            ipv6.payloadLen(v, 2),
            ipv6.nextHeader(v, 2),
            ipv6.hopLimit(v, 2),
            ...[0, 1, 2, 3].map((word) => ipv6.srcWord(v, 2, word)),
            ...[0, 1, 2, 3].map((word) => ipv6.dstWord(v, 2, word)),
          ],
          [
            ...[tclass, flow, len, next, hops],
            ...[0, 4, 8, 12, 16, 20, 24, 28].map((i) => addresses.getInt32(i)),
          ],
        )
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of a captured packet is refused, padding is not', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const total = 40 + Number(fields.get('ipv6.plen'))
    const faults = new Set<number>()
    for (let len = 1; len < total; len++) faults.add(ipv6.check(view, at, len))
    t.strictSame([...faults], [ipv6.TRUNCATED], title)
    t.equal(ipv6.check(view, at, 0), ipv6.NOT_IPV6, title)
    t.equal(ipv6.check(view, at, total), ipv6.OK, title)
    t.equal(ipv6.check(view, at, total + 6), ipv6.OK, `${title}, padded`)
  }
  t.end()
})

t.test('shapes: other versions, no payload, the largest payload', (t) => {
  for (const [first, payload, len, want] of [
    [0x45, 0, 40, ipv6.NOT_IPV6],
    [0x50, 0, 40, ipv6.NOT_IPV6],
    [0x70, 0, 40, ipv6.NOT_IPV6],
    [0x60, 0, 40, ipv6.OK],
    [0x6f, 0, 40, ipv6.OK],
    [0x60, 1, 40, ipv6.TRUNCATED],
    [0x60, 65535, 65574, ipv6.TRUNCATED],
    [0x60, 65535, 65575, ipv6.OK],
  ] as const) {
    const v = new DataView(new ArrayBuffer(40))
    v.setUint8(0, first)
    v.setUint16(4, payload)
    t.equal(ipv6.check(v, 0, len), want, `${hex(first, 2)}, payload ${payload}, ${len} bytes`)
  }
  t.end()
})

t.test('decrementHopLimit lowers one byte, and wraps at 0 as the doc warns', (t) => {
  const v = new DataView(new Uint8Array(40).fill(0x60).buffer)
  ipv6.setHopLimit(v, 0, 2)
  t.equal(ipv6.decrementHopLimit(v, 0), 1)
  t.equal(ipv6.decrementHopLimit(v, 0), 0)
  t.equal(ipv6.hopLimit(v, 0), 0)
  t.equal(ipv6.decrementHopLimit(v, 0), 255)
  t.equal(ipv6.nextHeader(v, 0), 0x60)
  t.end()
})

/** RFC 5952 §4 and §5, and RFC 4291 §2.2. */
const TEXTS = [
  ['20 01 0d b8 00 00 00 00 00 00 00 00 00 02 00 01', '2001:db8::2:1'],
  ['20 01 0d b8 00 00 00 01 00 01 00 01 00 01 00 01', '2001:db8:0:1:1:1:1:1'],
  ['20 01 00 00 00 00 00 01 00 00 00 00 00 00 00 01', '2001:0:0:1::1'],
  ['20 01 0d b8 00 00 00 00 00 01 00 00 00 00 00 01', '2001:db8::1:0:0:1'],
  ['00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00', '::'],
  ['00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01', '::1'],
  ['ff 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00', 'ff01::'],
  ['fe 80 00 00 00 00 00 00 02 00 00 ff fe 00 00 0a', 'fe80::200:ff:fe00:a'],
  ['AB CD EF 01 23 45 67 89 AB CD EF 01 23 45 67 89', 'abcd:ef01:2345:6789:abcd:ef01:2345:6789'],
  ['00 00 00 00 00 00 00 00 00 00 ff ff c0 00 02 80', '::ffff:192.0.2.128'],
  ['00 00 00 00 00 00 00 00 ff ff 00 00 c0 00 02 80', '::ffff:0:c000:280'],
] as const
for (const [bytes, want] of TEXTS) {
  t.test(`text: ${want}`, (t) => {
    t.equal(ipv6.describeAddress(createView(bytes, 5), 5), want)
    t.end()
  })
}

t.test('text: any address parses back to itself', (t) => {
  const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.nat(0xffff))
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const v = new DataView(new ArrayBuffer(16))
      groups.forEach((value, i) => {
        v.setUint16(i * 2, value)
      })
      return describeHex(addressView(ipv6.describeAddress(v, 0))) === describeHex(v)
    }),
  )
  t.end()
})
