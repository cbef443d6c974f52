/**
 * When the kernel is looked at: the pause between looks, and what ends it.
 */
import t from 'tap'
import { createLogger } from './log.js'
import { pauseAfter, RepairLoop } from './repair-loop.js'

for (const [tookMs, isTold, want] of [
  [0, true, 5000],
  [49, true, 5000],
  [150, true, 15_000],
  [5000, true, 60_000],
  [150, false, 5000],
  [5000, false, 5000],
] as const) {
  t.equal(pauseAfter(tookMs, isTold), want, `${tookMs} ms, ${isTold ? 'told' : 'not told'}`)
}

t.test('a call ends the pause, and one during a repair earns another', async (t) => {
  const lines: string[] = []
  const loop = new RepairLoop(createLogger({ stream: { write: (line) => lines.push(line) } }))
  const stop = new AbortController()
  let count = 0
  let onRepair: () => void = () => undefined
  const third = new Promise<void>((resolve) => (onRepair = resolve))
  const repair = (): Promise<void> => {
    count++
    if (count <= 2) loop.now()
    else onRepair()
    return count === 2 ? Promise.reject(new Error('not this time')) : Promise.resolve()
  }
  const running = loop.run(repair, () => true, stop.signal)
  loop.now()
  await third
  stop.abort()
  await running
  t.equal(count, 3)
  t.equal(lines.length, 1)
  t.match(lines[0], /repair: not this time/)
})
