/**
 * Where a run's report goes: docs/BENCHMARKS.md, charts and record beside it, or only bench/results.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { format } from 'prettier'
import { packageFolder } from '../lib/package.js'
import type { Run } from '../netns/result.js'
import { createCharts } from './charts.js'
import { renderReport, replaceReport } from './markdown.js'

const CHARTS = 'bench'

/** The package's style, which the check of the whole package applies to generated files, too. */
export async function tidy(text: string, parser: 'markdown' | 'json'): Promise<string> {
  const manifest = JSON.parse(readFileSync(join(packageFolder(), 'package.json'), 'utf8')) as {
    prettier: object
  }
  return format(text, { ...manifest.prettier, parser })
}

/** The document with the report of a run in it. @param page  the document as it was */
export async function renderPage(run: Run, page: string): Promise<string> {
  const links = createCharts(run).map(({ title, file }) => ({ title, file: `${CHARTS}/${file}` }))
  return tidy(replaceReport(page, renderReport(run, links)), 'markdown')
}

/**
 * Writes BENCHMARKS.md, the charts and the record.
 * @param docs  folder that has BENCHMARKS.md
 * @returns     the files written
 */
export async function writeDocs(run: Run, docs: string): Promise<string[]> {
  const page = join(docs, 'BENCHMARKS.md')
  const folder = join(docs, CHARTS)
  mkdirSync(folder, { recursive: true })
  const charts = createCharts(run)
  for (const { file, svg } of charts) writeFileSync(join(folder, file), svg)
  writeFileSync(page, await renderPage(run, readFileSync(page, 'utf8')))
  const record = join(folder, 'latest.json')
  await writeRecord(run, record)
  return [page, ...charts.map(({ file }) => join(folder, file)), record]
}

/** Writes the record alone. */
export async function writeRecord(run: Run, file: string): Promise<void> {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, await tidy(JSON.stringify(run), 'json'))
}
