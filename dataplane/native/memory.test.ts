/**
 * Memory that goes back to the kernel: packet slots, and the program file.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { native } from './native.js'

const PAGE = 4096
const MB = 1 << 20

/** A row of /proc/self/status that counts memory, bytes (proc(5)). */
function resident(row: 'RssAnon' | 'RssFile'): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return Number(new RegExp(`^${row}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
}

t.test('discard: whole pages read as zeroes, what stands beside them stays', (t) => {
  const buffer = new ArrayBuffer(64 * PAGE)
  const arena = new Uint8Array(buffer).fill(7)
  native.discard(arena, 3, 40 * PAGE)
  const end = arena.lastIndexOf(0) + 1
  const first = arena.indexOf(0)
  t.ok(first >= 3 && first < 3 + PAGE, 'from the first whole page')
  t.ok(end <= 3 + 40 * PAGE && end > 2 + 39 * PAGE, 'to the last one')
  t.ok(
    arena.subarray(first, end).every((byte) => byte === 0),
    'all of them',
  )
  t.ok(arena.subarray(0, first).every((byte) => byte === 7) && arena.indexOf(7, end) === end)
  arena.fill(9)
  t.equal(arena[first], 9, 'they can be used again')
  t.end()
})

t.test('discard: a range without a whole page, or beyond the arena', (t) => {
  const arena = new Uint8Array(new ArrayBuffer(4 * PAGE)).fill(7)
  native.discard(arena, 100, 0)
  native.discard(arena, 1, PAGE - 2)
  t.ok(arena.every((byte) => byte === 7))
  for (const [at, len] of [
    [0, 4 * PAGE + 1],
    [4 * PAGE, 1],
    [-1, 1],
    [0, -1],
    [2 ** 31 - 1, 2 ** 31 - 1],
  ] as const) {
    t.throws(() => {
      native.discard(arena, at, len)
    }, RangeError)
  }
  t.end()
})

t.test('discard: the memory is not ours any more', (t) => {
  const arena = new Uint8Array(new ArrayBuffer(64 * MB)).fill(1)
  const before = resident('RssAnon')
  native.discard(arena, 0, arena.length)
  t.ok(resident('RssAnon') < before - 60 * MB)
  t.equal(arena[PAGE], 0)
  t.end()
})

t.test('unmapProgram: what the start used of the program goes, and the program goes on', (t) => {
  const before = resident('RssFile')
  native.unmapProgram()
  t.ok(resident('RssFile') < before - 5 * MB, `${String(before)} → ${String(resident('RssFile'))}`)
  t.equal(JSON.stringify({ a: [1, 2.5, 'x'.repeat(3)] }), '{"a":[1,2.5,"xxx"]}')
  t.equal(new RegExp('(a+)b').exec('caab')?.[1], 'aa')
  t.end()
})
