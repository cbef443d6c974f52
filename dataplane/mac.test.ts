import fc from 'fast-check'
import t from 'tap'
import { createMac, formatMac, isStation, parseMac } from './mac.js'

t.test('text', async (t) => {
  const mac = { high: 0xc6d2, low: 0x326f8f44 }
  t.same(parseMac('c6:d2:32:6f:8f:44'), mac)
  t.same(parseMac('C6-D2-32-6F-8F-44'), mac)
  t.equal(formatMac(mac), 'c6:d2:32:6f:8f:44')
  t.same(parseMac('00:00:ff:ff:ff:ff'), { high: 0, low: -1 })
  for (const text of [
    '',
    'c6:d2:32:6f:8f',
    'c6:d2:32:6f:8f:44:55',
    'c6:d2-32:6f:8f:44',
    'c6d2326f8f44',
    'g6:d2:32:6f:8f:44',
    ' c6:d2:32:6f:8f:44',
  ]) {
    t.equal(parseMac(text), null, text)
  }
})

t.test('stations', async (t) => {
  t.ok(isStation({ high: 0x0200, low: 0 }))
  t.ok(isStation({ high: 0, low: 1 }))
  t.notOk(isStation({ high: 0, low: 0 }), 'all zero')
  t.notOk(isStation({ high: 0xffff, low: -1 }), 'broadcast')
  t.notOk(isStation({ high: 0x0100, low: 5 }), 'a group')
})

t.test('made ones are locally administered, of one station, and come back from text', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (random) => {
      const mac = createMac(random)
      const again = parseMac(formatMac(mac))
      return (
        isStation(mac) &&
        (mac.high & 0x0200) !== 0 &&
        again?.high === mac.high &&
        again.low === mac.low
      )
    }),
  )
})
