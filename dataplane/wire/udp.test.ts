/** udp.ts against kernel packets as tshark reads them, and the corners of RFC 768 and RFC 8200 §8.1. */
import fc from 'fast-check'
import t from 'tap'
import { pseudo4, pseudo6, sum } from './checksum.js'
import { createKernelHeaders, createView, describeHex, type HeaderCase } from './packet-fixture.js'
import * as udp from './udp.js'

const hex = (value: number): string => `0x${value.toString(16).padStart(4, '0')}`
const HEADERS = createKernelHeaders('udp')

/** Sum of the pseudo-header of a captured datagram: addresses straight from the bytes before it. */
function pseudoOf({ view, at, packet, fields }: HeaderCase): number {
  const len = Number(fields.get('udp.length'))
  const ip = createKernelHeaders('ip')
    .filter((c) => c.packet.name === packet.name && c.packet.file === packet.file && c.at < at)
    .at(-1)
  return ip === undefined
    ? pseudo6(view, 14 + 8, 14 + 24, 17, len)
    : pseudo4(view.getInt32(ip.at + 12), view.getInt32(ip.at + 16), 17, len)
}

t.test('take apart: every header of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 14, `${HEADERS.length} headers`)
  for (const header of HEADERS) {
    const { title, view, at, rest, fields } = header
    t.strictSame(
      [
        udp.srcPort(view, at),
        udp.dstPort(view, at),
        udp.length(view, at),
        hex(udp.checksum(view, at)),
      ].map(String),
      ['udp.srcport', 'udp.dstport', 'udp.length', 'udp.checksum'].map((key) => fields.get(key)),
      title,
    )
    t.equal(udp.check(view, at, rest), udp.OK, title)
    // tshark: 0 = bad, 1 = good, 3 = not present.
    const status = fields.get('udp.checksum.status')
    t.equal(udp.isChecksumRight(view, at, pseudoOf(header)), status === '1', title)
    t.equal(udp.hasChecksum(view, at), status !== '3', title)
  }
  t.end()
})

t.test('put together: write() and finishChecksum() make the bytes that the kernel sent', (t) => {
  for (const header of HEADERS) {
    const { title, view, at, fields } = header
    const v = createView(describeHex(view))
    for (let i = 0; i < 8; i++) v.setUint8(at + i, 0xff)
    const number = (key: string): number => Number(fields.get(key))
    udp.write(v, at, number('udp.srcport'), number('udp.dstport'), number('udp.length'))
    t.equal(udp.checksum(v, at), 0, 'none until it is made')
    if (fields.get('udp.checksum.status') === '1') udp.finishChecksum(v, at, pseudoOf(header))
    else udp.setChecksum(v, at, number('udp.checksum'))
    t.equal(describeHex(v), describeHex(view), title)
  }
  t.end()
})

t.test('round trip: what is set is read back, and nothing else changes', (t) => {
  const word = fc.nat(0xffff)
  fc.assert(
    fc.property(word, word, word, word, fc.constantFrom(0, 0xff), (src, dst, len, field, old) => {
      const v = new DataView(new Uint8Array(12).fill(old).buffer)
      udp.setSrcPort(v, 2, src)
      udp.setDstPort(v, 2, dst)
      udp.setLength(v, 2, len)
      udp.setChecksum(v, 2, field)
      t.strictSame(
        [udp.srcPort(v, 2), udp.dstPort(v, 2), udp.length(v, 2), udp.checksum(v, 2)],
        [src, dst, len, field],
      )
      t.strictSame([v.getUint8(1), v.getUint8(10)], [old, old], 'neighbours untouched')
      udp.write(v, 2, src, dst, len)
      t.strictSame([udp.srcPort(v, 2), udp.dstPort(v, 2), udp.length(v, 2)], [src, dst, len])
    }),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of a captured datagram is refused', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const faults = new Set<number>()
    const length = Number(fields.get('udp.length'))
    for (let len = 0; len < length; len++) faults.add(udp.check(view, at, len))
    t.strictSame([...faults], [udp.TRUNCATED], title)
    t.equal(udp.check(view, at, length), udp.OK, title)
  }
  t.end()
})

t.test('length field: below 8 is malformed, 8 is an empty datagram, more is padding', (t) => {
  for (const [length, want] of [
    [0, udp.MALFORMED],
    [7, udp.MALFORMED],
    [8, udp.OK],
    [15, udp.OK],
    [16, udp.OK],
    [17, udp.TRUNCATED],
  ] as const) {
    const v = new DataView(new ArrayBuffer(16))
    udp.write(v, 0, 1, 2, length)
    t.equal(udp.check(v, 0, 16), want, String(length))
  }
  t.end()
})

t.test('RFC 768: a checksum that comes out as zero is sent as all ones, and is right', (t) => {
  t.equal(udp.fieldFor(0xffff), 0xffff)
  t.equal(udp.fieldFor(0xfffe), 0x0001)
  t.equal(udp.fieldFor(0), 0xffff)
  // 10.5.1.0:40000 to 10.5.2.0:5000, two bytes that make the sum 0xffff.
  const v = createView('9c 40 13 88 00 0a 00 00 00 00', 1)
  const pseudo = pseudo4(0x0a050100, 0x0a050200, 17, 10)
  v.setUint16(9, 0xffff - sum(v, 1, 8, pseudo))
  udp.finishChecksum(v, 1, pseudo)
  t.equal(udp.checksum(v, 1), 0xffff)
  t.ok(udp.isChecksumRight(v, 1, pseudo))
  v.setUint8(10, v.getUint8(10) ^ 1)
  t.notOk(udp.isChecksumRight(v, 1, pseudo))
  t.end()
})

t.test('a datagram without a checksum is not right', (t) => {
  const v = createView('9c 40 13 88 00 0a 00 00 12 34')
  t.notOk(udp.isChecksumRight(v, 0, 0xffff - sum(v, 0, 10)), 'even if the sum would fit')
  t.end()
})
