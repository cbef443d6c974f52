/**
 * The documents say what the code says: flags, verdicts, counts and error codes are listed exactly,
 * and the verdicts stand in the packet walk.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { GAUGES, verdict } from '../dataplane/index.js'
import { ERROR_CODES } from './errors.js'
import { FLAGS } from './flag-table.js'

/** The package's own folder, wherever this file was compiled to. */
function findPackage(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findPackage(dirname(from))
}

const root = findPackage(dirname(fileURLToPath(import.meta.url)))
const read = (name: string): string => readFileSync(join(root, name), 'utf8')
const operations = read('docs/OPERATIONS.md')

/** Rows of the table under a heading whose first column has names in backquotes: name → row. */
function table(text: string, heading: string): Map<string, readonly string[]> {
  const section = text.split(/^## /m).find((part) => part.startsWith(heading)) ?? ''
  const rows = section.matchAll(/^\| `([^`]+)`\s*\|(.*)\|$/gm)
  return new Map(
    [...rows].map(([, name = '', rest = '']) => [name, rest.split(' | ').map((c) => c.trim())]),
  )
}

t.test('every flag is listed with its default', async (t) => {
  const listed = table(operations, 'Flags')
  const shown = FLAGS.filter((flag) => flag.isHidden !== true)
  t.same(
    [...listed.keys()],
    shown.map((flag) => `--${flag.name}`),
  )
  for (const flag of shown) {
    const [byDefault = ''] = listed.get(`--${flag.name}`) ?? []
    const want = Array.isArray(flag.byDefault) ? '' : String(flag.byDefault)
    t.equal(byDefault.replaceAll('`', ''), want, flag.name)
  }
})

t.test('every verdict and count is listed with its meaning', async (t) => {
  const listed = table(operations, 'Counters')
  const want = [...verdict.VERDICTS, ...GAUGES]
  t.same(
    [...listed.keys()],
    want.map(([name]) => name),
  )
  for (const [name, meaning] of want) t.equal(listed.get(name)?.[0], meaning, name)
})

t.test('every error code is listed with its meaning and a remedy', async (t) => {
  const listed = table(operations, 'Error codes')
  t.same([...listed.keys()], Object.keys(ERROR_CODES))
  for (const [code, meaning] of Object.entries(ERROR_CODES)) {
    const [said, remedy = ''] = listed.get(code) ?? []
    t.equal(said, meaning, code)
    t.ok(remedy.length > 3, `${code} has a remedy`)
  }
})

t.test('every verdict has its place in the packet walk', async (t) => {
  const walk = read('docs/PACKET-WALK.md')
  for (const [name] of verdict.VERDICTS) t.ok(walk.includes(`\`${name}\``), name)
  for (const [, name] of walk.matchAll(/`(drop_\w+)`/g)) {
    t.ok(
      verdict.VERDICTS.some(([known]) => known === name),
      `${String(name)} exists`,
    )
  }
})

t.test('links between documents lead somewhere', async (t) => {
  const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)]
  for (const page of pages.filter((name) => name.endsWith('.md'))) {
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)) {
      t.ok(existsSync(join(root, dirname(page), target)), `${page} → ${target}`)
    }
  }
})
