/** icmpv6.ts against kernel messages as tshark reads them, and the error rule of RFC 4443 §2.1. */
import fc from 'fast-check'
import t from 'tap'
import { pseudo6 } from './checksum.js'
import * as icmpv6 from './icmpv6.js'
import { createKernelHeaders, createView, describeHex, type HeaderCase } from './packet-fixture.js'

const HEADERS = createKernelHeaders('icmpv6')

/** The IPv6 header before the message, which tshark names in the same section. */
function ipOf({ packet, at }: HeaderCase): HeaderCase {
  return createKernelHeaders('ipv6')
    .filter((c) => c.packet.name === packet.name && c.packet.file === packet.file && c.at < at)
    .at(-1)!
}
function lenOf(header: HeaderCase): number {
  const ip = ipOf(header)
  return ip.at + 40 + Number(ip.fields.get('ipv6.plen')) - header.at
}
function pseudoOf(header: HeaderCase): number {
  const ip = ipOf(header)
  return pseudo6(header.view, ip.at + 8, ip.at + 24, 58, lenOf(header))
}

/** tshark's field names and formats. */
const FIELDS: Record<string, (v: DataView, at: number, header: HeaderCase) => string> = {
  'icmpv6.type': (v, at) => String(icmpv6.type(v, at)),
  'icmpv6.code': (v, at) => String(icmpv6.code(v, at)),
  'icmpv6.checksum': (v, at) => `0x${icmpv6.checksum(v, at).toString(16).padStart(4, '0')}`,
  'icmpv6.checksum.status': (v, at, header) =>
    icmpv6.isChecksumRight(v, at, lenOf(header), pseudoOf(header)) ? '1' : '0',
  'icmpv6.echo.identifier': (v, at) => `0x${icmpv6.id(v, at).toString(16).padStart(4, '0')}`,
  'icmpv6.echo.sequence_number': (v, at) => String(icmpv6.seq(v, at)),
}

t.test('take apart: every message of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 6, `${HEADERS.length} messages`)
  for (const header of HEADERS) {
    const { title, view, at, rest, fields } = header
    const got = Object.fromEntries(
      [...fields].map(([key]) => [key, FIELDS[key]?.(view, at, header)]),
    )
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(icmpv6.check(view, at, rest), icmpv6.OK, title)
  }
  t.end()
})

t.test('put together: write() and the checksum make the bytes that the kernel sent', (t) => {
  for (const header of HEADERS) {
    const { title, view, at, fields } = header
    const number = (key: string): number => Number(fields.get(key) ?? 0)
    const isEcho = fields.has('icmpv6.echo.identifier')
    const rest = isEcho
      ? (number('icmpv6.echo.identifier') << 16) | number('icmpv6.echo.sequence_number')
      : view.getInt32(at + 4)
    const v = createView(describeHex(view))
    for (let i = 0; i < 8; i++) v.setUint8(at + i, 0xff)
    icmpv6.write(v, at, number('icmpv6.type'), number('icmpv6.code'), rest)
    icmpv6.finishChecksum(v, at, lenOf(header), pseudoOf(header))
    t.equal(describeHex(v), describeHex(view), title)
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
        icmpv6.setType(v, 2, type)
        icmpv6.setCode(v, 2, code)
        icmpv6.setChecksum(v, 2, checksum)
        icmpv6.setRest(v, 2, rest)
        t.strictSame(
          [
            icmpv6.type(v, 2),
            icmpv6.code(v, 2),
            icmpv6.checksum(v, 2),
            icmpv6.rest(v, 2),
            icmpv6.id(v, 2),
            icmpv6.seq(v, 2),
            icmpv6.mtu(v, 2),
            icmpv6.pointer(v, 2),
          ],
          [type, code, checksum, rest, rest >>> 16, rest & 0xffff, rest >>> 0, rest >>> 0],
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
  for (let len = 0; len < 8; len++) t.equal(icmpv6.check(view, at, len), icmpv6.TRUNCATED)
  t.equal(icmpv6.check(view, at, 8), icmpv6.OK)
  t.end()
})

t.test('RFC 4443 §2.1: types below 128 are errors, known or not', (t) => {
  const v = new DataView(new ArrayBuffer(1))
  for (const [type, want] of [
    [0, true],
    [1, true],
    [100, true],
    [127, true],
    [128, false],
    [135, false],
    [255, false],
  ] as const) {
    v.setUint8(0, type)
    t.equal(icmpv6.isError(v, 0), want, String(type))
  }
  t.end()
})

/** Hand-written messages: RFC 4443 §3 and RFC 4861 §4. */
const TEXTS = [
  ['02 00 00 00 00 00 05 00', 'ICMP6, packet too big, mtu 1280, length 8'],
  ['02 00 00 00 ff ff ff ff', 'ICMP6, packet too big, mtu 4294967295, length 8'],
  ['01 00 00 00 00 00 00 00', 'ICMP6, unreachable, no route, length 8'],
  ['01 04 00 00 00 00 00 00', 'ICMP6, unreachable, port, length 8'],
  ['01 63 00 00 00 00 00 00', 'ICMP6, unreachable, #99, length 8'],
  ['03 01 00 00 00 00 00 00', 'ICMP6, time exceeded in reassembly (code 1), length 8'],
  ['04 01 00 00 00 00 00 28', 'ICMP6, parameter problem - octet 40, length 8'],
  ['86 00 00 00 00 00 00 00', 'ICMP6, router advertisement, length 8'],
  ['89 00 00 00 00 00 00 00', 'ICMP6, redirect, length 8'],
  ['87 00 00 00 00 00 00 00', 'ICMP6, neighbor solicitation, who has nobody, length 8'],
  ['8f 00 00 00 00 00 00 00', 'ICMP6, type 143, code 0, length 8'],
] as const
for (const [hex, want] of TEXTS) {
  t.test(`text: ${want}`, (t) => {
    t.equal(icmpv6.describe(createView(hex, 3), 3, 8), want)
    t.end()
  })
}
