import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startWatchdog, watchdogPeriod } from './watchdog.js'

t.test('who is watched, and how often it tells', async (t) => {
  const cases: readonly (readonly [Record<string, string>, number | null])[] = [
    [{}, null],
    [{ WATCHDOG_USEC: '' }, null],
    [{ WATCHDOG_USEC: '30000000' }, 15_000],
    [{ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 15_000],
    [{ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, null],
    [{ WATCHDOG_USEC: '0' }, null],
    [{ WATCHDOG_USEC: '30s' }, null],
    [{ WATCHDOG_USEC: '-1' }, null],
  ]
  for (const [env, want] of cases) t.equal(watchdogPeriod(env, 7), want, JSON.stringify(env))
})

t.test('it tells as long as everything lives', async (t) => {
  const sent: string[] = []
  let isAlive = true
  const stop = startWatchdog(
    5,
    (text) => {
      sent.push(text)
      return null
    },
    () => isAlive,
  )
  while (sent.length < 3) await sleep(5)
  isAlive = false
  const told = sent.length
  await sleep(50)
  t.equal(sent.length, told, 'an engine stands still')
  isAlive = true
  while (sent.length === told) await sleep(5)
  stop()
  const last = sent.length
  await sleep(50)
  t.equal(sent.length, last)
  t.same(new Set(sent), new Set(['WATCHDOG=1']))
})
