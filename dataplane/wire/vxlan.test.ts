/** vxlan.ts against what the kernel's VXLAN device sent, and the rules of RFC 7348 §5. */
import fc from 'fast-check'
import t from 'tap'
import { createKernelHeaders, createView, describeHex } from './packet-fixture.js'
import * as vxlan from './vxlan.js'

const HEADERS = createKernelHeaders('vxlan')

t.test('take apart: every header of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 4, `${HEADERS.length} headers`)
  for (const { title, view, at, rest, fields } of HEADERS) {
    t.equal(vxlan.check(view, at, rest), vxlan.OK, title)
    t.equal(String(vxlan.vni(view, at)), fields.get('vxlan.vni'), title)
    // tshark reads flags and the first reserved byte as one word.
    t.equal(vxlan.flags(view, at) << 8, Number(fields.get('vxlan.flags')), title)
  }
  t.end()
})

t.test('put together: write() makes the bytes that the kernel sent, over any old bytes', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    for (const old of [0x00, 0xff]) {
      const v = new DataView(new Uint8Array(12).fill(old).buffer)
      vxlan.write(v, 2, Number(fields.get('vxlan.vni')))
      t.equal(describeHex(v, 2, 8), describeHex(view, at, 8), title)
      t.strictSame([v.getUint8(1), v.getUint8(10)], [old, old], 'neighbours untouched')
    }
  }
  t.end()
})

t.test('round trip: any VNI', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.constantFrom(0, 1, vxlan.MAX_VNI), fc.nat(vxlan.MAX_VNI)), (vni) => {
      const v = new DataView(new Uint8Array(8).fill(0xff).buffer)
      vxlan.write(v, 0, 0)
      vxlan.setVni(v, 0, vni)
      return vxlan.vni(v, 0) === vni && v.getUint8(7) === 0 && v.getUint8(0) === 8
    }),
  )
  t.end()
})

t.test('every truncation of the header is refused', (t) => {
  const { view, at } = HEADERS[0]!
  for (let len = 0; len < 8; len++) t.equal(vxlan.check(view, at, len), vxlan.TRUNCATED)
  t.equal(vxlan.check(view, at, 8), vxlan.OK)
  t.end()
})

/** RFC 7348 §5: only the I flag counts; reserved bits are ignored on receipt. */
const SHAPES = [
  ['I clear', '00 00 00 00 00 00 01 00', vxlan.NO_VNI, 1],
  ['every flag but I', 'f7 00 00 00 00 00 01 00', vxlan.NO_VNI, 1],
  ['every flag', 'ff 00 00 00 00 00 01 00', vxlan.OK, 1],
  ['reserved bytes set', '08 ff ff ff 12 34 56 ff', vxlan.OK, 0x123456],
  ['the largest VNI', '08 00 00 00 ff ff ff 00', vxlan.OK, 0xffffff],
] as const
for (const [name, hex, want, vni] of SHAPES) {
  t.test(`shape: ${name}`, (t) => {
    const v = createView(hex, 3)
    t.equal(vxlan.check(v, 3, 8), want)
    t.equal(vxlan.vni(v, 3), vni)
    t.end()
  })
}

t.test('text', (t) => {
  t.equal(
    vxlan.describe(createView('08 00 00 00 00 00 01 00'), 0),
    'VXLAN, flags [I] (0x08), vni 1',
  )
  t.equal(
    vxlan.describe(createView('00 00 00 00 00 00 01 00'), 0),
    'VXLAN, flags [none] (0x00), vni 1',
  )
  t.end()
})
