/**
 * @serial Hosts that come, go, restart and are killed, and a store that is away: how soon the others
 * notice, and what goes on meanwhile. Leases in a real etcd.
 */
import { existsSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import type { Host } from '../lab/host.js'
import {
  createOverlay,
  links,
  type Overlay,
  overlayAddress,
  PREFIX,
  skip,
  until,
} from './overlay.js'
import { Pinger } from './pinger.js'

t.setTimeout(120_000)

const SECOND = 1000

/** Leases end before the subnets that the garbage names. */
const LEASABLE = { SubnetMin: '10.5.1.0', SubnetMax: '10.5.99.0' }
const GARBAGE = [
  ['foo', 'bar'],
  ['10.5.150.0-24', '{"PublicIP":'],
  ['10.5.151.0-24', '{"PublicIP":"not an address"}'],
  ['10.5.152.0-33', '{"PublicIP":"172.30.0.99"}'],
] as const

/** Subnets that a host has in its table, by their base addresses. */
async function routed(overlay: Overlay, host: Host): Promise<string[]> {
  return (await overlay.status(host)).peers.map((peer) => peer.subnet.replace('/24', ''))
}

function keyOf(base: string): string {
  return `${PREFIX}/subnets/${base}-24`
}

function about(t: Test, what: string, ms: number): void {
  t.comment(`${what}: ${ms.toFixed(0)} ms`)
}

t.test('peers come and go', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 3, daemons: 2, store: 'etcd', network: LEASABLE })
  const { etcd } = overlay.lab
  const [h1, h2, h3] = [overlay.host(1), overlay.host(2), overlay.host(3)]
  const base2 = await overlayAddress(h2)

  await t.test('a new host is reachable < 1 s after its subnet file exists (F14)', async (t) => {
    await overlay.start(h3)
    await h3.subnetEnv()
    const there = Date.now()
    const pinger = await Pinger.start(h1, await overlayAddress(h3))
    const took = (await pinger.answerAfter(0, 5000)) - there
    await pinger.stop()
    about(t, 'reachable after', took)
    t.ok(took < SECOND, `${took.toFixed(0)} ms`)
  })

  await t.test(
    'an evicted host is unreachable < 1 s later, and ends with 0 (F12, F14)',
    async (t) => {
      const base3 = await overlayAddress(h3)
      t.ok((await routed(overlay, h1)).includes(base3))
      const deleted = Date.now()
      await etcd.ctl('del', keyOf(base3))
      await until('h1 has no route to h3', 5000, async () => {
        return !(await routed(overlay, h1)).includes(base3)
      })
      const took = Date.now() - deleted
      about(t, 'route gone after', took)
      t.ok(took < SECOND, `${took} ms`)
      t.match(
        (await h1.run('ping', ['-c1', '-W1', base3])).stdout,
        /Net Unreachable/,
        'h1 itself says that there is no such net',
      )
      t.same(await overlay.daemon(h3).exited, { code: 0, signal: null })
      t.match(overlay.daemon(h3).stderr(), /Lease has been revoked/)
      t.notOk((await links(h3)).includes('flannel0'))
      t.ok((await routed(overlay, h2)).length === 1, 'h2 forgot it as well')
    },
  )

  await t.test('garbage in the store costs no peer (F17)', async (t) => {
    for (const [key, value] of GARBAGE) {
      await etcd.put(`${PREFIX}/subnets/${key}`, value)
    }
    await until('h1 has skipped four keys', 5000, async () => {
      return (await overlay.status(h1)).skippedKeys === 4
    })
    t.same(await routed(overlay, h1), [base2])
    t.equal((await h1.run('ping', ['-c1', '-W2', base2])).code, 0)
    for (const [key] of GARBAGE) await etcd.ctl('del', `${PREFIX}/subnets/${key}`)
  })

  await t.test('SIGTERM: exit 0 < 5 s, device gone, lease and file stay (F26)', async (t) => {
    const daemon = overlay.daemon(h2)
    const file = readFileSync(h2.subnetFile, 'utf8')
    const start = Date.now()
    daemon.kill('SIGTERM')
    t.same(await daemon.exited, { code: 0, signal: null })
    const took = Date.now() - start
    about(t, 'ended after', took)
    t.ok(took < 5 * SECOND, `${took} ms`)
    t.notOk((await links(h2)).includes('flannel0'))
    t.ok((await etcd.list(`${PREFIX}/subnets/`)).has(keyOf(base2)))
    t.equal(readFileSync(h2.subnetFile, 'utf8'), file)
    t.notOk(existsSync(`${h2.subnetFile}.sock`), 'the control socket is gone')
    t.same(await routed(overlay, h1), [base2], 'the others keep the route')
  })

  await t.test('a restart keeps the subnet, and traffic goes on (F7)', async (t) => {
    const pinger = await Pinger.start(h1, base2)
    await overlay.start(h2)
    const status = await overlay.ready(h2, 1)
    t.equal(status.lease.subnet, `${base2}/24`)
    await pinger.answerAfter(0, 5000)
    await pinger.stop()
  })

  await t.test('kill -9 and start: same subnet, traffic goes on', async (t) => {
    const pinger = await Pinger.start(h1, base2)
    await pinger.answerAfter(0, 2000)
    const daemon = overlay.daemon(h2)
    daemon.kill('SIGKILL')
    t.same(await daemon.exited, { code: null, signal: 'SIGKILL' })
    await until('the kernel has removed the device', 2000, async () => {
      return !(await links(h2)).includes('flannel0')
    })
    const restarted = Date.now()
    await overlay.start(h2)
    const status = await overlay.ready(h2, 1)
    t.equal(status.lease.subnet, `${base2}/24`)
    t.equal(status.device?.name, 'flannel0')
    about(t, 'traffic again after', (await pinger.answerAfter(restarted, 5000)) - restarted)
    await pinger.stop()
  })

  await t.test('etcd killed: traffic goes on; restarted: new peers are seen (F15)', async (t) => {
    const pinger = await Pinger.start(h1, base2)
    await pinger.answerAfter(0, 2000)
    await etcd.kill()
    await until('h1 has noticed', 15_000, async () => {
      return !(await overlay.status(h1)).store.isReachable
    })
    t.same(await routed(overlay, h1), [base2], 'nothing is forgotten')
    // A host that starts meanwhile waits for the store.
    await overlay.start(h3)
    await etcd.start()
    const back = Date.now()
    await overlay.ready(h3, 2)
    about(t, 'h3 ready after', Date.now() - back)
    const base3 = await overlayAddress(h3)
    await until('h1 knows h3', 15_000, async () => (await routed(overlay, h1)).includes(base3))
    about(t, 'known to h1 after', Date.now() - back)
    t.equal((await h1.run('ping', ['-c1', '-W2', base3])).code, 0)
    await until('h1 calls the store reachable', 5000, async () => {
      return (await overlay.status(h1)).store.isReachable
    })
    const gap = pinger.longestGap()
    await pinger.stop()
    about(t, 'longest gap', gap)
    t.ok(gap < 500, `no answer missing for long: ${gap.toFixed(0)} ms`)
  })

  await t.test('SIGINT ends a daemon as well; while the store is away too (F26)', async (t) => {
    await etcd.kill()
    for (const host of [h1, h2, h3]) {
      const daemon = overlay.daemon(host)
      const start = Date.now()
      daemon.kill('SIGINT')
      t.same(await daemon.exited, { code: 0, signal: null }, host.name)
      t.ok(Date.now() - start < 5 * SECOND, `${host.name}: ${Date.now() - start} ms`)
    }
  })
})

t.test('signals before there is a configuration (F26)', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd' })
  await overlay.lab.etcd.ctl('del', '--prefix', PREFIX)
  const host = overlay.host(1)
  const waiting = await overlay.start(host)
  await waiting.waitFor(/Couldn't fetch network config/)
  waiting.kill('SIGTERM')
  t.same(await waiting.exited, { code: 0, signal: null }, 'no configuration yet')
  t.notOk(existsSync(host.subnetFile))

  await overlay.lab.etcd.kill()
  const alone = await overlay.start(overlay.host(2))
  await alone.waitFor(/Installing signal handlers/)
  const start = Date.now()
  alone.kill('SIGTERM')
  t.same(await alone.exited, { code: 0, signal: null }, 'no etcd')
  t.ok(Date.now() - start < 5 * SECOND, `${Date.now() - start} ms`)
})
