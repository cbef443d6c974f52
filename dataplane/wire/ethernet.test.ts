/** ethernet.ts against kernel frames as tshark reads them, inner frames of VXLAN included. */
import fc from 'fast-check'
import t from 'tap'
import * as ethernet from './ethernet.js'
import { createKernelHeaders, createView, describeHex } from './packet-fixture.js'

const HEADERS = createKernelHeaders('eth')

t.test('take apart: every frame of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 30, `${HEADERS.length} frames`)
  for (const { title, view, at, rest, fields } of HEADERS) {
    const got = {
      'eth.dst': ethernet.describeMac(ethernet.dstHigh(view, at), ethernet.dstLow(view, at)),
      'eth.src': ethernet.describeMac(ethernet.srcHigh(view, at), ethernet.srcLow(view, at)),
      'eth.type': `0x${ethernet.etherType(view, at).toString(16).padStart(4, '0')}`,
    }
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(ethernet.check(view, at, rest), ethernet.OK, title)
    const text = `${got['eth.src']} > ${got['eth.dst']}, ethertype ${got['eth.type']}`
    t.equal(ethernet.describe(view, at), text)
  }
  t.end()
})

t.test('put together: write() makes the bytes that the kernel sent, over any old bytes', (t) => {
  const half = (mac: string, from: number, to: number): number =>
    Number.parseInt(mac.replaceAll(':', '').slice(from, to), 16)
  for (const { title, view, at, fields } of HEADERS) {
    const dst = fields.get('eth.dst')!
    const src = fields.get('eth.src')!
    for (const old of [0x00, 0xff]) {
      const v = new DataView(new Uint8Array(20).fill(old).buffer)
      ethernet.write(
        v,
        3,
        half(dst, 0, 4),
        half(dst, 4, 12),
        half(src, 0, 4),
        half(src, 4, 12),
        Number(fields.get('eth.type')),
      )
      t.equal(describeHex(v, 3, 14), describeHex(view, at, 14), title)
      t.strictSame([v.getUint8(2), v.getUint8(17)], [old, old], 'neighbours untouched')
    }
  }
  t.end()
})

t.test('round trip: what is set is read back, signed or not', (t) => {
  const word = fc.nat(0xffff)
  fc.assert(
    fc.property(word, fc.integer(), word, fc.integer(), word, (dh, dl, sh, sl, type) => {
      const v = new DataView(new ArrayBuffer(16))
      ethernet.setDst(v, 1, dh, dl >>> 0)
      ethernet.setSrc(v, 1, sh, sl)
      ethernet.setEtherType(v, 1, type)
      t.strictSame(
        [
          ethernet.dstHigh(v, 1),
          ethernet.dstLow(v, 1),
          ethernet.srcHigh(v, 1),
          ethernet.srcLow(v, 1),
          ethernet.etherType(v, 1),
        ],
        [dh, dl, sh, sl, type],
      )
    }),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of the header is refused', (t) => {
  const { view, at } = HEADERS[0]!
  for (let len = 0; len < 14; len++) t.equal(ethernet.check(view, at, len), ethernet.TRUNCATED)
  t.equal(ethernet.check(view, at, 14), ethernet.OK)
  t.end()
})

t.test('group addresses: the lowest bit of the first byte', (t) => {
  for (const [mac, want] of [
    ['ff ff ff ff ff ff', true],
    ['33 33 00 00 00 01', true],
    ['01 00 5e 00 00 01', true],
    ['02 00 00 00 00 01', false],
    ['fe ff ff ff ff ff', false],
    ['00 00 00 00 00 00', false],
  ] as const) {
    t.equal(ethernet.isGroup(createView(mac, 2), 2), want, mac)
  }
  t.end()
})
