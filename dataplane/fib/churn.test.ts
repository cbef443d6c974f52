/**
 * A worker looks up without pause while this thread changes routes.
 *
 * Every key has a fixed set of legal answers; anything else is a torn or freed node. To make a
 * mistake in reclamation visible, families of routes with different hops keep taking over each
 * other's memory: a key of family f may only ever see a hop h with h % FAMILIES = f. The hops' own columns
 * repeat their index, which shows a hop that was given to somebody else within a breath. And each
 * breath asks for its first keys again at its end: a breath is one version of the table.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { attachFibReader } from './lpm.js'
import { createFib } from './lpm-writer.js'
import type { FibShared } from './layout.js'
import { createHopTable } from './nexthop.js'

const RUN_MS = 2500
const FAMILIES = 4
const KEYS_PER_BREATH = 200

/** Words of the report that the worker keeps in shared memory. */
const STOP = 0
const READY = 1
const BREATHS = 2
const WRONG = 3
const TORN = 4
const CHANGED = 5
const FOUND = 6
const REPORT_WORDS = 8

interface Orders {
  readonly shared: FibShared
  readonly report: SharedArrayBuffer
}

/** 10.f.0.0/16 belongs to family f; the same for 2001:db8:f::/48. */
function key4(family: number, rest: number): number {
  return (10 << 24) | (family << 16) | (rest & 0xffff)
}
function writeKey6(view: DataView, family: number, rest: number): void {
  view.setUint32(0, 0x20010db8)
  view.setUint16(4, family)
  view.setUint16(6, rest & 0xffff)
}

function runReader({ shared, report }: Orders): void {
  const words = new Int32Array(report)
  const reader = attachFibReader(shared, 0)
  const hops = createHopTable(shared)
  const view = new DataView(new ArrayBuffer(16))
  const first = new Int32Array(8)
  let state = 1
  Atomics.store(words, READY, 1)
  while (Atomics.load(words, STOP) === 0) {
    reader.enter()
    const start = state
    for (let i = 0; i < KEYS_PER_BREATH; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0
      const family = (state >>> 8) & (FAMILIES - 1)
      writeKey6(view, family, state >>> 12)
      const hop4 = reader.lookup4(key4(family, state >>> 12))
      const hop6 = reader.lookup6(view, 0)
      if (i < first.length) first[i] = hop4
      for (const hop of [hop4, hop6]) {
        // 10.0.0.0/8 and 2001:db8::/32 always have a route, so 0 is wrong, too.
        if (hop <= 0 || hop % FAMILIES !== family) Atomics.add(words, WRONG, 1)
        else if (
          hops.addressWord(hop, 0) !== hop % FAMILIES ||
          hops.port(hop) !== 1 + (hop % FAMILIES)
        ) {
          Atomics.add(words, TORN, 1)
        }
        if (hop >= 2 * FAMILIES) words[FOUND] = 1
      }
    }
    let again = start
    for (let i = 0; i < first.length; i++) {
      again = (Math.imul(again, 1664525) + 1013904223) | 0
      const hop = reader.lookup4(key4((again >>> 8) & (FAMILIES - 1), again >>> 12))
      if (hop !== first[i]) Atomics.add(words, CHANGED, 1)
    }
    reader.leave()
    words[BREATHS] = (words[BREATHS] ?? 0) + 1
  }
  parentPort?.postMessage('done')
}

async function runTest(): Promise<void> {
  const { default: t } = await import('tap')
  await t.test('a reader never sees anything but legal answers', async (t) => {
    const fib = createFib({ readers: 1, reserveBytes: 16 << 20, maxHops: 4096 })
    const report = new SharedArrayBuffer(REPORT_WORDS * 4)
    const words = new Int32Array(report)
    const view = new DataView(new ArrayBuffer(16))
    const prefix6 = new Uint8Array(view.buffer)
    let state = 99
    const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 8

    // Hop h belongs to family h % FAMILIES for good, and its columns say so. Index 0 is no hop, so
    // the first FAMILIES indices are left out.
    const free: number[][] = Array.from({ length: FAMILIES }, () => [])
    const addHop = (hop: number): number => fib.hops.addPeer(hop % FAMILIES, 1 + (hop % FAMILIES))
    for (let hop = 1; hop < 4096; hop++) {
      if (addHop(hop) !== hop) throw new Error('hops are not handed out in order')
      if (hop >= 2 * FAMILIES) free[hop % FAMILIES]?.push(hop)
    }
    for (let family = 0; family < FAMILIES; family++) {
      fib.writer.insert4(key4(family, 0), 16, FAMILIES + family)
      view.setBigUint64(8, 0n)
      writeKey6(view, family, 0)
      fib.writer.insert6(prefix6, 48, FAMILIES + family)
    }
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { shared: fib.shared, report } satisfies Orders,
    })
    const done = new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
    })
    while (Atomics.load(words, READY) === 0) await new Promise((resolve) => setTimeout(resolve, 5))

    let changes = 0
    const until = Date.now() + RUN_MS
    while (Date.now() < until) {
      // One family fills its part with routes of many lengths, then all of them go: the memory it
      // leaves is taken by another.
      const family = random() & (FAMILIES - 1)
      const list = free[family] ?? []
      const routes: [number, number][] = []
      for (let i = 0; i < 40; i++) {
        const len = 17 + (random() % 16)
        const rest = ((random() & 0xffff) >>> (32 - len)) << (32 - len)
        routes.push([rest, len])
        fib.writer.insert4(key4(family, rest), len, list[random() % list.length] ?? 0)
        writeKey6(view, family, rest)
        fib.writer.insert6(prefix6, 32 + len, list[random() % list.length] ?? 0)
      }
      fib.writer.insert4(key4(family, 0), 16, FAMILIES + family + FAMILIES * (random() & 1))
      for (const [rest, len] of routes) {
        fib.writer.remove4(key4(family, rest), len)
        writeKey6(view, family, rest)
        fib.writer.remove6(prefix6, 32 + len)
      }
      changes += 4 * routes.length
    }
    Atomics.store(words, STOP, 1)
    await done
    t.comment(`${String(changes)} changes, ${String(words[BREATHS])} breaths`)
    t.ok((words[BREATHS] ?? 0) > 100 && changes > 1000, 'both sides were busy')
    t.equal(words[FOUND], 1, 'the reader met changed routes')
    t.equal(words[WRONG], 0, 'answers that are not legal for their key')
    t.equal(words[TORN], 0, 'hops that belong to somebody else')
    t.equal(words[CHANGED], 0, 'breaths that saw two versions of the table')
    t.equal(fib.writer.memory().waiting, 0, 'nothing waits once the reader is out')
  })
}

if (isMainThread) await runTest()
else runReader(workerData as Orders)
