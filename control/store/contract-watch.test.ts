/**
 * What every store tells those who watch, and when leases end, tried on each: etcd (a real
 * server) and a directory.
 */
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import {
  A,
  B,
  C,
  DAY,
  attrs,
  created,
  opened,
  runContract,
  signal,
  subnet,
  udpValue,
  watched,
  type Case,
} from './contract-places.js'
import { EventRecorder } from './event-recorder.js'

const CASES: readonly Case[] = [
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

runContract(t, CASES)
