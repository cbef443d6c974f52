/**
 * The etcd store while etcd is away, silent, restarted or compacted: calls end in time, watches
 * miss nothing, nobody is told of a change that did not happen.
 */
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { must } from '../lab/process.js'
import { EtcdFixture } from './etcd-fixture.js'
import { createEtcdStore, type EtcdStoreOptions } from './etcd.js'
import { EventRecorder } from './event-recorder.js'
import type { SubnetStore } from './store.js'
import { TcpRelay } from './tcp-relay.js'

const signal = new AbortController().signal
const A = '10.5.1.0-24'
const B = '10.5.2.0-24'
const C = '10.5.3.0-24'
const value = (ip: string) => `{"PublicIP":"${ip}","PublicIPv6":null}`

const etcd = await EtcdFixture.start()
t.teardown(() => etcd.remove())
let cases = 0

interface Opened {
  readonly store: SubnetStore
  /** `up` and `down`, in the order in which the observer was told. */
  readonly changes: string[]
  readonly key: (name: string) => string
}

/** A store with short times on a prefix of its own. */
function open(t: Test, options: Partial<EtcdStoreOptions> = {}): Opened {
  const prefix = `/outage-${cases++}`
  const changes: string[] = []
  const store = createEtcdStore({
    endpoints: [etcd.endpoint],
    prefix,
    timeoutMs: 800,
    keepAliveMs: 300,
    keepAliveTimeoutMs: 200,
    observer: {
      onConnection(up, detail) {
        t.ok(detail.length > 5, `${up ? 'up' : 'down'}: ${detail}`)
        changes.push(up ? 'up' : 'down')
      },
    },
    ...options,
  })
  t.teardown(() => store.close())
  return { store, changes, key: (name) => `${prefix}/subnets/${name}` }
}

async function watched(t: Test, store: SubnetStore): Promise<EventRecorder> {
  const recorder = new EventRecorder(store)
  t.teardown(() => recorder.stop())
  await recorder.ready()
  return recorder
}

t.test('an etcd that comes later: the first listing is retried', async (t) => {
  const relay = await TcpRelay.start(etcd.endpoint)
  await relay.cut()
  const { store, changes, key } = open(t, { endpoints: [relay.endpoint] })
  await etcd.ctl('put', key(A), value('192.0.2.1'))
  const seen = new EventRecorder(store)
  await t.rejects(store.readConfig(signal), { code: 'HEDDLE_STORE', retryable: true })
  await pause(300)
  t.same(seen.lines, [])
  await relay.restore()
  t.teardown(() => relay.cut())
  await seen.line(`snapshot ${A}`)
  t.same(changes, ['down', 'up'])
  await seen.stop()
})

t.test('stopped and started again: changes meanwhile are seen once', async (t) => {
  const { store, changes, key } = open(t)
  for (const name of [A, B]) await etcd.ctl('put', key(name), value('192.0.2.1'))
  const seen = await watched(t, store)
  await etcd.stop()
  await pause(500)
  t.same(changes, ['down'])
  t.same(seen.lines, [`snapshot ${A} ${B}`], 'nothing is lost while etcd is away')
  await etcd.resume()
  await etcd.ctl('del', key(A))
  await etcd.ctl('put', key(C), value('192.0.2.3'))
  await seen.line(`put ${C}`, 6000)
  t.same(seen.lines, [`snapshot ${A} ${B}`, `delete ${A}`, `put ${C}`])
  t.same(changes, ['down', 'up'])
})

t.test('cut off while changes are made: resumed where it was, without a snapshot', async (t) => {
  const relay = await TcpRelay.start(etcd.endpoint)
  t.teardown(() => relay.cut())
  const { store, key } = open(t, { endpoints: [relay.endpoint] })
  await etcd.ctl('put', key(A), value('192.0.2.1'))
  const seen = await watched(t, store)
  await etcd.ctl('put', key(C), value('192.0.2.3'))
  await seen.line(`put ${C}`)
  await relay.cut()
  await etcd.ctl('put', key(B), value('192.0.2.2'))
  await etcd.ctl('del', key(A))
  await etcd.ctl('put', key(A), value('192.0.2.4'))
  await relay.restore()
  await seen.line(`put ${A}`)
  t.same(seen.lines, [`snapshot ${A}`, `put ${C}`, `put ${B}`, `delete ${A}`, `put ${A}`])
})

t.test('compacted while cut off: a snapshot, and no removal of what lives', async (t) => {
  const relay = await TcpRelay.start(etcd.endpoint)
  t.teardown(() => relay.cut())
  const { store, key } = open(t, { endpoints: [relay.endpoint] })
  for (const name of [A, B]) await etcd.ctl('put', key(name), value('192.0.2.1'))
  const seen = await watched(t, store)
  await relay.cut()
  await etcd.ctl('del', key(A))
  for (let i = 0; i < 5; i++) await etcd.ctl('put', key(C), value(`192.0.2.${i}`))
  const { header } = JSON.parse(await etcd.ctl('get', '-w=json', 'x')) as {
    header: { revision: number }
  }
  await etcd.ctl('compact', '--physical', String(header.revision))
  await relay.restore()
  await seen.line(`snapshot ${B} ${C}`)
  await etcd.ctl('put', key(A), value('192.0.2.9'))
  await seen.line(`put ${A}`)
  t.same(seen.lines, [`snapshot ${A} ${B}`, `snapshot ${B} ${C}`, `put ${A}`])
})

t.test('frozen: calls end in time, an idle watch notices, both recover', async (t) => {
  const { store, changes, key } = open(t)
  const seen = await watched(t, store)
  etcd.freeze()
  const frozen = Date.now()
  await seen.until(() => changes.includes('down'), 'the loss, without any call', 4000)
  t.ok(Date.now() - frozen < 2500, `noticed after ${Date.now() - frozen} ms`)
  const asked = Date.now()
  await t.rejects(store.listLeases(signal), { code: 'HEDDLE_STORE', retryable: true })
  t.ok(Date.now() - asked < 1500, `gave up after ${Date.now() - asked} ms`)
  const aborted = Date.now()
  await t.rejects(store.listLeases(AbortSignal.timeout(100)), { name: 'AbortError' })
  t.ok(Date.now() - aborted < 400, `cancelled after ${Date.now() - aborted} ms`)
  etcd.thaw()
  await etcd.ctl('put', key(A), value('192.0.2.1'))
  await seen.line(`put ${A}`, 6000)
  t.same(changes, ['down', 'up'])
})

t.test('a path that swallows packets: noticed, and left when another works', async (t) => {
  const relay = await TcpRelay.start(etcd.endpoint)
  t.teardown(() => relay.cut())
  const { store, changes, key } = open(t, { endpoints: [relay.endpoint, etcd.endpoint] })
  const seen = await watched(t, store)
  relay.mode = 'silent'
  await etcd.ctl('put', key(A), value('192.0.2.1'))
  await seen.line(`put ${A}`, 3000)
  const asked = Date.now()
  t.equal((await store.listLeases(signal)).length, 1)
  t.ok(Date.now() - asked < 800, 'the endpoint that works is asked first')
  t.same(changes, [], 'etcd as a whole was never away')
})

t.test("flannel's default list: the first endpoint is dead", async (t) => {
  const dead = await TcpRelay.start(etcd.endpoint)
  await dead.cut()
  const { store, changes } = open(t, { endpoints: [dead.endpoint, etcd.endpoint] })
  for (let i = 0; i < 5; i++) t.equal(await store.readConfig(signal), null)
  await watched(t, store)
  t.same(changes, [])
})

t.test('killed under a watch and calls: no stray rejection, and the process ends', async (t) => {
  const here = dirname(fileURLToPath(import.meta.url))
  const module = pathToFileURL(join(here, 'etcd.js')).href
  const program = `
    import { createEtcdStore } from '${module}'
    process.on('unhandledRejection', (error) => { console.log('stray', error); process.exit(3) })
    process.on('uncaughtException', (error) => { console.log('uncaught', error); process.exit(4) })
    const store = createEtcdStore({
      endpoints: ['${etcd.endpoint}'], prefix: '/killed', timeoutMs: 600, keepAliveMs: 300, keepAliveTimeoutMs: 200,
    })
    const signal = new AbortController().signal
    const subnet = { v4: { addr: 0x0a050100, len: 24 }, v6: null }
    const attrs = { publicIP: '192.0.2.1', publicIPv6: null, backendType: '' }
    await store.createLease({ v4: { addr: 0x0a050900, len: 24 }, v6: null }, attrs, 60000, signal)
    const end = Date.now() + 1500
    let failed = 0
    let worked = 0
    const watch = (async () => { for await (const event of store.watch(signal)) worked++ })()
    const calls = Array.from({ length: 8 }, async () => {
      while (Date.now() < end) {
        await store.listLeases(signal).then(() => worked++, () => failed++)
        const lease = await store.createLease(subnet, attrs, 60000, signal).catch(() => failed++)
        if (lease?.version) await store.deleteLease(lease, signal).catch(() => failed++)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    })
    await Promise.all(calls)
    await store.close()
    await watch
    console.log(JSON.stringify({ failed, worked }))`
  const output = must(process.execPath, ['--input-type=module', '-e', program])
  while ((await etcd.ctl('get', '--prefix', '/killed/')) === '') await pause(20)
  await pause(300)
  etcd.freeze()
  await pause(400)
  await etcd.kill()
  const started = Date.now()
  const text = await output
  const { failed, worked } = JSON.parse(text) as { failed: number; worked: number }
  t.ok(worked > 0 && failed > 0, text)
  t.ok(Date.now() - started < 4000, `ended after ${Date.now() - started} ms`)
  await etcd.resume()
})
