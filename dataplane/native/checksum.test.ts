import t from 'tap'
import { native } from './native.js'

t.test('checksum', (t) => {
  t.test('RFC 1071 §3: 0001 f203 f4f5 f6f7 sums to ddf2', (t) => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)
    t.equal(native.checksum(bytes, 0, 8), 0xddf2)
    t.equal(native.checksum(bytes, 0, 0), 0)
    t.equal(native.checksum(bytes, 2, 1), 0xf200, 'an odd byte is padded behind it')
    t.end()
  })

  t.test('a naive twin agrees on every length and alignment', (t) => {
    const bytes = new Uint8Array(9100)
    let seed = 1
    for (let i = 0; i < bytes.length; i++) {
      seed = (Math.imul(seed, 1103515245) + 12345) | 0
      bytes[i] = i % 3 === 0 ? 0xff : seed >>> 16
    }
    for (let at = 0; at < 9; at++) {
      let even = 0
      let wrong = 0
      for (let len = 0; len <= 9001; len++) {
        const isOdd = len % 2 === 1
        let want = isOdd ? even + bytes[at + len - 1]! * 256 : even
        while (want > 0xffff) want = (want & 0xffff) + Math.floor(want / 0x10000)
        if (native.checksum(bytes, at, len) !== want) wrong++
        if (isOdd) even += bytes[at + len - 1]! * 256 + bytes[at + len]!
      }
      t.equal(wrong, 0, `from offset ${at}`)
    }
    t.end()
  })

  t.test('the largest range of ones does not overflow', (t) => {
    const bytes = new Uint8Array(1 << 20).fill(0xff)
    t.equal(native.checksum(bytes, 0, bytes.length), 0xffff)
    t.end()
  })

  t.test('shared memory and a view into it', (t) => {
    const shared = new Uint8Array(new SharedArrayBuffer(16), 4, 8)
    shared.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])
    t.equal(native.checksum(shared, 0, 8), 0xddf2)
    t.end()
  })
  t.end()
})
