/**
 * What the etcd store alone does: etcd leases, key ranges, lost answers, relisting.
 * What it shares with the other store is in contract.test.ts.
 */
import { Etcd3 } from 'etcd3'
import t, { type Test } from 'tap'
import { isHeddleError } from '../errors.js'
import type { LeaseAttrs, LeaseSubnet } from '../lease.js'
import { parseSubnetKey } from '../subnet-key.js'
import { EtcdFixture } from './etcd-fixture.js'
import { createEtcdStore, type EtcdStoreOptions } from './etcd.js'
import { EventRecorder } from './event-recorder.js'
import type { SubnetStore } from './store.js'
import { TcpRelay } from './tcp-relay.js'

const DAY = 86_400_000
const signal = new AbortController().signal
const A = '10.5.1.0-24'
const B = '10.5.2.0-24'

function subnet(key: string): LeaseSubnet {
  const parsed = parseSubnetKey(key)
  if (parsed === null) throw new Error(`bad key in test: ${key}`)
  return parsed
}

function attrs(publicIP: string): LeaseAttrs {
  return { publicIP, publicIPv6: null, backendType: '' }
}

const value = (ip: string) => `{"PublicIP":"${ip}","PublicIPv6":null}`

const etcd = await EtcdFixture.start()
t.teardown(() => etcd.remove())
let cases = 0

/** A store on a prefix of its own. */
function open(t: Test, options: Partial<EtcdStoreOptions> = {}): SubnetStore & { prefix: string } {
  const prefix = options.prefix ?? `/etcd-${cases++}`
  const store = createEtcdStore({ endpoints: [etcd.endpoint], prefix, ...options })
  t.teardown(() => store.close())
  return { ...store, prefix }
}

async function leaseIds(): Promise<string[]> {
  return (await etcd.ctl('lease', 'list')).trim().split('\n').slice(1)
}

/** TTL granted to the etcd lease of a key, in seconds, as etcdctl shows it. */
async function grantedTtl(key: string): Promise<number> {
  const json = JSON.parse(await etcd.ctl('get', '-w=json', key)) as { kvs: { lease?: number }[] }
  // Lease ids exceed 2^53: take the digits from the text.
  const id = /"lease":(\d+)/.exec(await etcd.ctl('get', '-w=json', key))?.[1]
  t.ok(json.kvs[0]?.lease, 'the key has an etcd lease')
  const text = await etcd.ctl('lease', 'timetolive', BigInt(id ?? '0').toString(16))
  return Number(/granted with TTL\((\d+)s\)/.exec(text)?.[1])
}

t.test('a lifetime is an etcd lease of whole seconds, new at each renewal', async (t) => {
  const store = open(t)
  const first = await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal)
  t.equal(await grantedTtl(`${store.prefix}/subnets/${A}`), 86_400)
  const second = await store.updateLease(first!, attrs('192.0.2.1'), 7200_500, signal)
  t.equal(await grantedTtl(`${store.prefix}/subnets/${A}`), 7201)
  t.not(second?.storeLease, first?.storeLease)
})

t.test('losing a race or a comparison leaves no etcd lease behind', async (t) => {
  const store = open(t)
  const first = await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal)
  const before = await leaseIds()
  t.equal(await store.createLease(subnet(A), attrs('192.0.2.2'), DAY, signal), null)
  t.equal(
    await store.updateLease({ ...first!, version: '1' }, attrs('192.0.2.2'), DAY, signal),
    null,
  )
  await store.close()
  t.same((await leaseIds()).sort(), before.sort())
})

t.test('the prefix is cleaned as a path', async (t) => {
  const store = open(t, { prefix: '//clean//x/../network/' })
  await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal)
  t.equal(
    await etcd.ctl('get', '--print-value-only', `/clean/network/subnets/${A}`),
    `${value('192.0.2.1')}\n`,
  )
})

t.test('keys beside and below the leases are reported and are no leases', async (t) => {
  const skipped: string[] = []
  const store = open(t, { observer: { onSkip: (what) => skipped.push(what) } })
  const beside = [`${store.prefix}/subnets-x/${A}`, `${store.prefix}/subnets/deep/${A}`]
  for (const key of beside) await etcd.ctl('put', key, value('192.0.2.1'))
  t.same(await store.listLeases(signal), [])
  t.same(skipped.sort(), beside.sort())
  const seen = new EventRecorder(store)
  await seen.ready()
  for (const key of beside) await etcd.ctl('del', key)
  await etcd.ctl('put', `${store.prefix}/subnets/${B}`, value('192.0.2.2'))
  await seen.line(`put ${B}`)
  t.same(seen.lines, ['snapshot', `put ${B}`])
  await seen.stop()
})

t.test('events of one transaction come in its order', async (t) => {
  const store = open(t)
  const folder = `${store.prefix}/subnets/`
  const gone = '10.5.9.0-24'
  await etcd.ctl('put', folder + gone, value('192.0.2.9'))
  const seen = new EventRecorder(store)
  await seen.ready()
  const names = [B, A, '10.5.3.0-24']
  const raw = new Etcd3({ hosts: etcd.endpoint })
  t.teardown(() => {
    raw.close()
  })
  await raw
    .if(folder + gone, 'Version', '==', 1)
    .then(
      ...names.map((name) => raw.put(folder + name).value(value('192.0.2.1'))),
      raw.delete().key(folder + gone),
    )
    .commit()
  await seen.line(`delete ${gone}`)
  t.same(seen.lines, [`snapshot ${gone}`, ...names.map((name) => `put ${name}`), `delete ${gone}`])
  await seen.stop()
})

t.test('a write whose answer is lost is recognised as done', async (t) => {
  const relay = await TcpRelay.start(etcd.endpoint)
  t.teardown(() => relay.cut())
  const prefix = `/etcd-${cases++}`
  const endpoints = [relay.endpoint, etcd.endpoint]
  const store = open(t, { prefix, endpoints, timeoutMs: 1000 })
  const loseAnswerTo = (name: string) => {
    relay.mode = 'pass'
    relay.onRequest = (piece) => {
      if (piece.includes(name)) relay.mode = 'lose-answers'
    }
  }
  await store.readConfig(signal)
  loseAnswerTo(A)
  const created = await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal)
  t.equal(relay.mode, 'lose-answers', 'an answer was lost')
  t.equal(created?.version, (await store.readLease(subnet(A), signal))?.version)
  t.equal(await grantedTtl(`${prefix}/subnets/${A}`), 86_400, 'and its lifetime is not revoked')
  t.notOk(await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal), 'once only')

  await relay.cut()
  await relay.restore()
  const other = open(t, { prefix, endpoints, timeoutMs: 1000 })
  await other.readConfig(signal)
  loseAnswerTo(A)
  const updated = await other.updateLease(created!, attrs('192.0.2.1'), DAY, signal)
  t.equal(relay.mode, 'lose-answers')
  t.not(updated, null)
  t.equal(updated?.version, (await other.readLease(subnet(A), signal))?.version)

  await relay.cut()
  await relay.restore()
  const third = open(t, { prefix, endpoints, timeoutMs: 1000 })
  await third.readConfig(signal)
  loseAnswerTo(A)
  t.equal(await third.deleteLease(updated!, signal), true)
  t.equal(relay.mode, 'lose-answers')
})

t.test('periodic listing: snapshots again, on a stream that goes on', async (t) => {
  const store = open(t, { relistMs: 150 })
  await store.createLease(subnet(A), attrs('192.0.2.1'), DAY, signal)
  const seen = new EventRecorder(store)
  await seen.until(
    () => seen.lines.filter((line) => line === `snapshot ${A}`).length >= 3,
    '3 snapshots',
  )
  for (let i = 0; i < 20; i++)
    await etcd.ctl('put', `${store.prefix}/subnets/${B}`, value(`192.0.2.${i}`))
  await seen.until(() => seen.leases.get(B)?.attrs.publicIP === '192.0.2.19', 'the last write')
  const versions = seen.events.flatMap((event) =>
    event.type === 'put' ? [BigInt(event.lease.version)] : [],
  )
  t.same(
    versions,
    [...new Set(versions)].sort((a, b) => (a < b ? -1 : 1)),
    'none twice, none back',
  )
  await seen.stop()
})

t.test('options that cannot be meant are refused at once', (t) => {
  const prefix = '/x'
  const cases: Partial<EtcdStoreOptions>[] = [
    { endpoints: [] },
    { endpoints: ['ftp://127.0.0.1:2379'] },
    { endpoints: ['http://127.0.0.1:2379/path'] },
    { keyFile: '/nowhere/key.pem' },
    { endpoints: ['https://127.0.0.1:2379'], caFile: '/nowhere/ca.pem' },
  ]
  for (const options of cases) {
    const create = () => createEtcdStore({ endpoints: [etcd.endpoint], prefix, ...options })
    t.throws(create, { code: 'HEDDLE_USAGE' }, JSON.stringify(options))
  }
  t.end()
})

t.test('a password never shows in a description or an error', async (t) => {
  const store = open(t, { username: 'someone', password: 'hunter2', prefix: '/p' })
  t.notMatch(store.description, 'hunter2')
  const error: unknown = await store.readConfig(signal).catch((caught: unknown) => caught)
  t.ok(isHeddleError(error, 'HEDDLE_STORE') && error.retryable)
  t.notMatch(String(error), 'hunter2')
})
