/**
 * @parallel Two daemons on one host, with every backend: what they would share is named and the second one refused;
 * with networks of their own both run; SIGTERM ends each of them in time.
 */
import { join } from 'node:path'
import t from 'tap'
import { EtcdNetwork, createEtcdLab } from './etcd-network.js'
import { HEDDLED } from '../lab/host.js'
import { skip } from './overlay.js'

t.setTimeout(120_000)

/** A backend, what the second daemon is told, and settings that keep a third one out of the way. */
const CASES: readonly {
  name: string
  backend: object
  says: RegExp
  apart: object
}[] = [
  {
    name: 'udp',
    backend: { Type: 'udp' },
    says: /udp 10\.5\.0\.0\/16 is kept by another heddled/,
    apart: { Port: 8286 },
  },
  {
    name: 'vxlan',
    backend: { Type: 'vxlan' },
    says: /flannel\.1 is kept by another heddled/,
    apart: { VNI: 2, Port: 8473 },
  },
  {
    name: 'kernel vxlan',
    backend: { Type: 'vxlan', Dataplane: 'kernel' },
    says: /flannel\.1 is kept by another heddled/,
    apart: { VNI: 2 },
  },
  {
    name: 'vxlan beside kernel vxlan',
    backend: { Type: 'vxlan', Dataplane: 'auto' },
    says: /flannel\.1 is kept by another heddled/,
    apart: { VNI: 3, Dataplane: 'user', Port: 8473 },
  },
  {
    name: 'ipip',
    backend: { Type: 'ipip' },
    says: /flannel\.ipip is kept by another heddled/,
    apart: { Type: 'udp' },
  },
  {
    name: 'host-gw',
    backend: { Type: 'host-gw' },
    says: /host-gw 10\.5\.0\.0\/16 is kept/,
    apart: {},
  },
]

t.test('two on one host', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 1)
  const h1 = lab.host(1)
  for (const { name, backend, says, apart } of CASES) {
    await t.test(`F37 ${name}`, async (t) => {
      const id = name.replaceAll(' ', '-')
      const network = new EtcdNetwork(t, lab, id)
      await network.configure({ Network: '10.5.0.0/16', Backend: backend })
      await network.start(h1)
      const { lease } = await network.ready(h1)

      const flags = network.flags(h1).filter((flag) => !flag.startsWith('--subnet-file'))
      const own = `--subnet-file=${join(h1.dir, id, 'second.env')}`
      const second = await h1.run(process.execPath, [HEDDLED, ...flags, '--iface=eth0', own], {
        timeoutMs: 20_000,
      })
      t.equal(second.code, 1)
      t.match(second.stderr, says)
      t.equal((await network.status(h1)).lease.subnet, lease.subnet, 'the first one goes on')
      t.equal((await network.records()).size, 1, 'no second lease')

      const other = new EtcdNetwork(t, lab, `${id}-apart`)
      await other.configure({ Network: '10.6.0.0/16', Backend: { ...backend, ...apart } })
      await other.start(h1)
      t.match((await other.ready(h1)).lease.subnet, /^10\.6\./, 'beside it')

      for (const { daemon } of [network, other].map((each) => ({ daemon: each.daemon(h1) }))) {
        const start = Date.now()
        t.same(await daemon.stop(10_000), { code: 0, signal: null })
        t.comment(`ended ${Date.now() - start} ms after SIGTERM`)
      }
    })
  }

  await t.test('a device that one keeps is no left-over to the other', async (t) => {
    const network = new EtcdNetwork(t, lab, 'kept')
    await network.configure({ Network: '10.5.0.0/16', Backend: { Type: 'udp' } })
    await network.start(h1, ['--keep-device'])
    await network.ready(h1)
    const device = async () =>
      (await h1.run('ip', ['-o', 'link', 'show', 'dev', 'flannel0'])).stdout
    const before = await device()
    const flags = network.flags(h1).filter((flag) => !flag.startsWith('--subnet-file'))
    const own = [`--subnet-file=${join(h1.dir, 'kept', 'second.env')}`, '--queues=2']
    const second = await h1.run(process.execPath, [HEDDLED, ...flags, '--iface=eth0', ...own], {
      timeoutMs: 20_000,
    })
    t.equal(second.code, 1)
    t.equal(await device(), before, 'the same one, by its index')
    t.match(before, /^\d+: flannel0/)
  })
})
