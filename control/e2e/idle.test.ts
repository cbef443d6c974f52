/**
 * @parallel A daemon whom nobody sends anything costs next to nothing: it sleeps in one wait, and its
 * chores (renewal, repair, health) are few.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createOverlay, skip } from './overlay.js'

t.setTimeout(90_000)

const TICKS_PER_SECOND = 100
const SECONDS = 8
const WINDOWS = 5

/** CPU seconds of a process: its threads to the nanosecond, the programs it ran to the tick. */
function cpuSeconds(pid: number): number {
  const own = readdirSync(`/proc/${String(pid)}/task`).reduce((sum, tid) => {
    const [ns = '0'] = readFileSync(`/proc/${String(pid)}/task/${tid}/schedstat`, 'utf8').split(' ')
    return sum + Number(ns)
  }, 0)
  const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
  // Behind the name, which may have blanks: cutime and cstime are the fields 16 and 17 of proc(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return own / 1e9 + (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND
}

t.test('an idle daemon uses less than 1 % of a core', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd' })
  const host = overlay.host(1)
  const { pid } = overlay.daemon(host)
  const waits = async () => (await overlay.status(host)).counters.gauges['waits'] ?? 0
  // What starts is compiled for a while, and one collection of garbage may take 40 ms on a busy
  // machine. What a daemon costs for good it costs in every window.
  let used = Infinity
  for (let window = 0; window < WINDOWS && used >= 0.01 * SECONDS; window++) {
    const woken = await waits()
    const before = cpuSeconds(pid)
    await sleep(1000 * SECONDS)
    used = cpuSeconds(pid) - before
    const turns = (await waits()) - woken
    t.ok(turns <= 3 * SECONDS, `the engine woke ${String(turns)} times in ${String(SECONDS)} s`)
  }
  t.ok(used < 0.01 * SECONDS, `${((100 * used) / SECONDS).toFixed(2)} % of a core`)
})
