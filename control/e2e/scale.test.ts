/**
 * @parallel A thousand hosts that do not exist, in a real etcd (F72): every one of them is in the table, and in
 * the kernel where it carries the packets; a few that change or go are followed; then the daemon rests.
 */
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Host } from '../lab/host.js'
import {
  addressOf,
  configText,
  keyOf,
  subnetOf,
  type Backend,
  valueOf,
} from '../lab/many-leases.js'
import { createOverlay, PREFIX, skip, until, type Overlay } from './overlay.js'
import { RESTING, restingShare } from './processor.js'

t.setTimeout(180_000)

const WRITER = fileURLToPath(new URL('../lab/lease-writer.js', import.meta.url))
const LEASES = 1000
const CHANGED = 40
/** The last lease that goes; those before it down to {@link FIRST_GONE} go too. */
const FIRST_GONE = 900
const PATIENCE_MS = 40_000

/** What is said of each lease: subnet → address of its host. */
type Table = Map<string, string>

async function write(overlay: Overlay, backend: Backend, ...args: (string | number)[]) {
  const all = [WRITER, overlay.lab.etcd.endpoint, backend, ...args.map(String)]
  const { code, stderr } = await overlay.host(2).run(process.execPath, all, { timeoutMs: 60_000 })
  if (code !== 0) throw new Error(`the writer ended with ${code}: ${stderr}`)
}

const fromStatus = async (overlay: Overlay, host: Host): Promise<Table> =>
  new Map(
    (await overlay.status(host)).peers.map(({ subnet, publicIP }) => [
      subnet.replace('/24', ''),
      publicIP,
    ]),
  )

/** Neighbour, forwarding entry and route of each lease must agree. */
async function fromKernel(host: Host): Promise<Table> {
  const json = async <T>(...args: string[]) => {
    const [program = '', ...rest] = args
    return JSON.parse((await host.run(program, ['-json', ...rest])).stdout) as T[]
  }
  const [routes, neighbours, entries] = await Promise.all([
    json<{ dst: string; gateway?: string }>('ip', 'route', 'show', 'dev', 'flannel.1'),
    json<{ dst: string; lladdr: string }>('ip', 'neigh', 'show', 'dev', 'flannel.1'),
    json<{ mac: string; dst?: string }>('bridge', 'fdb', 'show', 'dev', 'flannel.1'),
  ])
  const macOf = new Map(neighbours.map(({ dst, lladdr }) => [dst, lladdr]))
  const hostOf = new Map(entries.map(({ mac, dst }) => [mac, dst ?? '']))
  return new Map(
    routes.map(({ dst, gateway = '' }) => {
      return [dst.replace('/24', ''), hostOf.get(macOf.get(gateway) ?? '') ?? '']
    }),
  )
}

const textOf = (table: Table): string[] =>
  [...table].map(([subnet, address]) => `${subnet} ${address}`).sort()

async function untilHeld(t: Test, what: string, wanted: Table, read: () => Promise<Table>) {
  const want = textOf(wanted).join()
  await until(what, PATIENCE_MS, async () => textOf(await read()).join() === want).catch(
    async () => {
      t.same(textOf(await read()), textOf(wanted), what)
    },
  )
  t.pass(what)
}

for (const backend of ['udp', 'kernel vxlan'] as const) {
  t.test(`F72 ${backend}: a thousand peers`, { skip }, async (t) => {
    const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd' })
    const h1 = overlay.host(1)
    await overlay.configure(JSON.parse(configText(backend)) as object)
    await write(overlay, backend, 'fill', LEASES)
    const daemon = await overlay.start(h1)
    await overlay.ready(h1, LEASES)
    const isKernel = backend !== 'udp'
    const wanted: Table = new Map(
      Array.from({ length: LEASES }, (_, i) => [subnetOf(i), addressOf(i, 0)]),
    )
    const held = async (what: string) => {
      await untilHeld(t, `${what}: the status`, wanted, () => fromStatus(overlay, h1))
      if (isKernel) await untilHeld(t, `${what}: the kernel`, wanted, () => fromKernel(h1))
      else t.equal((await overlay.status(h1)).routes, wanted.size, `${what}: the table`)
    }
    await held('all')

    if (!isKernel) {
      await t.test('packets go to the host of their lease', async (t) => {
        const capture = await h1.capture('eth0', 'udp dst port 8285')
        const some = [0, 1, 255, 256, 511, 600, 998, 999]
        for (const i of some) await h1.run('ping', ['-c1', '-W0.1', subnetOf(i)])
        await capture.waitForPackets(some.length)
        const { packets } = await capture.stop()
        const pairs = packets.map(({ bytes }) => {
          const frame = Buffer.from(bytes)
          const at = (offset: number) => [...frame.subarray(offset, offset + 4)].join('.')
          return `${at(14 + 20 + 8 + 16)} to ${at(14 + 16)}`
        })
        t.same(
          [...new Set(pairs)],
          some.map((i) => `${subnetOf(i)} to ${addressOf(i, 0)}`),
        )
      })
    }

    const changed = Array.from({ length: CHANGED }, (_, n) => (n * 7919) % LEASES)
    await write(overlay, backend, 'change', CHANGED, LEASES, 5)
    for (const i of changed) wanted.set(subnetOf(i), addressOf(i, 1))
    await held('some have changed')

    await overlay.lab.etcd.ctl('del', keyOf(FIRST_GONE), keyOf(LEASES))
    // As etcd orders keys, which are text.
    const [first, end] = [keyOf(FIRST_GONE), keyOf(LEASES)]
    for (let i = 0; i < LEASES; i++) {
      if (keyOf(i) >= first && keyOf(i) < end) wanted.delete(subnetOf(i))
    }
    await held('some have gone')
    t.ok(wanted.size < LEASES - 50)

    await overlay.lab.etcd.put(keyOf(FIRST_GONE), valueOf(FIRST_GONE, 5, backend))
    wanted.set(subnetOf(FIRST_GONE), addressOf(FIRST_GONE, 5))
    await held('one has come')
    t.equal((await overlay.lab.etcd.list(`${PREFIX}/subnets/`)).size, wanted.size + 1)

    const share = await restingShare(daemon)
    t.ok(share < RESTING, `${share.toFixed(2)} of a core`)
  })
}
