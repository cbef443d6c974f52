/**
 * What every store answers to calls, tried on each: etcd (a real server) and a directory.
 */
import t from 'tap'
import type { LeaseAttrs } from '../lease.js'
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
  type Case,
} from './contract-places.js'

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
]

runContract(t, CASES)
