/** arp.ts: a request of the kernel byte by byte, replies, round trips, truncation, other kinds. */
import fc from 'fast-check'
import t from 'tap'
import * as arp from './arp.js'
import { createView, describeHex } from './packet-fixture.js'

/** `ip neigh` of Linux asks through a VXLAN device. */
const REQUEST =
  '00 01 08 00 06 04 00 01 0e 00 00 00 00 0b 0a 05 fa 00 00 00 00 00 00 00 0a 05 01 00'

t.test('take apart', async (t) => {
  const v = createView(REQUEST, 3)
  t.equal(arp.check(v, 3, 28), arp.OK)
  t.equal(arp.operation(v, 3), arp.REQUEST)
  t.same([arp.senderHigh(v, 3), arp.senderLow(v, 3)], [0x0e00, 0x0000_000b])
  t.equal(arp.sender(v, 3), 0x0a05fa00)
  t.same([arp.targetHigh(v, 3), arp.targetLow(v, 3)], [0, 0])
  t.equal(arp.target(v, 3), 0x0a050100)
  t.equal(arp.describe(v, 3), 'ARP, Request who-has 10.5.1.0 tell 10.5.250.0')
})

t.test('put together, over any old bytes', async (t) => {
  for (const old of [0, 0xff]) {
    const v = new DataView(new Uint8Array(30).fill(old).buffer)
    arp.write(v, 1, arp.REQUEST, 0x0e00, 0x0b, 0x0a05fa00, 0, 0, 0x0a050100)
    t.equal(describeHex(v, 1, 28), REQUEST)
    t.same([v.getUint8(0), v.getUint8(29)], [old, old], 'neighbours untouched')
    arp.write(v, 1, arp.REPLY, 0x0e00, 0x0a, 0x0a050100, 0x0e00, 0x0b, 0x0a05fa00)
    t.equal(arp.describe(v, 1), 'ARP, Reply 10.5.1.0 is-at 0e:00:00:00:00:0a')
    arp.write(v, 1, 9, 0, 0, 0, 0, 0, 0)
    t.equal(arp.describe(v, 1), 'ARP, operation 9')
  }
})

t.test('round trip', async () => {
  const half = fc.nat(0xffff)
  const word = fc.integer()
  const v = new DataView(new ArrayBuffer(28))
  fc.assert(
    fc.property(half, half, word, word, half, word, word, (op, sh, sl, s, th, tl, target) => {
      arp.write(v, 0, op, sh, sl, s, th, tl, target)
      return (
        arp.check(v, 0, 28) === arp.OK &&
        arp.operation(v, 0) === op &&
        arp.senderHigh(v, 0) === sh &&
        arp.senderLow(v, 0) === sl &&
        arp.sender(v, 0) === s &&
        arp.targetHigh(v, 0) === th &&
        arp.targetLow(v, 0) === tl &&
        arp.target(v, 0) === target
      )
    }),
  )
})

t.test('truncated at every byte, and other kinds of addresses', async (t) => {
  for (let len = 0; len < 28; len++) {
    t.equal(arp.check(createView(REQUEST), 0, len), arp.TRUNCATED, String(len))
  }
  for (let at = 0; at < 6; at++) {
    const v = createView(REQUEST)
    v.setUint8(at, v.getUint8(at) ^ 0x10)
    t.equal(arp.check(v, 0, 28), arp.OTHER_KIND, `byte ${at}`)
  }
})
