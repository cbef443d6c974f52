/**
 * @parallel A `vxlan` host that restarts (F46), or loses its device or its network interface (F47):
 * lease, MAC address and routes stay, and so do the peers that it knew, kernels among them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Host, Pod } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import { programKernel, publishedMac } from './kernel-vxlan.js'
import { assertAccounted, createOverlay, links, PREFIX, skip, until } from './overlay.js'

t.setTimeout(180_000)

const VXLAN = { Type: 'vxlan' }
/** Within five seconds, and the time of `ip` and `ping` on a busy machine. */
const HEALED_MS = 15_000

const ping = async (from: Host | Pod, to: string) =>
  (await from.run('ping', ['-c1', '-W1', to])).code === 0

/** Waits until every one of some addresses answers. */
async function heals(t: Test, from: Pod, addresses: readonly string[]): Promise<void> {
  for (const address of addresses) {
    const ms = await until(`${address} answers`, HEALED_MS, () => ping(from, address))
    t.pass(`${address} answers after ${ms.toFixed(0)} ms`)
  }
}

t.test('F46 a restart', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend: VXLAN })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const leases = () => overlay.lab.etcd.list(`${PREFIX}/subnets/`)
  const before = await leases()
  const count = 1000
  const args = ['-q', '-i0.01', `-c${count}`, '-W1', p1.address]
  const pinging = p2.run('ping', args, { timeoutMs: 60_000 })
  await sleep(500)
  await overlay.daemon(h1).stop()
  await overlay.start(h1)
  await overlay.ready(h1, 1)
  const { stdout } = await pinging
  const lost = count - Number(/(\d+) received/.exec(stdout)?.[1])
  t.comment(`${lost} of ${count} echo requests, one each 10 ms, were lost`)
  t.ok(lost < 900, stdout)
  t.same(await leases(), before, 'the same keys with the same values, MAC included')
  t.ok(await ping(p2, p1.address))
})

t.test('F47 device and interface come and go', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 3,
    daemons: 0,
    store: 'etcd',
    backend: VXLAN,
  })
  const [h1, h2, h3] = [1, 2, 3].map((n) => overlay.host(n)) as [Host, Host, Host]
  const daemon = await overlay.start(h1, ['--queues=2'])
  await overlay.ready(h1, 0)
  await overlay.start(h2)
  const p1 = await overlay.addPod(h1)
  const p2 = await overlay.addPod(h2)
  const p3 = await programKernel(overlay, h3, h1)
  const { lease, counters } = await overlay.ready(h1, 2)
  const mac = await publishedMac(overlay, h1)
  const peers = [p2.address, p3.address]
  await heals(t, p1, peers)

  const damages: Readonly<Record<string, () => Promise<void>>> = {
    'the device is deleted': () => h1.ip('link del flannel.1'),
    'and again, under load': async () => {
      const transfer = tcpTransfer(p1, p2, p2.address, { bytes: 200e6 })
      await sleep(300)
      await h1.ip('link del flannel.1')
      t.ok((await transfer).intact, 'the transfer goes on')
    },
    'the interface is set down and up': async () => {
      await h1.ip('link set eth0 down')
      await sleep(1000)
      await h1.ip('link set eth0 up', 'route add default via 172.30.0.254')
    },
    'the interface is deleted and made again': async () => {
      await h1.ip('link del eth0')
      await sleep(1000)
      await overlay.lab.connect(h1)
    },
    'the device is deleted while the store is away': async () => {
      await overlay.lab.etcd.stop()
      await h1.ip('link del flannel.1')
    },
  }
  for (const [name, damage] of Object.entries(damages)) {
    await t.test(name, async (t) => {
      await damage()
      await heals(t, p1, peers)
      for (const pod of [p2, p3]) t.ok(await ping(pod, p1.address), 'from there as well')
    })
  }
  await overlay.lab.etcd.start()
  t.equal(await publishedMac(overlay, h1), mac, 'the same MAC address')
  const after = await overlay.status(h1)
  t.same(after.lease.subnet, lease.subnet)
  t.ok(after.counters.egress.read > counters.egress.read + 1000, 'counters go on')
  t.equal(after.queues.length, 2)
  t.equal(daemon.stderr().match(/flannel\.1 is there again/g)?.length, 3)
  assertAccounted(t, h1.name, await overlay.settled(h1))
})

t.test('F47 both devices of a dual-stack host', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'file',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: VXLAN,
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const both = [p2.address, p2.address6]
  for (const devices of [['flannel-v6.1'], ['flannel.1', 'flannel-v6.1']]) {
    await h1.ip(...devices.map((device) => `link del ${device}`))
    await heals(t, p1, both)
  }

  await t.test('somebody else has its name meanwhile: named, then made anew', async (t) => {
    const daemon = overlay.daemon(h1)
    daemon.kill('SIGSTOP')
    await h1.ip('link del flannel.1', 'link add flannel.1 type bridge')
    daemon.kill('SIGCONT')
    await daemon.waitFor(/repair: flannel\.1 cannot be made.*ip link del flannel\.1/)
    t.ok(await ping(p1, p2.address6), 'the other device goes on')
    await h1.ip('link del flannel.1')
    await heals(t, p1, both)
  })

  await t.test('told to stop while it repairs: nothing is left', async (t) => {
    const daemon = overlay.daemon(h1)
    await h1.ip('link del flannel.1')
    daemon.kill('SIGTERM')
    t.same(await daemon.exited, { code: 0, signal: null })
    t.notMatch(await links(h1), ['flannel.1'])
  })
})
