/**
 * A worker looks up without pause while this thread changes routes.
 *
 * Keys belong to families, and so do hops: a hop's address is its family, its port says the same
 * once more. A key must always find a hop of its own family. Families take turns in filling the
 * table and clearing it again, so that the memory of one's nodes and the indices of its hops go to
 * another at once: whoever frees either too early lets a reader find the wrong family. At the end of a
 * breath the reader asks for its keys again and looks at the hops once more, because all it has found
 * is good until then.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { attachFibReader } from './lpm.js'
import { createFib, type Fib } from './lpm-writer.js'
import type { FibShared } from './layout.js'
import { createHopTable, type HopTable } from './nexthop.js'

const RUN_MS = 2500
const FAMILIES = 4
const KEYS_PER_BREATH = 200

/** Words of the report that the worker keeps in shared memory. */
const STOP = 0
const READY = 1
const BREATHS = 2
const WRONG = 3
const CHANGED = 4
const EXPIRED = 5
const VARIED = 6
const REPORT_WORDS = 8

interface Orders {
  readonly shared: FibShared
  readonly report: SharedArrayBuffer
}

/** 10.f.0.0/16 belongs to family f; the same for 2001:db8:f::/48. Both always have a route. */
function key4(family: number, rest: number): number {
  return (10 << 24) | (family << 16) | (rest & 0xffff)
}
function writeKey6(view: DataView, family: number, rest: number): void {
  view.setUint32(0, 0x20010db8)
  view.setUint16(4, family)
  view.setUint16(6, rest & 0xffff)
}

function isOfFamily(hops: HopTable, hop: number, family: number): boolean {
  return hop > 0 && hops.addressWord(hop, 0) === family && hops.port(hop) === 1 + family
}

function runReader({ shared, report }: Orders): void {
  const words = new Int32Array(report)
  const reader = attachFibReader(shared, 0)
  const hops = createHopTable(shared)
  const view = new DataView(new ArrayBuffer(16))
  const keys = new Int32Array(KEYS_PER_BREATH)
  const found4 = new Int32Array(KEYS_PER_BREATH)
  const found6 = new Int32Array(KEYS_PER_BREATH)
  const count = (word: number, isBad: boolean): void => {
    if (isBad) words[word] = (words[word] ?? 0) + 1
  }
  let state = 1
  Atomics.store(words, READY, 1)
  while (Atomics.load(words, STOP) === 0) {
    reader.enter()
    for (let i = 0; i < KEYS_PER_BREATH; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0
      const family = (state >>> 8) & (FAMILIES - 1)
      const key = (keys[i] = key4(family, state >>> 12))
      writeKey6(view, family, key)
      const hop4 = (found4[i] = reader.lookup4(key))
      const hop6 = (found6[i] = reader.lookup6(view, 0))
      count(WRONG, !isOfFamily(hops, hop4, family))
      count(WRONG, !isOfFamily(hops, hop6, family))
      count(VARIED, hop4 !== hop6)
    }
    for (let i = 0; i < KEYS_PER_BREATH; i++) {
      const key = keys[i] ?? 0
      const family = (key >>> 16) & 0xff
      const hop4 = found4[i] ?? 0
      const hop6 = found6[i] ?? 0
      writeKey6(view, family, key)
      count(CHANGED, reader.lookup4(key) !== hop4 || reader.lookup6(view, 0) !== hop6)
      count(EXPIRED, !isOfFamily(hops, hop4, family) || !isOfFamily(hops, hop6, family))
    }
    reader.leave()
    count(BREATHS, true)
  }
  parentPort?.postMessage('done')
}

/** Fills a family's part with routes of many lengths and new hops, then clears it. @returns the number of changes */
function churn({ writer, hops }: Fib, family: number, random: () => number): number {
  const view = new DataView(new ArrayBuffer(16))
  const prefix6 = new Uint8Array(view.buffer)
  const own = Array.from({ length: 20 }, () => hops.addPeer(family, 1 + family))
  const routes = Array.from({ length: 40 }, (_, i) => {
    const len = 16 + (random() % 17)
    return { rest: random() & (0xffff0000 >>> (len - 16)) & 0xffff, len, hop: own[i >> 1] ?? 0 }
  }).filter(({ len }) => len > 16)
  const setAll = (isPresent: boolean): void => {
    for (const { rest, len, hop } of routes) {
      writeKey6(view, family, rest)
      if (isPresent) {
        writer.insert4(key4(family, rest), len, hop)
        writer.insert6(prefix6, 32 + len, hop)
      } else {
        writer.remove4(key4(family, rest), len)
        writer.remove6(prefix6, 32 + len)
      }
    }
  }
  // Every other time as one update, so that both ways of publishing are met.
  const set = (isPresent: boolean): void => {
    if (random() & 1) setAll(isPresent)
    else
      writer.update(() => {
        setAll(isPresent)
      })
  }
  set(true)
  set(false)
  for (const hop of own) hops.retire(hop)
  return 4 * routes.length
}

async function runTest(): Promise<void> {
  const { default: t } = await import('tap')
  await t.test('a reader never sees anything but legal answers', async (t) => {
    const fib = createFib({ readers: 1, reserveBytes: 16 << 20, maxHops: 4096 })
    const report = new SharedArrayBuffer(REPORT_WORDS * 4)
    const words = new Int32Array(report)
    const view = new DataView(new ArrayBuffer(16))
    let state = 99
    const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 8
    for (let family = 0; family < FAMILIES; family++) {
      const hop = fib.hops.addPeer(family, 1 + family)
      fib.writer.insert4(key4(family, 0), 16, hop)
      writeKey6(view, family, 0)
      fib.writer.insert6(new Uint8Array(view.buffer), 48, hop)
    }
    const before = fib.writer.memory()
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { shared: fib.shared, report } satisfies Orders,
    })
    const done = new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
    })
    while (Atomics.load(words, READY) === 0) await new Promise((resolve) => setTimeout(resolve, 5))

    let changes = 0
    const until = Date.now() + RUN_MS
    while (Date.now() < until) changes += churn(fib, random() & (FAMILIES - 1), random)
    Atomics.store(words, STOP, 1)
    await done
    const breaths = words[BREATHS] ?? 0
    t.comment(`${String(changes)} changes, ${String(breaths)} breaths`)
    t.ok(breaths > 100 && changes > 1000, 'both sides were busy')
    t.ok((words[VARIED] ?? 0) > 100, 'the reader met changing routes')
    t.equal(words[WRONG], 0, 'lookups that found no hop, or one of another family')
    t.equal(words[CHANGED], 0, 'lookups that a breath answered in two ways')
    t.equal(words[EXPIRED], 0, 'hops that became another within the breath')
    const after = fib.writer.memory()
    t.equal(after.waiting, 0, 'nothing waits once the reader is out')
    t.equal(after.nodeBytes, before.nodeBytes)
    t.equal(after.listBytes, before.listBytes)
  })
}

if (isMainThread) await runTest()
else runReader(workerData as Orders)
