/**
 * What the file store alone does: files an operator handles, several processes, crashes, a
 * directory that goes and comes. What it shares with the other store is in contract.test.ts.
 */
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { ManagedProcess, must } from '../lab/process.js'
import type { LeaseAttrs, LeaseSubnet } from '../lease.js'
import { EventRecorder } from './event-recorder.js'
import { createFileStore, type FileStoreOptions } from './file.js'
import type { SubnetStore } from './store.js'

const signal = new AbortController().signal
const HOUR = 3_600_000
const A = '10.5.1.0-24'
const B = '10.5.2.0-24'
const module = pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), 'file.js')).href

/** 10.5.<n>.0/24 */
const subnet = (n: number): LeaseSubnet => ({
  v4: { addr: 0x0a050000 + n * 256, len: 24 },
  v6: null,
})
const attrs: LeaseAttrs = { publicIP: '192.0.2.1', publicIPv6: null, backendType: '' }
const VALUE = '{"PublicIP":"192.0.2.1","PublicIPv6":null}'

async function open(
  t: Test,
  options: Partial<FileStoreOptions> = {},
): Promise<{ directory: string; store: SubnetStore; subnets: string }> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'heddle-file-')))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const store = createFileStore({ directory, rescanMs: 200, ...options })
  t.teardown(() => store.close())
  return { directory, store, subnets: join(directory, 'subnets') }
}

/** Arguments of a Node.js process that has a store of the directory as `store`. */
function program(directory: string, body: string): string[] {
  return [
    '--input-type=module',
    '-e',
    `import { createFileStore } from '${module}'
     const store = createFileStore({ directory: '${directory}' })
     const signal = new AbortController().signal
     const subnet = (n) => ({ v4: { addr: 0x0a050000 + n * 256, len: 24 }, v6: null })
     const attrs = { publicIP: '192.0.2.1', publicIPv6: null, backendType: '' }
     ${body}`,
  ]
}

t.test('what lies in the directory', async (t) => {
  const { directory, store, subnets } = await open(t)
  await store.createLease(subnet(1), attrs, HOUR, signal)
  t.same((await readdir(directory)).sort(), ['.store', 'subnets'])
  t.same(await readdir(subnets), [A])
  t.equal(await readFile(join(subnets, A), 'utf8'), VALUE)
  t.same(await readdir(join(directory, '.store', 'drafts')), [])
})

t.test('a copied directory is a fixed site: leases without lifetime', async (t) => {
  const { directory, store } = await open(t)
  const lease = await store.createLease(subnet(1), attrs, 1000, signal)
  await writeFile(join(directory, 'config'), '{"Network":"10.5.0.0/16"}\n')
  const copy = `${directory}-copy`
  await cp(directory, copy, { recursive: true, preserveTimestamps: true })
  const { store: other } = await open(t, { directory: copy })
  const [found] = await other.listLeases(signal)
  t.equal(found?.expiresAt, null)
  t.equal(found?.storeLease, '')
  t.not(found?.version, lease?.version)
  t.match(await other.readConfig(signal), /10\.5/)
  await pause(1100)
  t.equal((await other.listLeases(signal)).length, 1, 'there it stays')
  t.equal((await store.listLeases(signal)).length, 0, 'here it has expired')
})

t.test('things that are no files hold nothing up', async (t) => {
  const skipped = new Set<string>()
  const { store, subnets } = await open(t, { observer: { onSkip: (what) => skipped.add(what) } })
  await mkdir(join(subnets, '10.5.3.0-24'), { recursive: true })
  await must('mkfifo', [join(subnets, '10.5.4.0-24')])
  await symlink('/nowhere/at/all', join(subnets, '10.5.5.0-24'))
  await writeFile(join(subnets, '10.5.6.0-24'), VALUE)
  await truncate(join(subnets, '10.5.6.0-24'), 1e9)
  await writeFile(join(subnets, '.10.5.7.0-24.swp'), 'an editor')
  await writeFile(join(subnets, A), `${VALUE}\n`)
  t.same(
    (await store.listLeases(signal)).map((lease) => lease.subnet),
    [subnet(1)],
  )
  t.same([...skipped].sort(), ['10.5.3.0-24', '10.5.4.0-24', '10.5.6.0-24'])
  const seen = new EventRecorder(store)
  await seen.line(`snapshot ${A}`)
  await seen.stop()
})

t.test('garbage is reported once a change, however often one looks', async (t) => {
  const skipped: string[] = []
  const { store, subnets } = await open(t, {
    rescanMs: 10,
    observer: { onSkip: (what) => skipped.push(what) },
  })
  const seen = new EventRecorder(store)
  await seen.ready()
  await writeFile(join(subnets, 'foo'), 'x')
  await pause(200)
  t.same(skipped, ['foo'])
  await seen.stop()
})

t.test('processes that race for the same subnets share them', async (t) => {
  const { directory, store } = await open(t)
  const body = `let won = 0
    for (let n = 1; n <= 30; n++) if (await store.createLease(subnet(n), attrs, 3600000, signal)) won++
    await store.close()
    console.log(won)`
  const args = program(directory, body)
  const wins = await Promise.all([1, 2, 3].map(() => must(process.execPath, args)))
  t.equal(
    wins.map(Number).reduce((a, b) => a + b),
    30,
  )
  const leases = await store.listLeases(signal)
  t.equal(leases.length, 30)
  t.ok(leases.every((lease) => lease.expiresAt !== null))
})

t.test(
  'kill -9 at any moment: no half-written lease, no lost lifetime, no stuck lock',
  async (t) => {
    const { directory, store, subnets } = await open(t)
    const body = `console.log('begun')
    for (let n = 1; ; n = 1 + (n % 5)) {
      const lease = await store.createLease(subnet(n), attrs, 3600000, signal)
      const next = lease && await store.updateLease(lease, attrs, 3600000, signal)
      if (next && n % 2) await store.deleteLease(next, signal)
      if (lease === null) {
        const found = await store.readLease(subnet(n), signal)
        if (found) await store.deleteLease(found, signal)
      }
    }`
    for (let round = 0; round < 6; round++) {
      const log = join(directory, `worker-${round}`)
      const worker = await ManagedProcess.start(process.execPath, program(directory, body), { log })
      await worker.waitFor(/begun/)
      await pause(10 + Math.random() * 60)
      worker.kill('SIGKILL')
      await worker.exited
      t.equal(worker.stderr(), '')
      for (const name of await readdir(subnets)) {
        t.equal(await readFile(join(subnets, name), 'utf8'), VALUE)
      }
      const leases = await store.listLeases(signal)
      t.ok(leases.every((lease) => lease.expiresAt !== null))
      const started = Date.now()
      await store.createLease(subnet(99), attrs, HOUR, signal)
      t.ok(Date.now() - started < 1000)
    }
  },
)

t.test(
  'a reader beside the one who removes what has expired never sees a reservation',
  async (t) => {
    const { directory, store } = await open(t)
    const { store: reader } = await open(t, { directory })
    const [end, latest] = [Date.now() + 1500, Date.now() + 20_000]
    let seen = 0
    // A busy machine may need longer for a reader to meet a lease that is alive.
    const goesOn = () => Date.now() < (seen > 0 ? end : latest)
    const read = async () => {
      while (goesOn()) {
        const lease = await reader.readLease(subnet(1), signal)
        if (lease !== null) seen++
        if (lease?.expiresAt === null) t.fail('a lease without its lifetime')
      }
    }
    const write = async () => {
      for (let ttl = 40; goesOn(); ttl++) await store.createLease(subnet(1), attrs, ttl, signal)
    }
    await Promise.all([write(), ...Array.from({ length: 8 }, read)])
    t.ok(seen > 0, `seen ${seen} times`)
  },
)

t.test('a directory that goes and comes back: nothing is deleted meanwhile', async (t) => {
  const changes: string[] = []
  const observer = { onConnection: (up: boolean) => changes.push(up ? 'up' : 'down') }
  const { directory, store } = await open(t, { observer, rescanMs: 50 })
  await store.createLease(subnet(1), attrs, HOUR, signal)
  const seen = new EventRecorder(store)
  await seen.ready()
  await rename(directory, `${directory}-away`)
  await seen.until(() => changes.length > 0, 'the loss')
  await pause(200)
  t.same(seen.lines, [`snapshot ${A}`])
  await writeFile(join(`${directory}-away`, 'subnets', B), VALUE)
  await rename(`${directory}-away`, directory)
  await seen.line(`snapshot ${A} ${B}`)
  t.same(changes, ['down', 'up'])
  t.not(seen.leases.get(A)?.expiresAt, null, 'its lifetime is still known')
  await seen.stop()
})

t.test('another directory in the place of the one followed is noticed and followed', async (t) => {
  const { directory, store, subnets } = await open(t, { rescanMs: 100 })
  const seen = new EventRecorder(store)
  await seen.ready()
  const other = join(directory, 'other')
  await mkdir(other)
  await writeFile(join(other, A), VALUE)
  await rename(subnets, join(directory, 'old'))
  await rename(other, subnets)
  await seen.until(() => seen.leases.has(A), 'the new content', 2000)
  await writeFile(join(subnets, B), VALUE)
  await seen.until(() => seen.leases.has(B), 'what came after', 2000)
  await seen.stop()
})

t.test('a lock that is held: calls end in time', async (t) => {
  const { directory, store } = await open(t, { timeoutMs: 300 })
  await store.createLease(subnet(1), attrs, HOUR, signal)
  const lock = join(directory, '.store', 'lock')
  const [last = ''] = await readdir(lock)
  const record = await readFile(join(lock, last), 'utf8')
  await writeFile(join(lock, String(parseInt(last) + 1)), record)
  const started = Date.now()
  await t.rejects(store.createLease(subnet(2), attrs, HOUR, signal), {
    code: 'HEDDLE_STORE',
    retryable: true,
  })
  t.ok(Date.now() - started < 800)
  t.equal((await store.listLeases(signal)).length, 1, 'readers do not wait')
})

t.test('a process whose store is closed under a watch ends by itself', async (t) => {
  const { directory } = await open(t)
  const body = `setTimeout(() => void store.close(), 100)
    for await (const event of store.watch(signal)) console.log(event.type)`
  t.equal(await must(process.execPath, program(directory, body)), 'snapshot\n')
})

t.test('ten thousand hosts are listed within the bound of a call, and followed', async (t) => {
  const { directory, subnets } = await open(t)
  await mkdir(subnets)
  const names = Array.from({ length: 10_000 }, (_, i) => `10.${100 + (i >> 8)}.${i & 255}.0-24`)
  await Promise.all(names.map((name) => writeFile(join(subnets, name), VALUE)))
  // A process of its own: this one's promises are traced by the test runner, which takes its time.
  const body = `const { writeFileSync } = await import('node:fs')
    const leases = await store.listLeases(signal)
    const found = leases.map(({ subnet: { v4 } }) =>
      '10.' + ((v4.addr >> 16) & 255) + '.' + ((v4.addr >> 8) & 255) + '.0-24')
    console.log(found.join())
    for await (const event of store.watch(signal)) {
      if (event.type === 'put') break
      console.log(event.leases.length)
      writeFileSync('${join(subnets, A)}', '${VALUE}')
    }
    await store.close()`
  const [listed, ...followed] = (await must(process.execPath, program(directory, body))).split('\n')
  t.ok(listed === names.sort().join(), 'all, in ascending order of their keys')
  t.same(followed, ['10000', ''], 'a snapshot, then the one that is new')
})
