/**
 * Writes leases to etcd, as a program of its own in a namespace from which etcd is reached:
 *
 *     lease-writer.js ENDPOINT BACKEND fill COUNT               every lease, as fast as etcd takes them
 *     lease-writer.js ENDPOINT BACKEND change COUNT LEASES MS   one lease after the other gets another address
 *     lease-writer.js ENDPOINT BACKEND churn RATE SECONDS LEASES
 *
 * Prints what it did as JSON. `change` watches the keys as well: when etcd tells of a change is what a
 * daemon can be compared with.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Etcd3 } from 'etcd3'
import { addressOf, keyOf, PREFIX, subnetOf, valueOf, type Backend } from './many-leases.js'

/** Epoch milliseconds with fractions. */
const now = (): number => performance.timeOrigin + performance.now()

/** One change: when it was asked for, when etcd had it, when a watcher was told. */
export interface Change {
  readonly subnet: string
  readonly address: string
  readonly asked: number
  readonly written: number
  readonly watched: number | null
}

/** Writes that are on their way at a time. */
const AT_ONCE = 64
const PER_TRANSACTION = 100

async function fill(etcd: Etcd3, backend: Backend, count: number): Promise<{ seconds: number }> {
  const start = now()
  for (let i = 0; i < count; i += PER_TRANSACTION) {
    const all = Array.from({ length: Math.min(PER_TRANSACTION, count - i) }, (_, k) => i + k)
    const puts = all.map((k) => etcd.put(keyOf(k)).value(valueOf(k, 0, backend)))
    await etcd
      .if(`${PREFIX}/config`, 'Version', '>', 0)
      .then(...puts)
      .commit()
  }
  return { seconds: (now() - start) / 1000 }
}

async function change(
  etcd: Etcd3,
  backend: Backend,
  count: number,
  leases: number,
  pauseMs: number,
): Promise<Change[]> {
  const told = new Map<string, number>()
  const watcher = await etcd.watch().prefix(`${PREFIX}/subnets/`).create()
  watcher.on('put', ({ value }) => {
    const { PublicIP } = JSON.parse(value.toString()) as { PublicIP: string }
    told.set(PublicIP, now())
  })
  const changes: Omit<Change, 'watched'>[] = []
  for (let n = 0; n < count; n++) {
    const i = (n * 7919) % leases
    const asked = now()
    await etcd.put(keyOf(i)).value(valueOf(i, 1, backend))
    changes.push({ subnet: subnetOf(i), address: addressOf(i, 1), asked, written: now() })
    await sleep(pauseMs)
  }
  await watcher.cancel()
  return changes.map((each) => ({ ...each, watched: told.get(each.address) ?? null }))
}

interface Churn {
  readonly written: number
  readonly seconds: number
  /** The last write: when etcd had it, and what it was. */
  readonly last: { readonly at: number; readonly subnet: string; readonly address: string }
}

async function churn(
  etcd: Etcd3,
  backend: Backend,
  perSecond: number,
  seconds: number,
  leases: number,
): Promise<Churn> {
  const start = now()
  const total = perSecond * seconds
  let next = 0
  let last: Churn['last'] = { at: 0, subnet: '', address: '' }
  const work = async (): Promise<void> => {
    while (next < total) {
      const n = next++
      const due = start + (n / perSecond) * 1000
      const early = due - now()
      if (early > 1) await sleep(early)
      const i = n % leases
      const generation = 2 + Math.floor(n / leases)
      await etcd.put(keyOf(i)).value(valueOf(i, generation, backend))
      if (n === total - 1) {
        last = { at: now(), subnet: subnetOf(i), address: addressOf(i, generation) }
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return { written: total, seconds: (now() - start) / 1000, last }
}

const [endpoint = '', backendName = 'udp', what = '', ...numbers] = process.argv.slice(2)
const backend = backendName as Backend
const [a = 0, b = 0, c = 0] = numbers.map(Number)
const etcd = new Etcd3({ hosts: endpoint })
const jobs: Readonly<Record<string, () => Promise<unknown>>> = {
  fill: () => fill(etcd, backend, a),
  change: () => change(etcd, backend, a, b, c),
  churn: () => churn(etcd, backend, a, b, c),
}
process.stdout.write(JSON.stringify(await jobs[what]?.()))
etcd.close()
