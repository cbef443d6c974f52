/**
 * Taking a lease: what is chosen and written, with real stores; lost races, with scripted ones.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { acquireLease } from './acquire.js'
import { formatSubnet, type Lease, type LeaseSubnet } from './lease.js'
import { parseNetworkConfig } from './network-config.js'
import { answers, leaseOf, recordedLog, scriptedStore, UNREACHABLE } from './scripted-store.js'
import { EtcdFixture } from './store/etcd-fixture.js'
import { createEtcdStore } from './store/etcd.js'
import { createFileStore } from './store/file.js'
import type { SubnetStore } from './store/store.js'
import { formatSubnetKey, parseSubnetKey } from './subnet-key.js'

const DAY = 86_400_000
const OWN = '192.0.2.1'
const OTHER = '192.0.2.2'
const signal = new AbortController().signal

interface Request {
  readonly publicIP?: string
  readonly previous?: string | null
  readonly config?: object
}

function subnet(key: string): LeaseSubnet {
  return parseSubnetKey(key)!
}

function acquire(store: SubnetStore, request: Request = {}, until = signal) {
  const { publicIP = OWN, previous = null, config = { Network: '10.5.0.0/16' } } = request
  const { log, lines } = recordedLog()
  const lease = acquireLease(
    {
      store,
      config: parseNetworkConfig(JSON.stringify(config)),
      attrs: { publicIP, publicIPv6: null, backendType: '' },
      previous: previous === null ? null : subnet(previous),
      ttlMs: DAY,
      log,
    },
    until,
  )
  return { lease, lines }
}

async function folder(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'heddle-acquire-'))
  t.teardown(() => rm(directory, { recursive: true }))
  return directory
}

interface Case {
  readonly name: string
  /** Leases there: key and owner. */
  readonly there: readonly (readonly [string, string])[]
  readonly request: Request
  /** The key that must come out; a pattern where chance decides. */
  readonly key: string | RegExp
  /** The other keys that are there afterwards. */
  readonly kept: readonly string[]
  readonly says: RegExp
}

const SMALL = { Network: '10.5.0.0/28', SubnetMin: '10.5.0.0' }

const CASES: readonly Case[] = [
  {
    name: 'a free subnet of the first hundred',
    there: [['10.5.1.0-24', OTHER]],
    request: {},
    key: /^10\.5\.([2-9]|\d\d|10[01])\.0-24$/,
    kept: ['10.5.1.0-24'],
    says: /^I Allocated lease \(10\.5\.\d+\.0\/24\) to current node \(192\.0\.2\.1\)$/,
  },
  {
    name: 'the own lease',
    there: [
      ['10.5.7.0-24', OWN],
      ['10.5.9.0-24', OTHER],
    ],
    request: { previous: '10.5.8.0-24' },
    key: '10.5.7.0-24',
    kept: ['10.5.9.0-24'],
    says: /^I Found lease \(10\.5\.7\.0\/24\) for current IP \(192\.0\.2\.1\), reusing$/,
  },
  {
    name: 'the subnet of last time',
    there: [['10.5.9.0-24', OTHER]],
    request: { previous: '10.5.200.0-24' },
    key: '10.5.200.0-24',
    kept: ['10.5.9.0-24'],
    says: /^I Found previously leased subnet \(10\.5\.200\.0\/24\), reusing$/,
  },
  {
    name: 'not the subnet of last time when another host has it',
    there: [['10.5.200.0-24', OTHER]],
    request: { previous: '10.5.200.0-24' },
    key: /^10\.5\.(?!200)\d+\.0-24$/,
    kept: ['10.5.200.0-24'],
    says: /^I Allocated lease/,
  },
  {
    name: 'an own lease outside the network is deleted first',
    there: [
      ['10.9.7.0-24', OWN],
      ['10.9.8.0-24', OTHER],
    ],
    request: {},
    key: /^10\.5\.\d+\.0-24$/,
    kept: ['10.9.8.0-24'],
    says: /^I Lease \(10\.9\.7\.0\/24\) of current IP .*does not fit.*deleting$/,
  },
  {
    name: 'the last of four',
    there: [
      ['10.5.0.0-30', OTHER],
      ['10.5.0.4-30', OTHER],
      ['10.5.0.12-30', OTHER],
    ],
    request: { config: SMALL },
    key: '10.5.0.8-30',
    kept: ['10.5.0.0-30', '10.5.0.12-30', '10.5.0.4-30'],
    says: /^I Allocated lease/,
  },
]

t.test('what is taken', async (t) => {
  for (const { name, there, request, key, kept, says } of CASES) {
    await t.test(name, async (t) => {
      const store = createFileStore({ directory: await folder(t) })
      t.teardown(() => store.close())
      for (const [taken, publicIP] of there) {
        const attrs = { publicIP, publicIPv6: null, backendType: '' }
        await store.createLease(subnet(taken), attrs, DAY, signal)
      }
      const { lease, lines } = acquire(store, request)
      const got = await lease
      t.match(formatSubnetKey(got.subnet), key)
      t.same(await store.readLease(got.subnet, signal), got, 'as the store has it')
      t.ok(got.expiresAt! > Date.now() + DAY - 60_000)
      const keys = (await store.listLeases(signal)).map((one) => formatSubnetKey(one.subnet))
      t.same(keys.sort(), [...kept, formatSubnetKey(got.subnet)].sort())
      t.ok(
        lines.some((line) => says.test(line)),
        lines.join('\n'),
      )
    })
  }
})

t.test('out of subnets', async (t) => {
  const list = ['10.5.0.0-30', '10.5.0.4-30', '10.5.0.8-30', '10.5.0.12-30']
  const store = scriptedStore({ listLeases: answers(list.map((key) => leaseOf(key, OTHER))) })
  await t.rejects(acquire(store, { config: SMALL }).lease, {
    code: 'HEDDLE_OUT_OF_SUBNETS',
    message: /out of subnets: all 4 .*enlarge Network/,
  })
})

t.test('races', async (t) => {
  const mine = leaseOf('10.5.7.0-24', OWN)

  await t.test('another host was first, ten times', async (t) => {
    const createLease = answers<Lease | null>(...Array<null>(10).fill(null), mine)
    const { lease, lines } = acquire(scriptedStore({ listLeases: answers([]), createLease }))
    t.equal(await lease, mine)
    t.equal(createLease.calls, 11)
    t.match(lines[9], /choosing a subnet again \(attempt 10\)/)
  })

  await t.test('another host was first each time', async (t) => {
    const createLease = answers<Lease | null>(null)
    const listLeases = answers<readonly Lease[]>([])
    await t.rejects(acquire(scriptedStore({ listLeases, createLease })).lease, {
      code: 'HEDDLE_STORE',
      retryable: true,
    })
    t.equal(listLeases.calls, 11, 'looked anew before each try')
  })

  await t.test('the own lease is gone when it is to be reused', async (t) => {
    const listLeases = answers<readonly Lease[]>([mine], [])
    const store = scriptedStore({
      listLeases,
      updateLease: answers<Lease | null>(null),
      createLease: answers<Lease | null>(mine),
    })
    t.equal(await acquire(store).lease, mine)
    t.equal(listLeases.calls, 3, 'before each try, and for rivals after the last')
  })

  await t.test('the own lease that does not fit changes while it is deleted', async (t) => {
    const unfit = leaseOf('10.9.7.0-24', OWN)
    const deleteLease = answers(false, true)
    const store = scriptedStore({
      listLeases: answers<readonly Lease[]>([unfit], [unfit], []),
      deleteLease,
      createLease: answers<Lease | null>(mine),
    })
    t.equal(await acquire(store).lease, mine)
    t.equal(deleteLease.calls, 2)
  })
})

t.test('F5 another host takes the same IPv6 subnet beside another IPv4 subnet', async (t) => {
  const config = { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd05::/48' }
  const rival = leaseOf('10.5.2.0-24&fd05:0:0:7::-64', OTHER)
  const given: string[] = []
  let leases: Lease[] = []
  const made = ['10.5.1.0-24&fd05:0:0:7::-64', '10.5.1.0-24&fd05:0:0:8::-64']
  const store = scriptedStore({
    listLeases: async () => leases,
    createLease: async () => {
      const lease = leaseOf(made[given.length]!, OWN)
      leases = [rival, lease]
      return lease
    },
    deleteLease: async (lease) => {
      given.push(formatSubnetKey(lease.subnet))
      leases = [rival]
      return true
    },
  })
  const { lease, lines } = acquire(store, { config })
  t.equal(formatSubnetKey((await lease).subnet), made[1])
  t.same(given, [made[0]], 'the first one is given back')
  t.match(
    lines[0],
    /fd05:0:0:7::\/64 was leased to 192\.0\.2\.2 at the same time, giving 10\.5\.1\.0/,
  )
})

t.test('a store that fails, and a signal', async (t) => {
  const away = scriptedStore({ listLeases: answers<readonly Lease[]>(UNREACHABLE) })
  await t.rejects(acquire(away).lease, UNREACHABLE)
  const store = createFileStore({ directory: await folder(t) })
  t.teardown(() => store.close())
  await t.rejects(acquire(store, {}, AbortSignal.abort()).lease, { name: 'AbortError' })
  t.same(await store.listLeases(signal), [])
})

t.test('forty hosts at once on sixty-four subnets', async (t) => {
  const config = { Network: '10.5.0.0/18', SubnetMin: '10.5.0.0' }
  const rush = async (t: Test, open: () => SubnetStore) => {
    const hosts = Array.from({ length: 40 }, (_, i) => `192.0.2.${i + 1}`)
    const got = await Promise.all(
      hosts.map(async (publicIP) => {
        const store = open()
        t.teardown(() => store.close())
        return formatSubnet((await acquire(store, { publicIP, config }).lease).subnet)
      }),
    )
    t.equal(new Set(got).size, 40)
    const reader = open()
    t.teardown(() => reader.close())
    const there = (await reader.listLeases(signal)).map((lease) => formatSubnet(lease.subnet))
    t.same([...there].sort(), [...got].sort())
  }
  await t.test('etcd', async (t) => {
    const etcd = await EtcdFixture.start()
    t.teardown(() => etcd.remove())
    await rush(t, () => createEtcdStore({ endpoints: [etcd.endpoint], prefix: '/rush' }))
  })
  await t.test('file', async (t) => {
    const directory = await folder(t)
    await rush(t, () => createFileStore({ directory, timeoutMs: 20_000 }))
  })
})
