/** icmpv4.ts against kernel messages as tshark reads them, and which types are errors (RFC 1122 §3.2.2). */
import fc from 'fast-check'
import t from 'tap'
import * as icmpv4 from './icmpv4.js'
import { createKernelHeaders, createView, describeHex, type HeaderCase } from './packet-fixture.js'

/** tshark's field names and formats. */
const FIELDS: Record<string, (v: DataView, at: number, len: number) => string> = {
  'icmp.type': (v, at) => String(icmpv4.type(v, at)),
  'icmp.code': (v, at) => String(icmpv4.code(v, at)),
  'icmp.checksum': (v, at) => `0x${icmpv4.checksum(v, at).toString(16).padStart(4, '0')}`,
  'icmp.checksum.status': (v, at, len) => (icmpv4.isChecksumRight(v, at, len) ? '1' : '0'),
  'icmp.ident': (v, at) => String(icmpv4.id(v, at)),
  'icmp.seq': (v, at) => String(icmpv4.seq(v, at)),
}
const HEADERS = createKernelHeaders('icmp')

/** Message length by the IP header before it, which tshark names in the same section. */
function lenOf({ packet, at }: HeaderCase): number {
  const ip = createKernelHeaders('ip')
    .filter((c) => c.packet.name === packet.name && c.packet.file === packet.file && c.at < at)
    .at(-1)!
  return Number(ip.fields.get('ip.len')) - Number(ip.fields.get('ip.hdr_len'))
}

t.test('take apart: every message of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 6, `${HEADERS.length} messages`)
  for (const header of HEADERS) {
    const { title, view, at, rest, fields } = header
    const got = Object.fromEntries(
      [...fields].map(([key]) => [key, FIELDS[key]?.(view, at, lenOf(header))]),
    )
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(icmpv4.check(view, at, rest), icmpv4.OK, title)
  }
  t.end()
})

t.test('put together: write() and the checksum make the bytes that the kernel sent', (t) => {
  for (const header of HEADERS) {
    const { title, view, at, fields } = header
    const number = (key: string): number => Number(fields.get(key) ?? 0)
    const rest = (number('icmp.ident') << 16) | number('icmp.seq')
    const len = lenOf(header)
    const v = createView(describeHex(view))
    for (let i = 0; i < 8; i++) v.setUint8(at + i, 0xff)
    icmpv4.write(v, at, number('icmp.type'), number('icmp.code'), rest)
    icmpv4.finishChecksum(v, at, len)
    t.equal(describeHex(v), describeHex(view), title)
    for (let i = 0; i < 8; i++) v.setUint8(at + i, 0xff)
    icmpv4.writeError(v, at, number('icmp.type'), number('icmp.code'), rest, len)
    t.equal(describeHex(v), describeHex(view), `${title}, in one call`)
  }
  t.end()
})

t.test('round trip: what is set is read back, and nothing else changes', (t) => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(255),
      fc.nat(0xffff),
      fc.integer(),
      fc.constantFrom(0, 0xff),
      (type, code, checksum, rest, old) => {
        const v = new DataView(new Uint8Array(12).fill(old).buffer)
        icmpv4.setType(v, 2, type)
        icmpv4.setCode(v, 2, code)
        icmpv4.setChecksum(v, 2, checksum)
        icmpv4.setRest(v, 2, rest)
        t.strictSame(
          [
            icmpv4.type(v, 2),
            icmpv4.code(v, 2),
            icmpv4.checksum(v, 2),
            icmpv4.rest(v, 2),
            icmpv4.id(v, 2),
            icmpv4.seq(v, 2),
            icmpv4.mtu(v, 2),
            icmpv4.pointer(v, 2),
          ],
          [type, code, checksum, rest, rest >>> 16, rest & 0xffff, rest & 0xffff, rest >>> 24],
        )
        t.strictSame([v.getUint8(1), v.getUint8(10)], [old, old], 'neighbours untouched')
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of the header is refused', (t) => {
  const { view, at } = HEADERS[0]!
  for (let len = 0; len < 8; len++) t.equal(icmpv4.check(view, at, len), icmpv4.TRUNCATED)
  t.equal(icmpv4.check(view, at, 8), icmpv4.OK)
  t.end()
})

t.test('errors are the five types of RFC 1122 §3.2.2, and no other', (t) => {
  const errors = []
  const v = new DataView(new ArrayBuffer(1))
  for (let type = 0; type < 256; type++) {
    v.setUint8(0, type)
    if (icmpv4.isError(v, 0)) errors.push(type)
  }
  t.strictSame(errors, [3, 4, 5, 11, 12])
  t.end()
})

/** Hand-written headers: RFC 792 and RFC 1191 §4. */
const TEXTS = [
  ['03 04 00 00 00 00 05 78', 'ICMP unreachable - need to frag (mtu 1400), length 8'],
  ['03 00 00 00 00 00 00 00', 'ICMP net unreachable, length 8'],
  ['03 0d 00 00 00 00 00 00', 'ICMP admin prohibited, length 8'],
  ['03 63 00 00 00 00 00 00', 'ICMP unreachable #99, length 8'],
  ['0b 00 00 00 00 00 00 00', 'ICMP time exceeded in-transit, length 8'],
  ['0b 01 00 00 00 00 00 00', 'ICMP time exceeded in reassembly (code 1), length 8'],
  ['0c 00 00 00 14 00 00 00', 'ICMP parameter problem - octet 20, length 8'],
  ['05 01 00 00 c0 00 02 01', 'ICMP redirect, code 1, length 8'],
  ['04 00 00 00 00 00 00 00', 'ICMP source quench, length 8'],
  ['08 00 00 00 12 34 00 01', 'ICMP echo request, id 4660, seq 1, length 8'],
  ['0d 00 00 00 00 00 00 00', 'ICMP type 13, code 0, length 8'],
] as const
for (const [hex, want] of TEXTS) {
  t.test(`text: ${want}`, (t) => {
    t.equal(icmpv4.describe(createView(hex, 3), 3, 8), want)
    t.end()
  })
}
