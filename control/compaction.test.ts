/**
 * Garbage of this process is collected and its memory given back, while nobody allocates.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { getHeapStatistics } from 'node:v8'
import t from 'tap'
import { compact, STEADY_YOUNG_OPTION } from './compaction.js'

const MB = 1 << 20

const heap = (): number => getHeapStatistics().total_heap_size

/** Resident memory: what is mapped from files, or all else, bytes (proc(5)). */
function resident(kind: 'File' | 'Anon' = 'Anon'): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return Number(new RegExp(`^Rss${kind}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
}

/** Fills the heap with objects that live until the caller drops them. */
function fill(count: number): object[] {
  return Array.from({ length: count }, (_, i) => ({ number: i, text: [`${i}`] }))
}

/** Long: between two collections lies a multiple of what the last one took, on a busy machine many seconds. */
const PATIENCE_MS = 60_000
t.setTimeout(4 * PATIENCE_MS)

async function until(what: () => boolean): Promise<boolean> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end && !what();) await pause(20)
  return what()
}

t.test('what a burst leaves is given back, every time; what stays is kept', async (t) => {
  const stop = new AbortController()
  const kept = fill(20_000)
  const done = compact(stop.signal, { slack: 4 * MB, periodMs: 20 })
  for (const round of ['first', 'second']) {
    const burst = { objects: fill(400_000) }
    const before = { heap: heap(), resident: resident() }
    t.equal(burst.objects.length, 400_000)
    burst.objects = []
    t.ok(await until(() => heap() < before.heap - 20 * MB), `${round}: the heap`)
    t.ok(await until(() => resident() < before.resident - 20 * MB), `${round}: the memory`)
  }
  t.equal(kept.length, 20_000)
  stop.abort()
  await done
})

t.test(
  'once nothing grows any more, the part of the program that the start used goes',
  async (t) => {
    const stop = new AbortController()
    const before = resident('File')
    const done = compact(stop.signal, { slack: 64 * MB, periodMs: 20 })
    t.ok(await until(() => resident('File') < before - 5 * MB))
    stop.abort()
    await done
  },
)

t.test('the rest that follows a long collection does not keep that part mapped', async (t) => {
  const stop = new AbortController()
  const burst = { objects: fill(400_000) }
  const before = { heap: heap(), file: resident('File') }
  burst.objects = []
  const done = compact(stop.signal, { slack: 4 * MB, periodMs: 20, rest: 1e6 })
  t.ok(await until(() => resident('File') < before.file - 5 * MB))
  t.ok(heap() < before.heap, 'it has collected')
  stop.abort()
  await done
})

t.test('told to stop before or while it waits', async (t) => {
  await compact(AbortSignal.abort())
  const stop = new AbortController()
  const done = compact(stop.signal)
  stop.abort()
  await done
  t.pass('it ended')
})

t.test('this Node knows the option', async (t) => {
  const run = (option: string) => spawnSync(process.execPath, [option, '--eval', '0']).status
  t.equal(run(STEADY_YOUNG_OPTION), 0)
  t.not(run(STEADY_YOUNG_OPTION.replace('space', 'unheard-of')), 0)
})
