/**
 * `npm run bench:flow`: the whole engine on devices in memory, one thread, beside its baselines.
 *
 *     node dist/bench/flow/main.js [WORD…]     # cases whose name contains every word
 *
 * Figures are per packet; a direction's packets count once. They have the time of the devices in
 * them, which also stands by itself: it is what a system call would take many times over.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { resultsFolder } from '../lib/package.js'
import { formatReport, toLines, type Results } from '../lib/report.js'
import { CASES } from './cases.js'
import type { Outcome } from './one.js'

const SUITE = 'flow'

async function measureAlone(name: string): Promise<Outcome> {
  const program = fileURLToPath(new URL('one.js', import.meta.url))
  const child = fork(program, [name], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const outcomes: Outcome[] = []
  child.on('message', (message) => outcomes.push(message as Outcome))
  await once(child, 'exit')
  if (outcomes[0] === undefined) throw new Error(`${name}: nothing measured`)
  return outcomes[0]
}

/** Throughput and how many packets went into a message, of the engine's own case. */
function describe({ results, packets, bytesPerPacket, packetsPerMessage }: Outcome): string {
  const summary = { name: SUITE, results }
  const [line] = toLines(summary, new Map(results.map(({ name }) => [name, packets])))
  const gbits = ((line?.mopsPerSecond ?? 0) * bytesPerPacket * 8) / 1e3
  return `${gbits.toFixed(1).padStart(6)} Gbit/s, ${packetsPerMessage.toFixed(1)} packets a message`
}

const words = process.argv.slice(2)
const wanted = CASES.filter(({ name }) => words.every((word) => name.includes(word)))
const results: Results['results'][number][] = []
const sizes = new Map<string, number>()
const notes = new Map<string, string>()
for (const { name } of wanted) {
  process.stderr.write(`${name}\n`)
  const outcome = await measureAlone(name)
  results.push(...outcome.results)
  for (const result of outcome.results) sizes.set(result.name, outcome.packets)
  notes.set(name, describe(outcome))
}
const summary = { name: SUITE, date: new Date(), results }
mkdirSync(resultsFolder(), { recursive: true })
writeFileSync(join(resultsFolder(), `${SUITE}.json`), JSON.stringify(summary, null, 2))
console.log(formatReport(summary, sizes, notes))
