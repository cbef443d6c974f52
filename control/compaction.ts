/**
 * Keeps the daemon small: collects garbage where V8 sees no reason to, and gives the memory back.
 *
 * V8 collects when its heap has grown by as much again, and keeps room for more. A start with many
 * leases leaves several times of what stays, and a daemon at rest allocates so little that it would
 * keep that for hours. So the main thread looks at its heap every few seconds and collects when it has
 * grown by much since the last time. This thread pauses for it, a tenth of a second with 10 000
 * leases; the engine has a heap of its own and goes on.
 *
 * Three more things are kept small. The room for new objects does not double each time many of them are
 * alive at once, as during a look at all leases; V8 goes through it more often instead. What the
 * C library keeps of freed memory, above all of the compiler's, goes back when it has become much. And
 * once the start is over, what only it needed of Node's program file is unmapped.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { releaseFreeMemory, unmapProgram } from '../dataplane/index.js'
import { settle, sleep } from './store/abort.js'

export interface CompactionOptions {
  /** Bytes by which the heap, or the memory of the process, may grow; default 2 MiB. */
  readonly slack?: number
  /** Time between two looks, ms, default 2000. */
  readonly periodMs?: number
  /** The time between two collections is at least so many times what the first of them took, default 50. */
  readonly rest?: number
}

/** How long a collection may take, ms. */
const LIMIT_MS = 10_000

/** The option of V8 that keeps the room for new objects as it is (Node 20 and later). */
export const STEADY_YOUNG_OPTION = '--semi-space-growth-factor=1'

/** Looks and collects until the signal fires; never throws. */
export async function compact(
  signal: AbortSignal,
  { slack = 2 << 20, periodMs = 2000, rest = 50 }: CompactionOptions = {},
): Promise<void> {
  let floor = 0
  let residentFloor = 0
  let isStarting = true
  let nextCollection = 0
  try {
    await sleep(periodMs, signal)
    // Only now: a start goes faster with much room.
    setFlagsFromString(STEADY_YOUNG_OPTION)
    for (;;) {
      const isMuchGarbage = heapSize() - floor >= slack
      const start = performance.now()
      const mayCollect = start >= nextCollection
      if (isMuchGarbage && mayCollect) {
        await settle(collect(), signal, LIMIT_MS, () => new Error('no answer'))
        floor = heapSize()
        const end = performance.now()
        nextCollection = end + rest * (end - start)
      } else if (isStarting && !isMuchGarbage) {
        unmapProgram()
        isStarting = false
      }
      if (mayCollect && (isMuchGarbage || process.memoryUsage.rss() - residentFloor >= slack)) {
        releaseFreeMemory()
        residentFloor = process.memoryUsage.rss()
      }
      await sleep(periodMs, signal)
    }
  } catch {
    // Told to stop, or this Node was built without its inspector: then V8 does as it likes.
  }
}

/** Bytes that V8 has taken for the heap of this thread. */
function heapSize(): number {
  return getHeapStatistics().total_heap_size
}

/**
 * Collects all garbage and shrinks the heap, by way of the protocol that debuggers use: Node has no
 * call for it.
 * Source: Chrome DevTools Protocol, HeapProfiler.collectGarbage
 */
async function collect(): Promise<void> {
  const { Session } = await import('node:inspector')
  const session = new Session()
  session.connect()
  try {
    await new Promise<void>((resolve, reject) => {
      session.post('HeapProfiler.collectGarbage', (error) => {
        if (error === null) resolve()
        else reject(error)
      })
    })
  } finally {
    session.disconnect()
  }
}
