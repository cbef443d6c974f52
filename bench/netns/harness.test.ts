/**
 * The harness itself: a short turn of two contenders in real namespaces, and its parts.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { type ManagedProcess, run as runProgram } from '../../control/lab/process.js'
import { EXAMPLE } from '../report/example-run.js'
import { renderReport } from '../report/markdown.js'
import { quickly, type Bed } from './contender.js'
import { createContenders } from './contenders/all.js'
import { createHeddle } from './contenders/heddle.js'
import { bareLink } from './contenders/kernel.js'
import { twin } from './contenders/twin.js'
import { takeLock } from './lock.js'
import { bench, findMissing } from './main.js'
import { hasProgram } from './programs.js'
import { parseRun } from './result.js'
import { runAll } from './run.js'

const needsRoot = process.getuid?.() === 0 ? false : 'needs root for network namespaces'
const needsIperf = needsRoot || (hasProgram('iperf3') ? false : 'iperf3 is not installed')
const needsCompiler = needsRoot || (hasProgram('cc') ? false : 'no C compiler for the C twin')
const SHORT = {
  warmUpSeconds: 1,
  tcpSeconds: 1,
  packetSeconds: 0.1,
  exchangeSeconds: 0.1,
  pings: 20,
}

const OPTIONS = { durations: SHORT, lock: null, commit: null, missing: [], log: () => undefined }

t.test('a run in namespaces yields a figure for everything', { skip: needsCompiler }, async (t) => {
  const parts = ['packets', 'round-trips', 'memory'] as const
  const heddle = { ...createHeddle({ name: 'heddle', flags: [], subnets: 20 }), parts }
  const run = await runAll([heddle, { ...twin, parts }], { ...OPTIONS, rounds: 1 })
  t.same(run.faults, [])
  t.same(parseRun(JSON.stringify(run)), run, 'a record survives its file')
  const keys = ['pps64', 'pps64-gso', 'rtt-p50', 'rtt-p99', 'rtt-p999', 'ping-p50', 'ping-p99']
  for (const { name, samples } of run.contenders) {
    const figures = new Map(Object.entries(samples).map(([key, values]) => [key, values[0]!]))
    t.same([...figures.keys()], [...keys, 'memory'], name)
    for (const [key, value] of figures) t.ok(value > 0, `${name}, ${key}: ${value}`)
    const [p50, p99, p999] = ['rtt-p50', 'rtt-p99', 'rtt-p999'].map((key) => figures.get(key)!)
    t.ok(p50! <= p99! && p99! <= p999!, `${name}: percentiles ascend`)
  }
  t.match(renderReport(run, []), '| Resident memory of a daemon, MB |')
})

t.test('a round that fails leaves a gap and a reason', { skip: needsRoot }, async (t) => {
  const sound = { ...bareLink, parts: ['round-trips'] } as const
  let starts = 0
  const flaky = {
    ...sound,
    name: 'flaky',
    start: (bed: Bed) =>
      ++starts === 1 ? Promise.reject(new Error('not yet')) : sound.start.call(flaky, bed),
  }
  const log: string[] = []
  const run = await runAll([sound, flaky], {
    ...OPTIONS,
    rounds: 2,
    log: (line) => log.push(line.replace(/:.*/, '')),
  })
  t.same(run.faults, [{ name: 'flaky', round: 1, reason: 'not yet' }])
  const [first, second] = run.contenders.map(({ samples }) => samples['ping-p50']!)
  t.ok(first![0]! > 0 && first![1]! > 0)
  t.equal(second![0], null)
  t.ok(second![1]! > 0)
  t.same(
    log.filter((line, i) => line !== log[i - 1]),
    ['round 1 of 2', '  bare link', '  flaky', 'round 2 of 2', '  flaky', '  bare link'],
    'the order rotates',
  )
})

t.test('TCP is measured, and counts only over the own device', { skip: needsIperf }, async (t) => {
  const honest = { ...bareLink, parts: ['one-flow'] } as const
  const aside = { ...honest, name: 'aside', device: 'eth0' }
  const run = await runAll([honest, aside], { ...OPTIONS, rounds: 1 })
  t.ok((run.contenders[0]?.samples['tcp1']?.[0] ?? 0) > 0)
  t.ok((run.contenders[0]?.samples['cpu1']?.[0] ?? 0) > 0)
  t.same(run.contenders[1]?.samples, {})
  t.match(run.faults, [{ name: 'aside', reason: /^aside carried \d+ bytes on eth0, TCP \d+$/ }])
})

t.test('contenders: names differ, Heddle is first, extra flags make one more', async (t) => {
  const names = createContenders(['--busy-poll-us=0']).map(({ name }) => name)
  t.equal(names[0], 'heddle')
  t.ok(names.includes('heddle --busy-poll-us=0'))
  t.equal(new Set(names).size, names.length)
})

t.test('a quick run has the main figures of everyone who has them all', async (t) => {
  const usual = createContenders([])
  const quick = quickly(usual)
  t.same(
    usual.filter(({ name }) => !quick.some((q) => q.name === name)).map(({ name }) => name),
    ['heddle, 10 000 routes'],
  )
  for (const { parts } of quick) t.same(parts, ['one-flow', 'packets', 'round-trips'])
})

t.test('a contender whose program is not there is missing, with the reason', async (t) => {
  const lacking = { ...bareLink, name: 'lacking', needs: ['sh', 'no-such-program'] }
  t.same(findMissing([bareLink, lacking], new Map()), [
    { name: 'lacking', reason: 'no-such-program is not installed' },
  ])
  t.same(findMissing([lacking], new Map([['no-such-program', 'apt said no']])), [
    { name: 'lacking', reason: 'apt said no' },
  ])
})

t.test('a wrong command line is refused before anything is made', async (t) => {
  for (const argv of [['--rounds', '0'], ['--rounds', 'x'], ['--no-such'], ['--only', 'nobody']]) {
    const said = t.capture(process.stderr, 'write')
    const code = await bench(argv, new Map())
    said.restore()
    t.equal(code, 2, argv.join(' '))
    t.match(String(said.args()[0]), /usage: npm run bench|no contender nobody; there are: heddle;/)
  }
})

t.test('a record of another format or shape is refused with a reason', async (t) => {
  t.same(parseRun(JSON.stringify(EXAMPLE)), EXAMPLE)
  t.throws(() => parseRun(JSON.stringify({ ...EXAMPLE, format: 2 })), /format/)
  t.throws(() => parseRun(JSON.stringify({ ...EXAMPLE, base: 1 })), /base/)
  t.throws(() => parseRun('{'), SyntaxError)
})

t.test('the lock keeps others out until it is given back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'heddle-lock-'))
  t.teardown(() => {
    rmSync(dir, { recursive: true })
  })
  const file = join(dir, 'lock')
  const tryIt = async () => (await runProgram('flock', ['-n', file, 'true'])).code
  const giveBack = await takeLock(file)
  t.ok(existsSync(file))
  t.equal(await tryIt(), 1)
  await giveBack()
  t.equal(await tryIt(), 0)
  await t.rejects(takeLock(join(dir, 'no/such/folder')), /cannot lock.*No such file/)
})

t.test('who fails to come up says why, and is not left running', { skip: needsRoot }, async (t) => {
  const started: ManagedProcess[] = []
  const start = async ({ hosts: [a, b] }: Bed): Promise<never> => {
    started.push(await a.place.spawn('sleep', ['60']))
    started.push(await b.place.spawn('sh', ['-c', 'echo cannot go on >&2; exit 3']))
    await started[1]!.exited
    throw new Error('no route')
  }
  const run = await runAll([{ ...bareLink, start }], { ...OPTIONS, rounds: 1 })
  t.match(run.faults, [{ reason: 'a daemon ended with 3: cannot go on' }])
  t.ok(started.every((child) => !child.running))
})
