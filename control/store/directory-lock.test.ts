/**
 * The directory lock: one holder at a time, in one process and over several, and none that stays
 * behind when its holder dies.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { ManagedProcess, must } from '../lab/process.js'
import { createDirectoryLock, type DirectoryLock } from './directory-lock.js'
import { ownIdentity } from './process-identity.js'

const signal = new AbortController().signal
const module = pathToFileURL(
  join(dirname(fileURLToPath(import.meta.url)), 'directory-lock.js'),
).href

interface Place {
  readonly folder: string
  readonly locks: string
  readonly open: (timeoutMs?: number, staleMs?: number) => DirectoryLock
  /** Source text of a program that has the lock as `lock`. */
  readonly program: (body: string) => string[]
}

async function place(t: Test): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-lock-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const locks = join(folder, 'lock')
  const drafts = join(folder, 'drafts')
  await mkdir(locks)
  await mkdir(drafts)
  return {
    folder,
    locks,
    open: (timeoutMs = 5000, staleMs = 10_000) =>
      createDirectoryLock(locks, { drafts, timeoutMs, staleMs }),
    program: (body) => [
      '--input-type=module',
      '-e',
      `import { createDirectoryLock } from '${module}'
       import { readFileSync, writeFileSync } from 'node:fs'
       const lock = createDirectoryLock('${locks}', { drafts: '${drafts}', timeoutMs: 8000 })
       const signal = new AbortController().signal
       ${body}`,
    ],
  }
}

t.test('one at a time, within a process and over several', async (t) => {
  const { folder, locks, open, program } = await place(t)
  const counter = join(folder, 'counter')
  await writeFile(counter, '0')
  const workers = Array.from({ length: 3 }, () =>
    must(
      process.execPath,
      program(`for (let i = 0; i < 40; i++) await lock.run(signal, async () => {
        const n = Number(readFileSync('${counter}', 'utf8'))
        await new Promise((resolve) => setImmediate(resolve))
        writeFileSync('${counter}', String(n + 1))
      })`),
    ),
  )
  let inside = 0
  const own = Array.from({ length: 4 }, async () => {
    const lock = open(8000)
    for (let i = 0; i < 10; i++) {
      await lock.run(signal, async () => {
        t.equal(++inside, 1)
        const n = Number(await readFile(counter, 'utf8'))
        await pause(1)
        await writeFile(counter, String(n + 1))
        inside--
      })
    }
  })
  await Promise.all([...workers, ...own])
  t.equal(await readFile(counter, 'utf8'), String(3 * 40 + 4 * 10))
  t.equal((await readdir(locks)).length, 1, 'old numbers are removed')
})

t.test('a holder killed with -9 leaves the lock at once; a living one keeps it', async (t) => {
  const { folder, open, program } = await place(t)
  const holder = await ManagedProcess.start(
    process.execPath,
    program(
      `await lock.run(signal, async () => { console.log('held'); await new Promise((resolve) => setTimeout(resolve, 60000)) })`,
    ),
    { log: join(folder, 'holder') },
  )
  await holder.waitFor(/held/)
  await t.rejects(
    open(200).run(signal, () => Promise.resolve()),
    { code: 'HEDDLE_STORE', retryable: true, message: new RegExp(`process ${holder.pid}$`) },
  )
  await t.rejects(
    open(5000).run(AbortSignal.timeout(50), () => Promise.resolve()),
    { name: 'AbortError' },
  )
  const waiting = open(3000).run(signal, () => Promise.resolve(Date.now()))
  await pause(50)
  const killed = Date.now()
  holder.kill('SIGKILL')
  t.ok((await waiting) - killed < 500)
})

t.test('whose record counts as dead', async (t) => {
  const own = ownIdentity()
  const cases = [
    { name: 'another boot', record: { ...own, boot: 'earlier' }, dead: true },
    { name: 'a pid given away again', record: { ...own, start: '1' }, dead: true },
    { name: 'no such process', record: { ...own, pid: 4_194_305 }, dead: true },
    { name: 'this process', record: own, dead: false },
    { name: 'another pid namespace, fresh', record: { ...own, pidns: 'pid:[1]' }, dead: false },
    {
      name: 'another pid namespace, old',
      record: { ...own, pidns: 'pid:[1]' },
      dead: true,
      old: true,
    },
    { name: 'unreadable, fresh', record: '', dead: false },
    { name: 'unreadable, old', record: '', dead: true, old: true },
  ]
  for (const { name, record, dead, old } of cases) {
    const { locks, open } = await place(t)
    await writeFile(join(locks, '7'), record === '' ? '' : JSON.stringify(record))
    if (old === true) await pause(120)
    const run = open(50, old === true ? 100 : 10_000).run(signal, () => Promise.resolve('ran'))
    t.equal(await run.catch(() => 'waited'), dead ? 'ran' : 'waited', name)
  }
})

t.test('work that throws gives the lock back, and one that was overtaken is told', async (t) => {
  const { locks, open } = await place(t)
  const lock = open(500)
  await t.rejects(
    lock.run(signal, () => Promise.reject(new Error('work failed'))),
    { message: 'work failed' },
  )
  await t.rejects(
    lock.run(signal, async (held) => {
      await held.confirm()
      const [mine = ''] = await readdir(locks)
      await writeFile(join(locks, String(Number(mine) + 1)), '')
      await held.confirm()
    }),
    { code: 'HEDDLE_STORE', message: /taken away/ },
  )
})
