/**
 * @parallel A daemon whom nobody sends anything costs next to nothing: it sleeps in one wait, and its
 * chores (renewal, repair, health) are few.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { must } from '../lab/process.js'
import { createOverlay, skip } from './overlay.js'

t.setTimeout(90_000)

const TICKS_PER_SECOND = 100
const SECONDS = 8
const WINDOWS = 5
const PROGRAMS = 15

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

/** CPU seconds that starting a program takes on this machine, that of the program included. */
async function costOfProgram(): Promise<number> {
  const before = cpuSeconds(process.pid)
  for (let i = 0; i < PROGRAMS; i++) await must('ip', ['-json', 'route'])
  return (cpuSeconds(process.pid) - before) / PROGRAMS
}

t.test('an idle daemon uses less than 1 % of a core', { skip }, async (t) => {
  // Its chores start a program every other second. Where that alone is dear, it may take as much as fifteen do.
  const allowed = Math.max(0.01 * SECONDS, PROGRAMS * (await costOfProgram()))
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd' })
  const host = overlay.host(1)
  const { pid } = overlay.daemon(host)
  const waits = async () => (await overlay.status(host)).counters.gauges['waits'] ?? 0
  // What starts is compiled for a while, and one collection of garbage may take 40 ms on a busy
  // machine. What a daemon costs for good it costs in every window.
  let used = Infinity
  for (let window = 0; window < WINDOWS && used >= allowed; window++) {
    const woken = await waits()
    const before = cpuSeconds(pid)
    await sleep(1000 * SECONDS)
    used = cpuSeconds(pid) - before
    const turns = (await waits()) - woken
    t.ok(turns <= 3 * SECONDS, `the engine woke ${String(turns)} times in ${String(SECONDS)} s`)
  }
  const percent = (seconds: number): string => ((100 * seconds) / SECONDS).toFixed(2)
  t.ok(used < allowed, `${percent(used)} % of a core, ${percent(allowed)} are allowed here`)
})
