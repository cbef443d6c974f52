/**
 * Both stores for the tests of their common contract, each with an operator's hand that goes past
 * it: etcdctl, and plain files. Every case gets a place of its own.
 */
import { mkdir, mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease.js'
import { parseSubnetKey } from '../subnet-key.js'
import { EtcdFixture } from './etcd-fixture.js'
import { createEtcdStore } from './etcd.js'
import { EventRecorder } from './event-recorder.js'
import { createFileStore } from './file.js'
import type { StoreObserver, SubnetStore } from './store.js'

/** A place to keep leases, seen by a store and, past it, by an operator. */
export interface Place {
  open(observer?: StoreObserver): SubnetStore
  put(name: string, value: string): Promise<void>
  get(name: string): Promise<string>
  remove(name: string): Promise<void>
  putConfig(text: string): Promise<void>
  /** Another network beside this one. */
  neighbour(): Place
}

export const DAY = 86_400_000
export const signal: AbortSignal = new AbortController().signal

export function subnet(key: string): LeaseSubnet {
  const parsed = parseSubnetKey(key)
  if (parsed === null) throw new Error(`bad key in test: ${key}`)
  return parsed
}

export function attrs(publicIP: string): LeaseAttrs {
  return { publicIP, publicIPv6: null, backendType: '' }
}

/** The bytes flannel 0.28 writes for the udp backend. */
export function udpValue(publicIP: string): string {
  return `{"PublicIP":"${publicIP}","PublicIPv6":null}`
}

export const A = '10.5.1.0-24'
export const B = '10.5.2.0-24'
export const C = '10.5.3.0-24'

export type Case = readonly [name: string, run: (t: Test, place: Place) => Promise<void>]

/** Opens a store for one case and closes it behind it. */
export function opened(t: Test, place: Place, observer?: StoreObserver): SubnetStore {
  const store = place.open(observer)
  t.teardown(() => store.close())
  return store
}

export function watched(t: Test, store: SubnetStore): EventRecorder {
  const recorder = new EventRecorder(store)
  t.teardown(() => recorder.stop())
  return recorder
}

export async function created(
  store: SubnetStore,
  key: string,
  ip: string,
  ttl = DAY,
): Promise<Lease> {
  const lease = await store.createLease(subnet(key), attrs(ip), ttl, signal)
  if (lease === null) throw new Error(`${key} is taken`)
  return lease
}

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

/** Runs all cases on both stores. */
export function runContract(t: Test, cases: readonly Case[]): void {
  t.jobs = 2
  void t.test('etcd', { buffered: true }, async (t) => {
    const etcd = await EtcdFixture.start()
    t.teardown(() => etcd.remove())
    for (const [index, [name, run]] of cases.entries()) {
      await t.test(name, (t) => run(t, etcdPlace(etcd, `/case-${index}/network`)))
    }
  })
  void t.test('file', { buffered: true }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'heddle-store-'))
    t.teardown(() => rm(folder, { recursive: true }))
    for (const [index, [name, run]] of cases.entries()) {
      await t.test(name, (t) => run(t, filePlace(join(folder, `case-${index}`))))
    }
  })
}
