/**
 * Whether engines live, by their turns.
 */
import t from 'tap'
import { Turns } from './turns.js'

t.test(
  'engines that turn once a second, each at its own moment, asked often or seldom',
  async (t) => {
    for (const period of [100, 500, 900, 1000, 1500, 15_000]) {
      const turns = new Turns()
      let dead = 0
      for (let now = 0; now < 100_000; now += period) {
        const counts = [Math.floor((now + 300) / 1000), Math.floor((now + 700) / 1000)]
        if (!turns.areMoving(counts, now)) dead++
      }
      t.equal(dead, 0, `every ${period} ms`)
    }
  },
)

t.test('one that stands still', async (t) => {
  for (const period of [100, 500, 1000, 15_000]) {
    const turns = new Turns()
    const at = (now: number) => turns.areMoving([now, Math.min(now, 30_000)], now)
    let heardLast = 0
    for (let now = 0; now < 120_000; now += period) if (at(now)) heardLast = now
    t.ok(heardLast >= 30_000 && heardLast <= 33_000 + period, `every ${period} ms: ${heardLast}`)
  }
})

t.test('none, and others than before', async (t) => {
  const turns = new Turns()
  t.ok(turns.areMoving([], 0))
  t.ok(turns.areMoving([], 100_000))
  t.ok(turns.areMoving([7], 100_001), 'one that has just begun')
  t.ok(turns.areMoving([7], 102_000))
  t.notOk(turns.areMoving([7], 103_000))
  t.ok(turns.areMoving([7, 0], 103_001), 'devices that were made anew')
})
