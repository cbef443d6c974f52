/**
 * How often a fault that repeats is told.
 */
import t from 'tap'
import { seldom } from './seldom.js'

t.test('at once, and then once a minute, each text for itself', async (t) => {
  let now = 5
  const told: string[] = []
  const tell = seldom(
    (text) => told.push(`${now} ${text}`),
    () => now,
  )
  for (; now < 150_000; now += 500) {
    tell('refused')
    if (now > 70_000) tell('no leader')
  }
  t.same(told, [
    '5 refused',
    '60005 refused',
    '70005 no leader',
    '120005 refused',
    '130005 no leader',
  ])
})

t.test('texts that all differ take no room', async (t) => {
  let told = 0
  const tell = seldom(
    () => told++,
    () => 0,
  )
  for (let n = 0; n < 1000; n++) tell(String(n % 100))
  t.ok(told >= 100 && told <= 1000)
  for (let n = 0; n < 1000; n++) tell('the same')
  const before = told
  tell('the same')
  t.equal(told, before)
})
