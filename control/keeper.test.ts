/**
 * Keeping the own lease: renewed in time, tried again after a failure, and what each state of its key
 * in the store means. Clock and signals are real, lifetimes are short, the store is scripted.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { LeaseKeeper } from './keeper.js'
import type { Lease } from './lease.js'
import { answers, leaseOf, recordedLog, scriptedStore, UNREACHABLE } from './scripted-store.js'
import type { SubnetStore } from './store/store.js'

const KEY = '10.5.7.0-24'
const OWN = '192.0.2.1'
const OTHER = '192.0.2.2'
const HOUR = 3_600_000

const mine = (more: Partial<Lease> = {}) => leaseOf(KEY, OWN, more)

function keep(methods: Partial<SubnetStore>, lease = mine(), ttlMs = 24 * HOUR) {
  const { log, lines } = recordedLog()
  const options = { store: scriptedStore(methods), attrs: lease.attrs, ttlMs, marginMs: HOUR, log }
  const stop = new AbortController()
  return { keeper: new LeaseKeeper(lease, options), lines, stop, signal: stop.signal }
}

async function until(what: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !what();) {
    if (Date.now() > end) throw new Error(`still not so: ${what.toString()}`)
    await sleep(5)
  }
}

t.test('a vanished key', async (t) => {
  const again = mine({ version: '9', storeLease: '8' })
  const foreign = leaseOf(KEY, OTHER)
  const cases: readonly {
    name: string
    /** What is under the key when the store is asked, each time. */
    reads: readonly (Lease | null | Error)[]
    isAlive?: boolean
    created?: Lease | null
    /** The code that it throws, or the lease that it has then. */
    gives: string | Lease
  }[] = [
    { name: 'deleted by an operator', reads: [null], isAlive: true, gives: 'HEDDLE_LEASE_EVICTED' },
    { name: 'expired', reads: [null], isAlive: false, created: again, gives: again },
    { name: 'back by now', reads: [again], gives: again },
    { name: 'taken by another host', reads: [foreign], gives: 'HEDDLE_LEASE_LOST' },
    {
      name: 'expired, and another host was faster',
      reads: [null, foreign],
      isAlive: false,
      created: null,
      gives: 'HEDDLE_LEASE_LOST',
    },
    {
      name: 'expired, and an earlier attempt of ours was faster',
      reads: [null, again],
      isAlive: false,
      created: null,
      gives: again,
    },
    { name: 'the store is away for a moment', reads: [UNREACHABLE, again], gives: again },
  ]
  for (const { name, reads, isAlive, created, gives } of cases) {
    await t.test(name, async (t) => {
      const { keeper, signal, lines } = keep({
        readLease: answers<Lease | null>(...reads),
        ...(isAlive === undefined ? {} : { isStoreLeaseAlive: answers(isAlive) }),
        ...(created === undefined ? {} : { createLease: answers<Lease | null>(created) }),
      })
      if (typeof gives === 'string') {
        await t.rejects(keeper.observe(null, signal), { code: gives })
      } else {
        await keeper.observe(null, signal)
        t.equal(keeper.lease, gives)
      }
      if (reads[0] === UNREACHABLE) t.match(lines[0], /^W own lease cannot be settled yet/)
    })
  }
})

t.test('a rewritten key', async (t) => {
  const { keeper, signal } = keep({})
  const rewritten = mine({ version: '5', expiresAt: null, storeLease: '' })
  await keeper.observe(rewritten, signal)
  t.equal(keeper.lease, rewritten, 'by the host itself, or an operator in its name')
  await t.rejects(keeper.observe(leaseOf(KEY, OTHER), signal), {
    code: 'HEDDLE_LEASE_LOST',
    message: /10\.5\.7\.0\/24 belongs to 192\.0\.2\.2 now/,
  })
})

t.test('renewal', async (t) => {
  // A lifetime below the margin is renewed at its half.
  const ttlMs = 400
  const short = (version: string) => mine({ expiresAt: Date.now() + ttlMs, version })

  await t.test('at its time, under the version last seen', async (t) => {
    const seen: string[] = []
    const { keeper, stop, signal, lines } = keep(
      {
        updateLease: (lease) => {
          seen.push(lease.version)
          return Promise.resolve(short(String(Number(lease.version) + 1)))
        },
      },
      short('1'),
      ttlMs,
    )
    const start = performance.now()
    const running = keeper.renew(signal)
    await until(() => seen.length === 3)
    const took = performance.now() - start
    t.ok(took >= 590, `three halves of a lifetime: ${took.toFixed(0)} ms`)
    stop.abort()
    await running
    t.same(seen, ['1', '2', '3'])
    t.match(lines[0], /^I Lease renewed, new expiration: \d{4}-/)
  })

  await t.test('a failure is told, once while it stays, and tried again', async (t) => {
    const updateLease = answers<Lease | null>(UNREACHABLE, UNREACHABLE, mine({ version: '2' }))
    const { keeper, stop, signal, lines } = keep({ updateLease }, short('1'), ttlMs)
    const running = keeper.renew(signal)
    await until(() => keeper.lease.version === '2')
    stop.abort()
    await running
    t.equal(updateLease.calls, 3)
    t.match(lines, [/^E Error renewing lease.*etcd is away/, /renewed/])
  })

  for (const [name, found, code] of [
    ['another host owns it', leaseOf(KEY, OTHER), 'HEDDLE_LEASE_LOST'],
    ['an operator deleted it', null, 'HEDDLE_LEASE_EVICTED'],
  ] as const) {
    await t.test(name, async (t) => {
      const { keeper, signal } = keep(
        {
          updateLease: answers<Lease | null>(null),
          readLease: answers<Lease | null>(found),
          isStoreLeaseAlive: answers(true),
        },
        mine({ expiresAt: Date.now() }),
      )
      await t.rejects(keeper.renew(signal), { code })
    })
  }

  await t.test('a version that is old news is replaced, then renewed', async (t) => {
    const newer = mine({ version: '7', expiresAt: Date.now() })
    const updateLease = answers<Lease | null>(null, mine({ version: '8' }))
    const { keeper, stop, signal } = keep(
      { updateLease, readLease: answers<Lease | null>(newer) },
      mine({ expiresAt: Date.now() }),
      ttlMs,
    )
    const running = keeper.renew(signal)
    await until(() => keeper.lease.version === '8')
    stop.abort()
    await running
    t.equal(updateLease.calls, 2)
  })

  await t.test('never of a reservation, until it gets a lifetime', async (t) => {
    const updateLease = answers<Lease | null>(mine({ version: '2' }))
    const reserved = mine({ expiresAt: null, storeLease: '' })
    const { keeper, stop, signal } = keep({ updateLease }, reserved, ttlMs)
    const running = keeper.renew(signal)
    await sleep(ttlMs)
    t.equal(updateLease.calls, 0)
    await keeper.observe(short('1'), signal)
    await until(() => updateLease.calls === 1)
    stop.abort()
    await running
  })

  await t.test('a signal ends it at once, also in the middle of a call', async (t) => {
    for (const lease of [mine(), mine({ expiresAt: Date.now() })]) {
      const { keeper, stop, signal } = keep(
        {
          updateLease: (_lease, _attrs, _ttl, until) =>
            new Promise((_resolve, reject) => {
              until.addEventListener('abort', () => {
                reject(new Error('cancelled'))
              })
            }),
        },
        lease,
      )
      const running = keeper.renew(signal)
      await sleep(20)
      const start = performance.now()
      stop.abort()
      await running
      t.ok(performance.now() - start < 1000)
    }
  })
})
