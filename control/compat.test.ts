/**
 * The table of cases in docs/COMPATIBILITY.md: every case has one row, and a row that claims an
 * outcome names test files that exist and have a test named for the case.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/** Number of black-box cases. */
const CASES = 73

const OUTCOME = /^(pass( \(.+\))?|better-than: .+|not yet)$/

/** The package's own folder, wherever this file was compiled to. */
function findPackage(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findPackage(dirname(from))
}

const root = findPackage(dirname(fileURLToPath(import.meta.url)))
const page = readFileSync(join(root, 'docs/COMPATIBILITY.md'), 'utf8')
const section = page.split(/^## /m).find((part) => part.startsWith('Cases\n')) ?? ''
const rows = [...section.matchAll(/^\| (F\d+) +\|(.*)\|$/gm)].map(([, name = '', rest = '']) => {
  const [what = '', files = '', outcome = ''] = rest.split(' | ').map((cell) => cell.trim())
  return { name, what, files: [...files.matchAll(/`([^`]+)`/g)].map((m) => m[1]!), outcome }
})

/** Whether a test file has a test whose name begins with a case, or ends with it in parentheses. */
function hasTest(text: string, name: string): boolean {
  const literals = text.matchAll(/'((?:[^'\\\n]|\\.)*)'|"([^"\n]*)"|`([^`\n]*)`/g)
  return [...literals].some(([, a, b, c]) => {
    const literal = a ?? b ?? c ?? ''
    const named = /^(?:F\d+ )+/.exec(literal)?.[0] ?? /\(F\d[^()]*\)$/.exec(literal)?.[0] ?? ''
    return casesOf(named).includes(name)
  })
}

/** `F28 to F30` and `F36, F27` as single names. */
function casesOf(text: string): string[] {
  const range = /F(\d+) to F(\d+)/.exec(text)
  if (range === null) return text.match(/F\d+/g) ?? []
  const [first, last] = [Number(range[1]), Number(range[2])]
  return Array.from({ length: last - first + 1 }, (_, i) => `F${first + i}`)
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
    t.equal(files.length === 0, outcome === 'not yet', `${name}: tests if it has an outcome`)
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
