/**
 * Waiting times: doubling, bounded, spread, and short again after a good answer.
 */
import t from 'tap'
import { createBackoff } from './backoff.js'

t.test('100 ms doubling to 5 s, each within a fifth', (t) => {
  for (let round = 0; round < 50; round++) {
    const backoff = createBackoff()
    for (const base of [100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
      const wait = backoff.next()
      if (wait < base * 0.8 || wait > base * 1.2) t.fail(`${wait} is not about ${base}`)
    }
    backoff.reset()
    if (backoff.next() > 120) t.fail('not reset')
  }
  const waits = new Set(Array.from({ length: 20 }, () => createBackoff().next()))
  t.ok(waits.size > 10, 'spread')
  t.end()
})
