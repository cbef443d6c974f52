/**
 * Cancelling and bounding: which of result, signal and time comes first decides, and what comes
 * later does no harm.
 */
import { getEventListeners } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { HeddleError } from '../errors.js'
import { abortError, joinSignals, settle, sleep } from './abort.js'

const late = () => new Error('late')

t.test('an AbortError whatever the reason, but the own one of close()', (t) => {
  for (const reason of [undefined, 'a text', new Error('other'), { odd: true }]) {
    t.equal(abortError(AbortSignal.abort(reason)).name, 'AbortError')
  }
  const closed = new HeddleError('HEDDLE_ABORTED', 'closed')
  t.equal(abortError(AbortSignal.abort(closed)), closed)
  t.end()
})

t.test('settle: result, failure, signal, time', async (t) => {
  const never = new Promise<never>(() => undefined)
  const { signal } = new AbortController()
  t.equal(await settle(Promise.resolve(7), signal, 1000, late), 7)
  await t.rejects(settle(Promise.reject(new Error('no')), signal, 1000, late), { message: 'no' })
  await t.rejects(settle(never, signal, 10, late), { message: 'late' })
  await t.rejects(settle(never, AbortSignal.timeout(10), 1000, late), { name: 'AbortError' })
  await t.rejects(settle(never, AbortSignal.abort(), 1000, late), { name: 'AbortError' })
  t.same(getEventListeners(signal, 'abort'), [], 'no listener stays')
})

t.test('what loses the race may still fail', async (t) => {
  process.once('unhandledRejection', () => t.fail('a stray rejection'))
  const failing = pause(30).then(() => Promise.reject(new Error('too late to matter')))
  await t.rejects(settle(failing, new AbortController().signal, 5, late), { message: 'late' })
  await pause(50)
})

t.test('a joined signal fires with either, with its reason, and lets go', (t) => {
  for (const which of [0, 1]) {
    const sources = [new AbortController(), new AbortController()] as const
    const { signal, dispose } = joinSignals(sources[0].signal, sources[1].signal)
    sources[which]?.abort('reason')
    t.equal(signal.reason, 'reason')
    dispose()
    for (const source of sources) t.same(getEventListeners(source.signal, 'abort'), [])
  }
  t.ok(joinSignals(new AbortController().signal, AbortSignal.abort()).signal.aborted)
  t.end()
})

t.test('sleep ends at its time or with its signal', async (t) => {
  const start = Date.now()
  await sleep(20, new AbortController().signal)
  t.ok(Date.now() - start >= 19)
  await t.rejects(sleep(5000, AbortSignal.timeout(10)), { name: 'AbortError' })
  await t.rejects(sleep(5000, AbortSignal.abort()), { name: 'AbortError' })
})
