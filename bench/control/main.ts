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
import { resultsFolder } from '../lib/package.js'
import { percentile } from '../lib/statistics.js'
import { describeMachine } from '../netns/machine.js'
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
`
const PATIENCE_MS = 120_000
/** After a start: what was left of it is collected. */
const REST_MS = 15_000
const CHANGES = 300
const CHANGE_PAUSE_MS = 30
const PING_MS = 10

interface Figures {
  readonly backend: Backend
  readonly leases: number
  readonly readySeconds: number
  readonly residentMb: number
  /** Processor time at rest, share of one core. */
  readonly restingShare: number
  /** From the request to etcd until the table, or the kernel, has the change, and until a watcher was told; ms. */
  readonly change: { readonly daemon: Quantiles; readonly watcher: Quantiles }
  readonly storm: {
    readonly perSecond: number
    readonly seconds: number
    readonly seen: number
    readonly written: number
    readonly lagMs: number
    readonly residentMb: { readonly before: number; readonly most: number; readonly after: number }
    readonly pings: { readonly sent: number; readonly received: number }
    readonly daemonShare: number
  }
}

interface Quantiles {
  readonly p50: number
  readonly p99: number
  readonly worst: number
}

function quantiles(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b)
  return {
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    worst: sorted.at(-1) ?? Number.NaN,
  }
}

/** That a lease's address is where packets find it: when, epoch ms, and which. */
interface Applied {
  readonly at: number
  readonly address: string
}

/** Local time as year, month, day, hour, minute, second, microseconds. */
function epochMs(parts: readonly number[]): number {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, micros = 0] = parts
  return new Date(year, month - 1, day, hour, minute, second).getTime() + micros / 1000
}

/** In user space: the daemon's log, which it writes behind the table. Source: klog's header, `Lmmdd hh:mm:ss.uuuuuu` */
function appliedByLog(daemon: ManagedProcess): Applied[] {
  const year = new Date().getFullYear()
  const pattern =
    /^I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) .*?\] Subnet added: \S+ via (\S+)$/gm
  return [...daemon.stderr().matchAll(pattern)].map((match) => ({
    at: epochMs([year, ...match.slice(1, 7).map(Number)]),
    address: match[7] ?? '',
  }))
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')

/** In the kernel: what it tells of forwarding entries (bridge(8), `-timestamp monitor fdb`), two lines each. */
function appliedByKernel(monitor: ManagedProcess): Applied[] {
  const pattern =
    /^Timestamp: \w+ (\w+) +(\d+) (\d\d):(\d\d):(\d\d) (\d+) (\d+) usec\n(?!Deleted).* dst (\S+) .*permanent/gm
  return [...monitor.stdout().matchAll(pattern)].map((match) => {
    const [day = 0, hour = 0, minute = 0, second = 0, year = 0, micros = 0] = match
      .slice(2, 8)
      .map(Number)
    const month = MONTHS.indexOf(match[1] ?? '') + 1
    return {
      at: epochMs([year, month, day, hour, minute, second, micros]),
      address: match[8] ?? '',
    }
  })
}

/** When a daemon said that it is ready; undefined = not yet. */
function readyAt(daemon: ManagedProcess): number | undefined {
  const match = /^I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) .*?\] flannel is ready$/m.exec(
    daemon.stderr(),
  )
  if (match === null) return undefined
  return epochMs([new Date().getFullYear(), ...match.slice(1, 7).map(Number)])
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

function residentMb(daemon: ManagedProcess): number {
  const status = readFileSync(`/proc/${String(daemon.pid)}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}

/** Processor time so far, seconds: proc(5) stat, fields 14 and 15, in ticks of 1/100 s. */
function busySeconds(daemon: ManagedProcess): number {
  const stat = readFileSync(`/proc/${String(daemon.pid)}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

async function shareDuring<T>(
  daemon: ManagedProcess,
  work: () => Promise<T>,
): Promise<[T, number]> {
  const [busy, start] = [busySeconds(daemon), performance.now()]
  const result = await work()
  return [result, (busySeconds(daemon) - busy) / ((performance.now() - start) / 1000)]
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
  const daemonMs = changes.map(({ address, asked }) => {
    const at = seen.get(address)
    if (at === undefined) throw new Error(`${address}: never seen`)
    return at - asked
  })
  const watcherMs = changes.flatMap(({ watched, asked }) =>
    watched === null ? [] : [watched - asked],
  )
  return { daemon: quantiles(daemonMs), watcher: quantiles(watcherMs) }
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
    { timeoutMs: (seconds + 30) * 1000 },
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

function describe({ backend, leases, change, storm, ...rest }: Figures): string {
  const ms = ({ p50, p99, worst }: Quantiles): string =>
    [p50, p99, worst].map((value) => value.toFixed(1)).join(' / ')
  const { residentMb: memory, pings } = storm
  const rows = [
    ['start until ready with all leases in the table', `${rest.readySeconds.toFixed(2)} s`],
    ['resident at rest', `${rest.residentMb.toFixed(0)} MB`],
    ['processor at rest', `${(100 * rest.restingShare).toFixed(1)} % of a core`],
    ['a change, p50 / p99 / worst: until it is in the table', `${ms(change.daemon)} ms`],
    ['  the same, until a bare watcher is told', `${ms(change.watcher)} ms`],
    [
      'changes in a storm',
      `${storm.perSecond.toFixed(0)} a second for ${storm.seconds.toFixed(0)} s`,
    ],
    ['  that reached the table', `${String(storm.seen)} of ${String(storm.written)}`],
    ['  the last one in the table', `${storm.lagMs.toFixed(0)} ms after etcd had it`],
    ['  pings between pods', `${String(pings.received)} of ${String(pings.sent)} answered`],
    [
      '  resident before, at most, after',
      `${[memory.before, memory.most, memory.after].map((mb) => mb.toFixed(0)).join(' / ')} MB`,
    ],
    ['  processor', `${(100 * storm.daemonShare).toFixed(0)} % of a core`],
  ]
  const width = Math.max(...rows.map(([name = '']) => name.length))
  const text = rows.map(([name = '', value = '']) => `${name.padEnd(width)}  ${value}`)
  return [`${backend}, ${String(leases)} leases`, ...text].join('\n')
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
  const figures: Figures[] = []
  for (const backend of plan.backends) {
    const one = await measure({ ...plan, backend })
    figures.push(one)
    console.log(`${describe(one)}\n`)
  }
  mkdirSync(resultsFolder(), { recursive: true })
  const record = { date: new Date(), machine: describeMachine(), figures }
  writeFileSync(join(resultsFolder(), 'control.json'), JSON.stringify(record, null, 2))
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
      },
    })
    const [leases = 0, rate = 0, seconds = 0] = [values.leases, values.rate, values.seconds].map(
      Number,
    )
    const backends = BACKENDS.filter((name) => values.backend.includes(name))
    const isWhole = [leases, rate, seconds].every((n) => Number.isInteger(n) && n > 0)
    const isKnown = backends.length === new Set(values.backend).size
    return isWhole && isKnown && leases <= MOST_LEASES ? { leases, rate, seconds, backends } : null
  } catch {
    return null
  }
}
