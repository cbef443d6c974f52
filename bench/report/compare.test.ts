/**
 * Comparisons: changes, and whether they exceed the spread.
 */
import t from 'tap'
import { compareContenders, compareRuns, compareSamples, renderComparison } from './compare.js'
import { EXAMPLE, createRun } from './example-run.js'

const SPEED = { title: 'speed', unit: 'Gbit/s', isMoreBetter: true }
const DELAY = { title: 'delay', unit: 'µs', isMoreBetter: false }

t.test('a change counts when the ranges lie apart, and is good or bad by its direction', (t) => {
  const cases = [
    { of: SPEED, before: [1, 2, 3], after: [4, 5, 6], share: 1.5, judgement: 'better' },
    { of: SPEED, before: [4, 5, 6], after: [1, 2, 3], share: -0.6, judgement: 'worse' },
    { of: DELAY, before: [1, 2, 3], after: [4, 5, 6], share: 1.5, judgement: 'worse' },
    { of: DELAY, before: [4, 5, 6], after: [1, 2, 3], share: -0.6, judgement: 'better' },
    { of: SPEED, before: [1, 2, 4], after: [3, 5, 6], share: 1.5, judgement: 'within the spread' },
    { of: SPEED, before: [1, 2, 3], after: [3, 4, 5], share: 1, judgement: 'within the spread' },
    { of: SPEED, before: [1], after: [4, 5, 6], share: 4, judgement: 'too few rounds' },
    { of: SPEED, before: [1, null, 1], after: [2, 2, null], share: 1, judgement: 'better' },
  ]
  for (const { of, before, after, share, judgement } of cases) {
    const change = compareSamples(of, before, after)!
    t.equal(change.judgement, judgement)
    t.ok(Math.abs(change.share - share) < 1e-9)
  }
  t.equal(compareSamples(SPEED, [], [1, 2]), null)
  t.equal(compareSamples(SPEED, [1, 2], [null, null]), null)
  t.end()
})

t.test('two contenders of one run', (t) => {
  const run = createRun({
    'heddle@a': { tcp1: [1, 2, 3], memory: [5, 5, 5] },
    'heddle@b': { tcp1: [4, 5, 6] },
  })
  const [section, ...more] = compareContenders(run, 'heddle@a', 'heddle@b')
  t.equal(more.length, 0)
  t.equal(section!.title, 'heddle@a → heddle@b')
  t.same(
    section!.changes.map(({ what, judgement }) => [what, judgement]),
    [['TCP, one flow', 'better']],
    'without what only one of them has',
  )
  t.end()
})

t.test('two runs: ratios take the machine out, figures do not', (t) => {
  const before = createRun({
    heddle: { tcp1: [10, 11, 12] },
    socat: { tcp1: [1, 1.1, 1.2] },
    'only before': { tcp1: [1, 1, 1] },
  })
  // The same programs on a machine that is twice as fast now.
  const after = createRun({ heddle: { tcp1: [20, 22, 24] }, socat: { tcp1: [2, 2.2, 2.4] } })
  const sections = compareRuns(before, after)
  t.same(
    sections.map(({ title, changes }) => [title, changes[0]!.judgement]),
    [
      ['heddle ÷ socat', 'within the spread'],
      ['heddle', 'better'],
      ['socat', 'better'],
    ],
  )
  t.equal(sections[0]!.changes[0]!.unit, '×')
  t.end()
})

t.test('a run compared with itself has no change that counts', (t) => {
  const changes = compareRuns(EXAMPLE, EXAMPLE).flatMap((section) => section.changes)
  t.ok(changes.length > 5)
  t.ok(changes.every(({ share, judgement }) => share === 0 && judgement === 'within the spread'))
  t.end()
})

t.test('the comparison as text', (t) => {
  const run = createRun({ a: { tcp1: [4, 5, 6] }, b: { tcp1: [1, 2, 3] } })
  const text = renderComparison(compareContenders(run, 'a', 'b'))
  const [head, line] = text.split('\n')
  t.match(head, /^a → b +before +after +change$/)
  t.match(
    line,
    / {2}TCP, one flow, Gbit\/s +5\.00 \(4\.00–6\.00\) +2\.00 \(1\.00–3\.00\) +−60\.0 % +worse/,
  )
  t.match(text, 'in 10 % of the lines', 'what chance does with three rounds and three')
  t.match(renderComparison([]), 'nothing was measured on both sides')
  t.end()
})
