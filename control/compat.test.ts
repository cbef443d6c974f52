/**
 * The table of cases in docs/COMPATIBILITY.md: every case has one row, and a row that claims an
 * outcome names test files that exist and have a test named for the case.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { casesOf, OUTCOME, readCases } from './compat-table.js'

/** Number of black-box cases. */
const CASES = 73

/** The package's own folder, wherever this file was compiled to. */
function findPackage(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findPackage(dirname(from))
}

const root = findPackage(dirname(fileURLToPath(import.meta.url)))
const rows = readCases(readFileSync(join(root, 'docs/COMPATIBILITY.md'), 'utf8'))

/** Whether a test file has a test of a case. */
function hasTest(text: string, name: string): boolean {
  const literals = text.matchAll(/'((?:[^'\\\n]|\\.)*)'|"([^"\n]*)"|`([^`\n]*)`/g)
  return [...literals].some(([, a, b, c]) => casesOf(a ?? b ?? c ?? '').includes(name))
}

t.test('one row for each case, in order', async (t) => {
  t.same(
    rows.map((row) => row.name),
    Array.from({ length: CASES }, (_, i) => `F${i + 1}`),
  )
})

t.test('each row says what it must', async (t) => {
  for (const { name, what, files, outcome } of rows) {
    t.ok(what.length > 0, name)
    t.match(outcome, OUTCOME, name)
    t.equal(
      files.length === 0,
      outcome.startsWith('not yet'),
      `${name}: tests if it has an outcome`,
    )
  }
})

t.test('each test file has a test of the case', async (t) => {
  for (const { name, files } of rows) {
    for (const file of files) {
      const path = join(root, file)
      if (t.ok(existsSync(path), `${name}: ${file} exists`)) {
        t.ok(hasTest(readFileSync(path, 'utf8'), name), `${name}: ${file} has a test of it`)
      }
    }
  }
})

t.test('the reading of names', async (t) => {
  t.ok(hasTest("t.test('F10 renewal', …)", 'F10'))
  t.ok(hasTest("t.test('F23 F24 flags', …)", 'F24'))
  t.ok(hasTest('t.test("ready (F28 to F30)", …)', 'F29'))
  t.ok(hasTest("t.test('kernel state (F36, F27, F4)', …)", 'F4'))
  t.notOk(hasTest("t.test('F10 renewal', …)", 'F1'))
  t.notOk(hasTest('// F10 is tested elsewhere', 'F10'))
})
