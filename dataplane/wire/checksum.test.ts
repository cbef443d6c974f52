/** checksum.ts against the RFCs' worked examples, a naive twin at every length and alignment, and random updates. */
import fc from 'fast-check'
import t from 'tap'
import * as checksum from './checksum.js'
import { createKernelHeaders, createView } from './packet-fixture.js'

/** RFC 1071 §1 as literally as it goes: words one by one, a carry at once. */
function naiveSum(bytes: Uint8Array, start: number): number {
  let total = start
  for (let i = 0; i < bytes.length; i += 2) {
    total += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0)
    if (total > 0xffff) total -= 0xffff
  }
  return total
}

/** Bytes that repeat nowhere soon; every third stretch is 0xff, where carries pile up. */
function noise(len: number): Uint8Array {
  const bytes = new Uint8Array(len)
  let state = 0x2545f491
  for (let i = 0; i < len; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[i] = (i >>> 6) % 3 === 0 ? 0xff : state
  }
  return bytes
}

t.test('RFC 1071 §3: the worked example', (t) => {
  const v = createView('00 01 f2 03 f4 f5 f6 f7', 3)
  t.equal(checksum.sum(v, 3, 8), 0xddf2)
  t.equal(checksum.finish(checksum.sum(v, 3, 8)), 0x220d)
  t.equal(checksum.sum(v, 3, 0), 0, 'the sum of nothing')
  t.equal(checksum.sum(v, 3, 3), 0xf201 + 0x0000, 'an odd byte is the high one: 0001 + f200')
  t.end()
})

t.test('RFC 1624 §4: the worked example', (t) => {
  t.equal(checksum.update(0xdd2f, 0x5555, 0x3285), 0x0000)
  t.end()
})

t.test('every length 0..2048 at every alignment 0..7 is what the naive twin says', (t) => {
  const bytes = noise(2048 + 8)
  const v = new DataView(bytes.buffer)
  let wrong = 0
  for (let at = 0; at < 8; at++) {
    for (let len = 0; len <= 2048; len++) {
      const start = (len * 40503 + at) & 0xffff
      const want = naiveSum(bytes.subarray(at, at + len), start)
      if (checksum.sum(v, at, len, start) !== want) wrong++
    }
  }
  t.equal(wrong, 0)
  t.end()
})

t.test('the longest packets, all ones and all zeros', (t) => {
  for (const len of [65535, 65536, 131072]) {
    const ones = new Uint8Array(len).fill(0xff)
    const even = len % 2 === 0
    const v = new DataView(ones.buffer)
    t.equal(checksum.sum(v, 0, len, 0xffff), even ? 0xffff : 0xff00, `${len} bytes of 0xff`)
    ones.fill(0)
    t.equal(checksum.sum(v, 0, len), 0, `${len} zero bytes`)
    t.equal(checksum.sum(v, 0, len, 0x1234), 0x1234)
  }
  const bytes = noise(131072)
  t.equal(checksum.sum(new DataView(bytes.buffer), 0, 131072), naiveSum(bytes, 0))
  t.end()
})

t.test('a sum over shared memory is the same', (t) => {
  const bytes = noise(1500)
  const shared = new Uint8Array(new SharedArrayBuffer(1500))
  shared.set(bytes)
  t.equal(checksum.sum(new DataView(shared.buffer), 0, 1500), naiveSum(bytes, 0))
  t.end()
})

t.test('fold takes any 32 bits, signed or not', (t) => {
  for (const [total, want] of [
    [0, 0],
    [0xffff, 0xffff],
    [0x10000, 1],
    [0x1ffff, 1],
    [0xffffffff, 0xffff],
    [-1, 0xffff],
    [0x80000000 | 0, 0x8000],
    [0xfffeffff, 0xfffe],
  ] as const) {
    t.equal(checksum.fold(total), want, String(total))
  }
  t.end()
})

t.test('parts that meet at an even byte add up to the whole', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(150), (bytes, half) => {
      const v = new DataView(bytes.buffer)
      const cut = Math.min(half * 2, bytes.length & ~1)
      const first = checksum.sum(v, 0, cut)
      return checksum.sum(v, cut, bytes.length - cut, first) === checksum.sum(v, 0, bytes.length)
    }),
  )
  t.end()
})

t.test('an update equals a sum afresh, and a wrong checksum stays as wrong', (t) => {
  const word = fc.nat(0xffff)
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 20, maxLength: 60 }),
      fc.nat(9),
      word,
      word,
      (bytes, index, after, error) => {
        const v = new DataView(bytes.buffer)
        // A header never sums to zero, since its first byte is not; RFC 1624 §3 rests on that.
        v.setUint8(0, 0x45)
        const at = index === 0 ? 2 : index * 2
        const before = v.getUint16(at)
        const right = checksum.finish(checksum.sum(v, 0, bytes.length))
        v.setUint16(at, after)
        const afresh = checksum.finish(checksum.sum(v, 0, bytes.length))
        const wrong = checksum.fold(right + error)
        const off = (checksum.update(wrong, before, after) - afresh - error) % 0xffff
        return checksum.update(right, before, after) === afresh && (off + 0xffff) % 0xffff === 0
      },
    ),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('pseudo-headers: sums that the kernel left unfinished are exactly these', (t) => {
  const cases = createKernelHeaders('udp').filter((c) => c.packet.file === 'kernel-offload.hex')
  t.equal(cases.length, 2)
  for (const { title, view, at, fields } of cases) {
    const len = Number(fields.get('udp.length'))
    const want = Number(fields.get('udp.checksum'))
    const got = title.includes('udp4')
      ? checksum.pseudo4(view.getInt32(26), view.getInt32(30), 17, len)
      : checksum.pseudo6(view, 22, 38, 17, len)
    t.equal(got, want, `${title} ${at}`)
  }
  t.end()
})

t.test('pseudo-headers: equal to the naive twin over the pseudo-header spelled out', (t) => {
  const int32 = fc.integer()
  fc.assert(
    fc.property(int32, int32, fc.nat(255), fc.nat(0xffff), (src, dst, protocol, len) => {
      const spelled = new DataView(new ArrayBuffer(12))
      spelled.setInt32(0, src)
      spelled.setInt32(4, dst)
      spelled.setUint8(9, protocol)
      spelled.setUint16(10, len)
      const want = naiveSum(new Uint8Array(spelled.buffer), 0)
      return (
        checksum.pseudo4(src, dst, protocol, len) === want &&
        checksum.pseudo4(src >>> 0, dst >>> 0, protocol, len) === want
      )
    }),
  )
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.nat(255),
      fc.nat(0xfffff),
      (addresses, protocol, len) => {
        const spelled = new DataView(new ArrayBuffer(40))
        new Uint8Array(spelled.buffer).set(addresses)
        spelled.setUint32(32, len)
        spelled.setUint8(39, protocol)
        const want = naiveSum(new Uint8Array(spelled.buffer), 0)
        return checksum.pseudo6(spelled, 0, 16, protocol, len) === want
      },
    ),
  )
  t.end()
})
