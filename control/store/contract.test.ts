/**
 * What every store does, tried on each of them: etcd (a real server) and a directory.
 * An operator's steps go past the store, with etcdctl and with plain files.
 */
import { mkdir, mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease.js'
import { parseSubnetKey } from '../subnet-key.js'
import { EtcdFixture } from './etcd-fixture.js'
import { createEtcdStore } from './etcd.js'
import { EventRecorder } from './event-recorder.js'
import { createFileStore } from './file.js'
import type { StoreObserver, SubnetStore } from './store.js'

/** A place to keep leases, seen by a store and, past it, by an operator. */
interface Place {
  open(observer?: StoreObserver): SubnetStore
  put(name: string, value: string): Promise<void>
  get(name: string): Promise<string>
  remove(name: string): Promise<void>
  putConfig(text: string): Promise<void>
  /** Another network beside this one. */
  neighbour(): Place
}

const DAY = 86_400_000
const signal = new AbortController().signal

function subnet(key: string): LeaseSubnet {
  const parsed = parseSubnetKey(key)
  if (parsed === null) throw new Error(`bad key in test: ${key}`)
  return parsed
}

function attrs(publicIP: string): LeaseAttrs {
  return { publicIP, publicIPv6: null, backendType: '' }
}

/** The bytes flannel 0.28 writes for the udp backend. */
function udpValue(publicIP: string): string {
  return `{"PublicIP":"${publicIP}","PublicIPv6":null}`
}

const A = '10.5.1.0-24'
const B = '10.5.2.0-24'
const C = '10.5.3.0-24'

type Case = readonly [name: string, run: (t: Test, place: Place) => Promise<void>]

/** Opens a store for one case and closes it behind it. */
function opened(t: Test, place: Place, observer?: StoreObserver): SubnetStore {
  const store = place.open(observer)
  t.teardown(() => store.close())
  return store
}

function watched(t: Test, store: SubnetStore): EventRecorder {
  const recorder = new EventRecorder(store)
  t.teardown(() => recorder.stop())
  return recorder
}

async function created(store: SubnetStore, key: string, ip: string, ttl = DAY): Promise<Lease> {
  const lease = await store.createLease(subnet(key), attrs(ip), ttl, signal)
  if (lease === null) throw new Error(`${key} is taken`)
  return lease
}

const CASES: readonly Case[] = [
  [
    'config: null until somebody sets it, then the text',
    async (t, place) => {
      const store = opened(t, place)
      t.equal(await store.readConfig(signal), null)
      await place.putConfig('{"Network":"10.5.0.0/16"}')
      t.same(JSON.parse((await store.readConfig(signal)) ?? ''), { Network: '10.5.0.0/16' })
    },
  ],
  [
    'create: key, bytes and lifetime',
    async (t, place) => {
      const store = opened(t, place)
      const before = Date.now()
      const lease = await created(store, A, '192.0.2.1')
      t.equal(await place.get(A), udpValue('192.0.2.1'))
      t.same(lease.subnet, subnet(A))
      t.same(lease.attrs, attrs('192.0.2.1'))
      const expiresAt = lease.expiresAt ?? 0
      t.ok(expiresAt >= before + DAY && expiresAt <= Date.now() + DAY, 'a day from now')
      t.not(lease.storeLease, '')
      const found = await store.readLease(subnet(A), signal)
      t.equal(found?.version, lease.version)
      t.equal(found?.storeLease, lease.storeLease)
      t.ok(Math.abs((found?.expiresAt ?? 0) - expiresAt) <= 1500, 'read expiry is the same')
    },
  ],
  [
    'dual-stack key and every attribute',
    async (t, place) => {
      const store = opened(t, place)
      const key = '10.5.52.0-24&fd00:10:5:1::-64'
      const full: LeaseAttrs = {
        publicIP: '192.0.2.1',
        publicIPv6: '2001:db8::1',
        backendType: 'vxlan',
        backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
      }
      const lease = await store.createLease(subnet(key), full, DAY, signal)
      t.same(lease?.attrs, full)
      t.equal(
        await place.get(key),
        '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan",' +
          '"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}',
      )
      t.same((await store.readLease(subnet(key), signal))?.attrs, full)
      t.equal(await store.readLease({ v4: subnet(key).v4, v6: null }, signal), null)
    },
  ],
  [
    'create refuses a key that exists, whoever made it',
    async (t, place) => {
      const store = opened(t, place)
      await created(store, A, '192.0.2.1')
      t.equal(await store.createLease(subnet(A), attrs('192.0.2.2'), DAY, signal), null)
      await place.put(B, udpValue('192.0.2.3'))
      t.equal(await store.createLease(subnet(B), attrs('192.0.2.2'), DAY, signal), null)
      t.equal(await place.get(A), udpValue('192.0.2.1'))
      t.equal(await place.get(B), udpValue('192.0.2.3'))
    },
  ],
  [
    '20 at once create one subnet: exactly one wins',
    async (t, place) => {
      const stores = Array.from({ length: 4 }, () => opened(t, place))
      const tries = Array.from({ length: 20 }, (_, i) =>
        stores[i % 4]!.createLease(subnet(A), attrs(`192.0.2.${i + 1}`), DAY, signal),
      )
      const winners = (await Promise.all(tries)).filter((lease) => lease !== null)
      t.equal(winners.length, 1)
      t.equal(await place.get(A), udpValue(winners[0]!.attrs.publicIP))
      const found = await stores[0]!.readLease(subnet(A), signal)
      t.equal(found?.version, winners[0]!.version)
      t.ok((found?.expiresAt ?? 0) > Date.now() + DAY / 2, 'with its lifetime')
    },
  ],
  [
    'update: only with the known version, under a fresh lifetime',
    async (t, place) => {
      const store = opened(t, place)
      const first = await created(store, A, '192.0.2.1', 10_000)
      const second = await store.updateLease(first, attrs('192.0.2.9'), DAY, signal)
      t.not(second, null)
      t.not(second?.version, first.version)
      t.ok((second?.expiresAt ?? 0) > Date.now() + DAY - 5000)
      t.equal(await place.get(A), udpValue('192.0.2.9'))
      t.equal(await store.updateLease(first, attrs('192.0.2.1'), DAY, signal), null, 'stale')
      t.equal(await place.get(A), udpValue('192.0.2.9'))
      const again = await store.updateLease(second!, attrs('192.0.2.9'), DAY, signal)
      t.not(again?.version, second?.version, 'identical bytes are a new version too')
      await place.remove(A)
      t.equal(await store.updateLease(again!, attrs('192.0.2.9'), DAY, signal), null, 'gone')
      t.equal(await store.readLease(subnet(A), signal), null, 'and not made again')
    },
  ],
  [
    'delete: only with the known version',
    async (t, place) => {
      const store = opened(t, place)
      const first = await created(store, A, '192.0.2.1')
      const second = await store.updateLease(first, attrs('192.0.2.1'), DAY, signal)
      t.equal(await store.deleteLease(first, signal), false)
      t.equal(await store.deleteLease(second!, signal), true)
      t.equal(await store.readLease(subnet(A), signal), null)
      t.equal(await store.deleteLease(second!, signal), false)
    },
  ],
  [
    'a reservation has no expiry and keeps having none',
    async (t, place) => {
      const store = opened(t, place)
      await place.put(A, '{"PublicIP":"192.0.2.1"}')
      const found = await store.readLease(subnet(A), signal)
      t.equal(found?.expiresAt, null)
      t.equal(found?.storeLease, '')
      const updated = await store.updateLease(found!, attrs('192.0.2.1'), 1000, signal)
      t.equal(updated?.expiresAt, null)
      t.equal(updated?.storeLease, '')
      t.not(updated?.version, found?.version)
      t.equal(await place.get(A), udpValue('192.0.2.1'))
      t.equal((await store.readLease(subnet(A), signal))?.expiresAt, null)
      t.equal(await store.isStoreLeaseAlive(updated!, signal), true)
    },
  ],
  [
    "an operator's rewrite of a lease makes it a reservation",
    async (t, place) => {
      const store = opened(t, place)
      const lease = await created(store, A, '192.0.2.1')
      await place.put(A, udpValue('192.0.2.7'))
      const found = await store.readLease(subnet(A), signal)
      t.equal(found?.attrs.publicIP, '192.0.2.7')
      t.equal(found?.expiresAt, null)
      t.equal(await store.updateLease(lease, attrs('192.0.2.1'), DAY, signal), null)
    },
  ],
  [
    'list: ascending keys, garbage skipped and reported',
    async (t, place) => {
      const skipped: string[] = []
      const store = opened(t, place, {
        onSkip(what, why) {
          t.ok(why.length > 5, `says why: ${why}`)
          skipped.push(what.slice(what.lastIndexOf('/') + 1))
        },
      })
      await created(store, C, '192.0.2.3')
      await created(store, A, '192.0.2.1')
      await created(store, '10.5.10.0-24', '192.0.2.10')
      await place.put('foo', 'bar')
      await place.put(B, '{not json')
      await place.put('10.5.4.7-24', udpValue('192.0.2.4'))
      await place.put('10.5.5.0-24', '{"PublicIP":"fd00::1"}')
      await place.put('10.5.6.0-24', '')
      const leases = await store.listLeases(signal)
      t.same(
        leases.map((lease) => lease.attrs.publicIP),
        ['192.0.2.1', '192.0.2.10', '192.0.2.3'],
      )
      t.same(skipped.sort(), [B, '10.5.4.7-24', '10.5.5.0-24', '10.5.6.0-24', 'foo'].sort())
      t.equal(await store.readLease(subnet(B), signal), null)
      t.equal(await store.createLease(subnet(B), attrs('192.0.2.2'), DAY, signal), null)
    },
  ],
  [
    'watch: snapshot, then what happens, in order',
    async (t, place) => {
      const store = opened(t, place)
      await created(store, B, '192.0.2.2')
      const seen = watched(t, store)
      await seen.ready()
      const lease = await created(store, A, '192.0.2.1')
      await seen.line(`put ${A}`)
      const renewed = await store.updateLease(lease, attrs('192.0.2.11'), DAY, signal)
      await seen.until(() => seen.leases.get(A)?.version === renewed?.version, 'the new version')
      await store.deleteLease(renewed!, signal)
      await seen.line(`delete ${A}`)
      t.same(seen.lines, [`snapshot ${B}`, `put ${A}`, `put ${A}`, `delete ${A}`])
      t.equal(seen.leases.get(B)?.attrs.publicIP, '192.0.2.2')
    },
  ],
  [
    'watch: an operator adds, rewrites and removes',
    async (t, place) => {
      const store = opened(t, place)
      const seen = watched(t, store)
      await seen.ready()
      const start = Date.now()
      await place.put(A, udpValue('192.0.2.1'))
      await seen.line(`put ${A}`)
      await place.put(A, udpValue('192.0.2.2'))
      await seen.until(() => seen.leases.get(A)?.attrs.publicIP === '192.0.2.2', 'new address')
      t.equal(seen.leases.get(A)?.expiresAt, null)
      await place.remove(A)
      await seen.line(`delete ${A}`)
      t.ok(Date.now() - start < 1500, 'each within a fraction of a second')
    },
  ],
  [
    'watch: garbage neither ends it nor removes what was good',
    async (t, place) => {
      const skipped: string[] = []
      const store = opened(t, place, { onSkip: (what) => skipped.push(what) })
      await created(store, A, '192.0.2.1')
      const seen = watched(t, store)
      await seen.ready()
      await place.put('foo', 'bar')
      await place.put(A, '{"PublicIP":')
      await place.put(B, 'null')
      await place.put(C, udpValue('192.0.2.3'))
      await seen.line(`put ${C}`)
      await seen.until(() => skipped.length >= 3, 'three reports')
      t.same(seen.lines, [`snapshot ${A}`, `put ${C}`])
      t.equal(seen.leases.get(A)?.attrs.publicIP, '192.0.2.1')
      await place.remove('foo')
      await place.put(A, udpValue('192.0.2.4'))
      await seen.until(() => seen.leases.get(A)?.attrs.publicIP === '192.0.2.4', 'good again')
      await place.put(A, 'bad again')
      await place.remove(A)
      await seen.line(`delete ${A}`)
    },
  ],
  [
    'expiry: seen as a delete, and not taken for an eviction',
    async (t, place) => {
      const store = opened(t, place)
      const seen = watched(t, store)
      await seen.ready()
      const short = await created(store, A, '192.0.2.1', 1000)
      const long = await created(store, B, '192.0.2.2')
      await seen.line(`put ${A}`)
      t.equal(await store.isStoreLeaseAlive(short, signal), true)
      await seen.line(`delete ${A}`, 5000)
      t.ok(Date.now() >= (short.expiresAt ?? 0) - 50, 'not before its time')
      t.equal(await store.isStoreLeaseAlive(short, signal), false, 'expired')
      t.equal(await store.readLease(subnet(A), signal), null)
      await place.remove(B)
      await seen.line(`delete ${B}`)
      t.equal(await store.isStoreLeaseAlive(long, signal), true, 'evicted')
      t.not(await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal), null, 'free again')
    },
  ],
  [
    'renewal: a lease renewed in time outlives its first lifetime',
    async (t, place) => {
      const store = opened(t, place)
      const seen = watched(t, store)
      await seen.ready()
      const first = await created(store, A, '192.0.2.1', 1000)
      const second = await store.updateLease(first, attrs('192.0.2.1'), DAY, signal)
      await pause(2500)
      t.equal((await store.readLease(subnet(A), signal))?.version, second?.version)
      t.notOk(seen.lines.includes(`delete ${A}`))
    },
  ],
  [
    'two networks in one place do not see each other',
    async (t, place) => {
      const here = opened(t, place)
      const there = opened(t, place.neighbour())
      const seen = watched(t, here)
      await seen.ready()
      await created(there, A, '192.0.2.99')
      await created(here, A, '192.0.2.1')
      await seen.line(`put ${A}`)
      t.same(seen.lines, ['snapshot', `put ${A}`])
      t.equal(seen.leases.get(A)?.attrs.publicIP, '192.0.2.1')
      t.equal((await there.listLeases(signal)).length, 1)
    },
  ],
  [
    'a fired signal ends calls with an AbortError and watches without one',
    async (t, place) => {
      const store = opened(t, place)
      const gone = AbortSignal.abort()
      await t.rejects(store.readConfig(gone), { name: 'AbortError' })
      await t.rejects(store.listLeases(gone), { name: 'AbortError' })
      await t.rejects(store.createLease(subnet(A), attrs('192.0.2.1'), DAY, gone), {
        name: 'AbortError',
      })
      t.equal(await store.readLease(subnet(A), signal), null, 'nothing was created')
      const seen = new EventRecorder(store)
      await seen.ready()
      await seen.stop()
      for await (const event of store.watch(gone)) t.fail(`came: ${event.type}`)
    },
  ],
  [
    'close ends watches, and calls afterwards say so',
    async (t, place) => {
      const store = opened(t, place)
      const seen = new EventRecorder(store)
      await seen.ready()
      await store.close()
      await seen.ended
      await t.rejects(store.readConfig(signal), { code: 'HEDDLE_ABORTED' })
    },
  ],
  [
    'a reader that leaves its loop ends the watch',
    async (t, place) => {
      const store = opened(t, place)
      for await (const event of store.watch(signal)) {
        t.equal(event.type, 'snapshot')
        break
      }
    },
  ],
]

function etcdPlace(etcd: EtcdFixture, prefix: string): Place {
  const key = (name: string) => `${prefix}/subnets/${name}`
  return {
    open: (observer = {}) => createEtcdStore({ endpoints: [etcd.endpoint], prefix, observer }),
    put: async (name, value) => {
      await etcd.ctl('put', '--', key(name), value)
    },
    get: async (name) => (await etcd.ctl('get', '--print-value-only', key(name))).slice(0, -1),
    remove: async (name) => {
      await etcd.ctl('del', key(name))
    },
    putConfig: async (text) => {
      await etcd.ctl('put', `${prefix}/config`, text)
    },
    neighbour: () => etcdPlace(etcd, `${prefix}-b`),
  }
}

function filePlace(directory: string): Place {
  const path = async (...parts: string[]) => {
    await mkdir(join(directory, 'subnets'), { recursive: true })
    return join(directory, ...parts)
  }
  return {
    open: (observer = {}) => createFileStore({ directory, observer }),
    put: async (name, value) => writeFile(await path('subnets', name), value),
    get: async (name) => readFile(await path('subnets', name), 'utf8'),
    remove: async (name) => unlink(await path('subnets', name)),
    putConfig: async (text) => writeFile(await path('config'), text),
    neighbour: () => filePlace(`${directory}-b`),
  }
}

t.test('etcd', async (t) => {
  const etcd = await EtcdFixture.start()
  t.teardown(() => etcd.remove())
  for (const [index, [name, run]] of CASES.entries()) {
    await t.test(name, (t) => run(t, etcdPlace(etcd, `/case-${index}/network`)))
  }
})

t.test('file', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-store-'))
  t.teardown(() => rm(folder, { recursive: true }))
  for (const [index, [name, run]] of CASES.entries()) {
    await t.test(name, (t) => run(t, filePlace(join(folder, `case-${index}`))))
  }
})
