/**
 * `npm run bench:control`: one daemon among thousands of leases in a real etcd.
 *
 * How long it takes to be ready, how much memory it holds, how soon a changed lease is in the table, and
 * what a storm of changes does to the packets of two pods. Everything runs on one machine: the daemon, its
 * peer, etcd and the writer share its cores.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Host, Pod } from '../../control/lab/host.js'
import { createLab, type Lab } from '../../control/lab/lab.js'
import type { ManagedProcess } from '../../control/lab/process.js'
import { packageFolder, resultsFolder } from '../lib/package.js'
import { describeCommit, describeMachine } from '../netns/machine.js'
import type { Machine } from '../netns/result.js'
import { describe, quantiles, type Figures } from './figures.js'
import { writePage } from './page.js'
import {
  appliedByKernel,
  appliedByLog,
  readyAt,
  residentMb,
  shareDuring,
  type Applied,
} from './observe.js'
import { configText, PREFIX, type Backend } from '../../control/lab/many-leases.js'
import type { Change } from '../../control/lab/lease-writer.js'

const WRITER = fileURLToPath(new URL('../../control/lab/lease-writer.js', import.meta.url))
const BACKENDS: readonly Backend[] = ['udp', 'vxlan', 'kernel vxlan']
/** As many as have subnets and addresses of their own. */
const MOST_LEASES = 16_000
const USAGE = `usage: npm run bench:control -- [options]

  --leases N      leases in etcd, at most ${String(MOST_LEASES)}; default 5000
  --rate N        changes a second in the storm, default 1000
  --seconds N     how long it lasts, default 60
  --backend NAME  ${BACKENDS.join(', ')}; may be repeated; default all
  --from FILE     measure nothing: write the page of a record (bench/results/control.json)

Without options it writes docs/BENCHMARKS-CONTROL.md.
`
const PATIENCE_MS = 120_000
/** After a start: what was left of it is collected. */
const REST_MS = 15_000
const CHANGES = 1000
const CHANGE_PAUSE_MS = 30
const PING_MS = 10

/** What a run leaves behind. */
interface Record {
  readonly date: string
  readonly commit: string | null
  readonly machine: Machine
  readonly figures: readonly Figures[]
}

/** A daemon under measurement. */
interface Subject {
  readonly daemon: ManagedProcess
  applied(): Applied[]
}

async function until<T>(what: string, find: () => T | undefined): Promise<T> {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    const found = find()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error(`${what}: not within ${String(PATIENCE_MS / 1000)} s`)
    await sleep(100)
  }
}

class Bed {
  readonly backend: Backend
  readonly #lab: Lab
  readonly #writerPlace: Host

  constructor(lab: Lab, backend: Backend) {
    this.#lab = lab
    this.backend = backend
    this.#writerPlace = lab.host(3)
  }

  async write<T>(...args: (string | number)[]): Promise<T> {
    const all = [WRITER, this.#lab.etcd.endpoint, this.backend, ...args.map(String)]
    const { code, stdout, stderr } = await this.#writerPlace.run(process.execPath, all, {
      timeoutMs: 300_000,
    })
    if (code !== 0) throw new Error(`the writer ended with ${String(code)}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  async start(host: Host): Promise<Subject> {
    const isKernel = this.backend === 'kernel vxlan'
    const args = ['-oL', 'bridge', '-timestamp', 'monitor', 'fdb']
    const monitor = isKernel ? await host.spawn('stdbuf', args, { name: 'fdb' }) : null
    const daemon = await host.startDaemon(null, [`--etcd-endpoints=${this.#lab.etcd.endpoint}`])
    return {
      daemon,
      applied: () => (monitor === null ? appliedByLog(daemon) : appliedByKernel(monitor)),
    }
  }
}

/** A daemon with all leases before it. @returns it and how long it took to have them and be ready */
async function startAmong(bed: Bed, host: Host, leases: number): Promise<[Subject, number]> {
  const start = Date.now()
  const subject = await bed.start(host)
  const ready = await until('ready', () => {
    if (!subject.daemon.running) throw new Error(subject.daemon.stderr())
    const said = readyAt(subject.daemon)
    const last = subject.applied()[leases - 1]
    return said === undefined || last === undefined ? undefined : Math.max(said, last.at)
  })
  return [subject, (ready - start) / 1000]
}

async function measureChanges(bed: Bed, subject: Subject, leases: number) {
  const changes = await bed.write<Change[]>('change', CHANGES, leases, CHANGE_PAUSE_MS)
  await sleep(1000)
  const seen = new Map(subject.applied().map(({ at, address }) => [address, at]))
  const at = ({ address }: Change): number => {
    const when = seen.get(address)
    if (when === undefined) throw new Error(`${address}: never seen`)
    return when
  }
  const told = changes.flatMap((change) =>
    change.watched === null ? [] : [{ ...change, watched: change.watched }],
  )
  return {
    daemon: quantiles(changes.map((change) => at(change) - change.asked)),
    watcher: quantiles(told.map(({ watched, asked }) => watched - asked)),
    behind: quantiles(told.map((change) => at(change) - change.watched)),
  }
}

async function measureStorm(
  bed: Bed,
  subject: Subject,
  [from, to]: readonly [Pod, Pod],
  { leases, rate, seconds }: { leases: number; rate: number; seconds: number },
): Promise<Figures['storm']> {
  const { daemon } = subject
  const before = residentMb(daemon)
  const already = subject.applied().length
  const sent = ((seconds + 2) * 1000) / PING_MS
  const ping = from.run(
    'ping',
    ['-q', '-n', '-i', String(PING_MS / 1000), '-c', String(sent), '-W', '1', to.address],
    // It waits for its turn, and lags behind on a busy machine.
    { timeoutMs: (seconds + 120) * 1000 },
  )
  const memory: number[] = []
  const sampler = setInterval(() => {
    memory.push(residentMb(daemon))
  }, 1000)
  interface Written {
    written: number
    seconds: number
    last: { at: number; subnet: string; address: string }
  }
  const [churn, daemonShare] = await shareDuring(daemon, () =>
    bed.write<Written>('churn', rate, seconds, leases),
  )
  clearInterval(sampler)
  const { at } = await until('the last change', () =>
    subject.applied().find(({ address }) => address === churn.last.address),
  )
  const received = /(\d+) received/.exec((await ping).stdout)?.[1]
  const seen = subject.applied().length - already
  await sleep(REST_MS)
  return {
    perSecond: churn.written / churn.seconds,
    seconds: churn.seconds,
    seen,
    written: churn.written,
    lagMs: at - churn.last.at,
    residentMb: { before, most: Math.max(...memory), after: residentMb(daemon) },
    pings: { sent, received: Number(received) },
    daemonShare,
  }
}

async function measure(options: {
  backend: Backend
  leases: number
  rate: number
  seconds: number
}): Promise<Figures> {
  const { backend, leases } = options
  const lab = await createLab({ hosts: 3 })
  try {
    await lab.startEtcd()
    await lab.etcd.put(`${PREFIX}/config`, configText(backend))
    const bed = new Bed(lab, backend)
    await bed.write('fill', leases)
    const [h1, h2] = [lab.host(1), lab.host(2)]
    const [subject, readySeconds] = await startAmong(bed, h1, leases)
    const { daemon } = subject
    await sleep(REST_MS)
    const resident = residentMb(daemon)
    const [, restingShare] = await shareDuring(daemon, () => sleep(REST_MS))
    await startAmong(bed, h2, leases + 1)
    const pods = [await addPod(h1), await addPod(h2)] as const
    const change = await measureChanges(bed, subject, leases)
    const storm = await measureStorm(bed, subject, pods, options)
    return { backend, leases, readySeconds, residentMb: resident, restingShare, change, storm }
  } finally {
    await lab.close()
  }
}

async function addPod(host: Host): Promise<Pod> {
  await host.addBridge(await host.subnetEnv())
  return host.addPod()
}

/**
 * @param argv  what follows the command
 * @returns     exit code
 */
export async function benchControl(argv: readonly string[]): Promise<number> {
  const plan = planOf(argv)
  if (plan === null) {
    process.stderr.write(USAGE)
    return 2
  }
  if (plan.from !== null) {
    const { figures, machine, date, commit } = JSON.parse(readFileSync(plan.from, 'utf8')) as Record
    await writePage(figures, machine, new Date(date), commit)
    return 0
  }
  const figures: Figures[] = []
  for (const backend of plan.backends) {
    const one = await measure({ ...plan, backend })
    figures.push(one)
    console.log(`${describe(one)}\n`)
  }
  mkdirSync(resultsFolder(), { recursive: true })
  const machine = describeMachine()
  const [date, commit] = [new Date(), describeCommit(packageFolder())]
  const record: Record = { date: date.toISOString(), commit, machine, figures }
  writeFileSync(join(resultsFolder(), 'control.json'), JSON.stringify(record, null, 2))
  if (argv.length === 0) await writePage(figures, machine, date, commit)
  return 0
}

/** What is asked for; null = that makes no sense. */
function planOf(argv: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        leases: { type: 'string', default: '5000' },
        seconds: { type: 'string', default: '60' },
        rate: { type: 'string', default: '1000' },
        backend: { type: 'string', multiple: true, default: [...BACKENDS] },
        from: { type: 'string' },
      },
    })
    const [leases = 0, rate = 0, seconds = 0] = [values.leases, values.rate, values.seconds].map(
      Number,
    )
    const backends = BACKENDS.filter((name) => values.backend.includes(name))
    const isWhole = [leases, rate, seconds].every((n) => Number.isInteger(n) && n > 0)
    const isKnown = backends.length === new Set(values.backend).size
    return isWhole && isKnown && leases <= MOST_LEASES
      ? { leases, rate, seconds, backends, from: values.from ?? null }
      : null
  } catch {
    return null
  }
}
