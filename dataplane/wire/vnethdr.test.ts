/** vnethdr.ts against headers that a TUN handed over, and what Linux refuses on a write. */
import fc from 'fast-check'
import t from 'tap'
import { VNET_HDR_LEN } from '../packet/layout.js'
import * as ipv4 from './ipv4.js'
import { createPacketCases, createView, describeHex } from './packet-fixture.js'
import * as vnethdr from './vnethdr.js'

/** The kernel's headers: `fields: flags=1 gso=0 …`, and the length that read() returned. */
const CASES = createPacketCases('kernel-vnethdr.hex').map(({ name, notes, view }) => ({
  name,
  view,
  len: Number(notes.get('length')?.[0]),
  want: Object.fromEntries(
    notes
      .get('fields')![0]!
      .split(' ')
      .map((pair): [string, number] => {
        const [key = '', value = ''] = pair.split('=')
        return [key, Number(value)]
      }),
  ),
}))

t.test('the layout of packets leaves room for exactly this header', (t) => {
  t.equal(VNET_HDR_LEN, vnethdr.HEADER_LEN)
  t.end()
})

for (const { name, view, len, want } of CASES) {
  t.test(`take apart, put together: ${name}`, (t) => {
    t.strictSame(
      {
        flags: vnethdr.flags(view, 0),
        gso: vnethdr.gsoType(view, 0),
        hdrLen: vnethdr.hdrLen(view, 0),
        gsoSize: vnethdr.gsoSize(view, 0),
        csumStart: vnethdr.csumStart(view, 0),
        csumOffset: vnethdr.csumOffset(view, 0),
      },
      want,
    )
    t.equal(vnethdr.check(view, 0, len), vnethdr.OK)
    t.notOk(vnethdr.hasEcn(view, 0))
    t.match(ipv4.version(view, 10), /^[46]$/, 'the packet begins behind it')
    for (const old of [0x00, 0xff]) {
      const v = new DataView(new Uint8Array(14).fill(old).buffer)
      const { flags, gso, hdrLen, gsoSize, csumStart, csumOffset } = want
      vnethdr.write(v, 2, flags!, gso!, hdrLen!, gsoSize!, csumStart!, csumOffset!)
      t.equal(describeHex(v, 2, 10), describeHex(view, 0, 10))
      t.strictSame([v.getUint8(1), v.getUint8(12)], [old, old], 'neighbours untouched')
    }
    t.end()
  })
}

t.test('clear() leaves ten zero bytes and no more', (t) => {
  const v = new DataView(new Uint8Array(12).fill(0xff).buffer)
  vnethdr.clear(v, 1)
  t.equal(describeHex(v), 'ff 00 00 00 00 00 00 00 00 00 00 ff')
  t.equal(vnethdr.check(v, 1, 10), vnethdr.OK)
  t.end()
})

t.test('round trip: any values', (t) => {
  const word = fc.nat(0xffff)
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(255),
      word,
      word,
      word,
      word,
      (flags, gso, h, s, start, off) => {
        const v = new DataView(new ArrayBuffer(16))
        vnethdr.write(v, 6, flags, gso, h, s, start, off)
        t.strictSame(
          [
            vnethdr.flags(v, 6),
            vnethdr.gsoType(v, 6) | (vnethdr.hasEcn(v, 6) ? vnethdr.GSO_ECN : 0),
            vnethdr.hdrLen(v, 6),
            vnethdr.gsoSize(v, 6),
            vnethdr.csumStart(v, 6),
            vnethdr.csumOffset(v, 6),
            vnethdr.needsCsum(v, 6),
          ],
          [flags, gso, h, s, start, off, flags % 2 === 1],
        )
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of the header is refused', (t) => {
  const v = new DataView(new ArrayBuffer(10))
  for (let len = 0; len < 10; len++) t.equal(vnethdr.check(v, 0, len), vnethdr.TRUNCATED)
  t.equal(vnethdr.check(v, 0, 10), vnethdr.OK)
  t.end()
})

/** Header bytes, little-endian; bytes of the packet behind it; answer. */
const SHAPES = [
  ['checksum field ends with the packet', '01 00 00 00 00 00 14 00 10 00', 38, vnethdr.OK],
  ['checksum field past the end', '01 00 00 00 00 00 14 00 10 00', 37, vnethdr.OUTSIDE_PACKET],
  ['positions without NEEDS_CSUM are idle', '00 00 00 00 00 00 ff ff ff ff', 20, vnethdr.OK],
  ['the largest positions', '01 00 00 00 00 00 ff ff ff ff', 65535, vnethdr.OUTSIDE_PACKET],
  ['header length past the end', '01 01 29 00 64 00 14 00 10 00', 40, vnethdr.OUTSIDE_PACKET],
  ['TCP super-packet without a size', '01 01 28 00 00 00 14 00 10 00', 400, vnethdr.NO_GSO_SIZE],
  ['GSO type 2', '01 02 28 00 64 00 14 00 10 00', 400, vnethdr.UNKNOWN_GSO],
  ['GSO type 6', '01 06 28 00 64 00 14 00 10 00', 400, vnethdr.UNKNOWN_GSO],
  ['UDP tunnel bit of Linux 6.17', '01 21 28 00 64 00 14 00 10 00', 400, vnethdr.UNKNOWN_GSO],
  ['ECN beside TCPv6', '01 84 3c 00 64 00 28 00 10 00', 400, vnethdr.OK],
] as const
for (const [name, hex, packetLen, want] of SHAPES) {
  t.test(`shape: ${name}`, (t) => {
    t.equal(vnethdr.check(createView(hex, 6), 6, 10 + packetLen), want)
    t.end()
  })
}

t.test('text', (t) => {
  for (const [hex, want] of [
    ['00 00 00 00 00 00 00 00 00 00', 'gso none'],
    ['01 00 00 00 00 00 14 00 10 00', 'gso none, needs checksum at 20+16'],
    [
      '01 81 34 00 44 05 14 00 10 00',
      'gso tcpv4+ecn, size 1348, headers 52, needs checksum at 20+16',
    ],
    ['02 05 1c 00 64 00 00 00 00 00', 'gso udp-l4, size 100, headers 28, checksum verified'],
    ['00 09 00 00 00 00 00 00 00 00', 'gso 9, size 0, headers 0'],
  ] as const) {
    t.equal(vnethdr.describe(createView(hex), 0), want)
  }
  t.end()
})
