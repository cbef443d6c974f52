/**
 * @parallel Which subnet a host gets, and what stands in etcd for it: first start, race, exhaustion,
 * restart, wiped and foreign keys, a changed network, reservations, two networks on one host.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { baseOf, createEtcdLab, EtcdNetwork } from './etcd-network.js'
import { links, skip } from './overlay.js'

t.setTimeout(120_000)

const ACQUIRE_MANY = fileURLToPath(new URL('./acquire-many.js', import.meta.url))
const DAY = 86_400

t.test('leases in etcd', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 6)
  const [h1, h2, h3, h4] = [lab.host(1), lab.host(2), lab.host(3), lab.host(4)]

  await t.test('six daemons and forty-four more hosts', async (t) => {
    const network = new EtcdNetwork(t, lab, 'race')
    await network.configure({ Network: '10.5.0.0/18', SubnetMin: '10.5.0.0' })

    await t.test('F5 started at once on 64 subnets: 50 distinct ones, all alive', async (t) => {
      const started = Promise.all(lab.hosts.map((host) => network.start(host)))
      const more = h1.run(process.execPath, [ACQUIRE_MANY, lab.etcd.endpoint, network.prefix, '44'])
      await started
      const { code, stdout, stderr } = await more
      t.equal(code, 0, stderr)
      const others = stdout.trim().split('\n')
      t.equal(others.length, 44)
      t.same(
        others.filter((line) => !/ 10\.5\.\d+\.0\/24$/.test(line)),
        [],
      )
      const states = await Promise.all(lab.hosts.map((host) => network.ready(host, 49)))
      const own = states.map((status) => status.lease.subnet)
      const all = [...own, ...others.map((line) => String(line.split(' ')[1]))]
      t.equal(new Set(all).size, 50)
      const records = await network.records()
      t.same([...records.keys()].sort(), all.sort(), 'as many keys, and no other')
      for (const [i, host] of lab.hosts.entries()) {
        t.equal(records.get(own[i]!)?.value, network.value(host.address), 'the key is its owner’s')
      }
    })

    await t.test('F4 the key, its value byte for byte, a lifetime of a day', async (t) => {
      const { lease } = await network.status(h1)
      const { stdout } = await network.ctl('get', '--prefix', '--keys-only', network.key(''))
      const key = stdout.split('\n').find((line) => line === network.key(lease.subnet)) ?? ''
      t.match(key, /^\/race\/network\/subnets\/10\.5\.\d{1,3}\.0-24$/)
      const raw = await network.ctl('get', '--print-value-only', key)
      t.equal(raw.stdout, '{"PublicIP":"172.30.0.11","PublicIPv6":null}\n', 'etcdctl adds the line')
      const time = await network.lifetime((await network.record(lease.subnet)).lease)
      t.equal(time?.granted, DAY)
      t.ok(time !== null && time.left > DAY - 60 && time.left <= DAY, `${time?.left} s left`)
    })

    await t.test('F7 stopped and started: the same key, another etcd lease', async (t) => {
      const { subnet } = (await network.status(h1)).lease
      const before = await network.record(subnet)
      t.same(await network.daemon(h1).stop(5000), { code: 0, signal: null })
      t.same(await network.record(subnet), before, 'the key stays while the host is down')
      const daemon = await network.start(h1)
      t.equal((await network.ready(h1, 49)).lease.subnet, subnet)
      const after = await network.record(subnet)
      t.equal(after.value, before.value)
      t.not(after.lease, before.lease)
      t.not(after.lease, 0n)
      t.match(daemon.stderr(), `Found lease (${subnet}) for current IP (172.30.0.11), reusing`)
    })

    await t.test('F8 keys wiped while stopped: the subnet of subnet.env', async (t) => {
      const [mine, taken] = await Promise.all(
        [h2, h3].map(async (host) => {
          const { subnet } = (await network.status(host)).lease
          await network.daemon(host).stop(5000)
          await network.remove(subnet)
          return subnet
        }),
      )
      await network.put(taken!, network.value('172.30.0.99'), DAY)
      const foreign = await network.record(taken!)
      // One after the other: h3 may choose any subnet that is free.
      const [back] = await network.startAll([h2])
      const [other] = await network.startAll([h3])
      t.equal(back!.lease.subnet, mine)
      t.match(network.daemon(h2).stderr(), `Found previously leased subnet (${mine}), reusing`)
      t.not(other!.lease.subnet, taken, 'not the one that another host owns by now')
      t.same(await network.record(taken!), foreign, 'whose key is untouched')
      t.match(envOf(network, h3), `FLANNEL_SUBNET=${first(other!.lease.subnet)}/24\n`)
    })

    await t.test('F9 a changed Network: old key deleted, a new one inside', async (t) => {
      const { subnet } = (await network.status(h4)).lease
      await network.daemon(h4).stop(5000)
      const others = (await network.records()).size - 1
      await network.configure({ Network: '10.6.0.0/16', SubnetLen: 26 })
      await network.start(h4)
      const status = await network.ready(h4, others)
      t.match(status.lease.subnet, /^10\.6\.\d+\.\d+\/26$/)
      const records = await network.records()
      t.notOk(records.has(subnet), 'the old key is gone')
      t.equal(records.get(status.lease.subnet)?.value, network.value(h4.address))
      t.equal(records.size, others + 1, 'no other key is touched')
      const routes = (await h4.run('ip', ['route'])).stdout
      t.match(routes, /^10\.6\.0\.0\/16 dev flannel0/m)
      t.notMatch(routes, /^10\.5\./m)
    })
  })

  await t.test('F6 four subnets, six hosts: two end with 1 and say why', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f6')
    await network.configure({ Network: '10.5.0.0/22', SubnetLen: 24, SubnetMin: '10.5.0.0' })
    const daemons = await Promise.all(lab.hosts.map((host) => network.start(host)))
    const ended = await Promise.all(
      lab.hosts.map((host, i) =>
        network.ready(host).then(
          () => null,
          () => daemons[i]!.exited,
        ),
      ),
    )
    t.equal(ended.filter((status) => status === null).length, 4)
    for (const [i, status] of ended.entries()) {
      if (status === null) continue
      t.same(status, { code: 1, signal: null })
      t.match(daemons[i]!.stderr(), /^F.*out of subnets.*enlarge Network/m)
      t.notOk(existsSync(network.subnetFile(lab.host(i + 1))))
      t.notOk((await links(lab.host(i + 1))).includes('flannel0'))
    }
    const records = await network.records()
    t.same(
      [...records.keys()].sort(),
      ['10.5.0.0/24', '10.5.1.0/24', '10.5.2.0/24', '10.5.3.0/24'],
      'the whole network is used',
    )
    t.equal(new Set([...records.values()].map((record) => record.value)).size, 4)
  })

  await t.test('F13 reservations and pre-assigned keys', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f13')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.put('10.5.201.0/24', network.value(h1.address))
    await network.put('10.5.202.0/24', `{"PublicIP":"${h2.address}"}`)
    await network.put('10.5.203.0/24', `{"PublicIP":"${h3.address}"}`, 600)
    const before = await network.records()
    const states = await network.startAll([h1, h2, h3])
    t.same(
      states.map((status) => status.lease.subnet),
      ['10.5.201.0/24', '10.5.202.0/24', '10.5.203.0/24'],
    )
    t.same(
      states.map((status) => status.lease.expiresAt === null),
      [true, true, false],
    )
    const after = await network.records()
    t.equal(after.size, 3)
    t.equal(after.get('10.5.201.0/24')!.lease, 0n, 'a reservation has no etcd lease, and gets none')
    t.equal(after.get('10.5.202.0/24')!.lease, 0n)
    t.not(after.get('10.5.203.0/24')!.lease, before.get('10.5.203.0/24')!.lease)
    t.equal((await network.lifetime(after.get('10.5.203.0/24')!.lease))?.granted, DAY)
    for (const [host, subnet] of [
      [h1, '10.5.201.0/24'],
      [h2, '10.5.202.0/24'],
      [h3, '10.5.203.0/24'],
    ] as const) {
      t.equal(after.get(subnet)!.value, network.value(host.address), 'the whole value')
    }
    await network.daemon(h1).stop(5000)
    await network.start(h1)
    t.equal((await network.ready(h1, 2)).lease.subnet, '10.5.201.0/24')
    t.equal((await network.record('10.5.201.0/24')).lease, 0n, 'after a restart too')
  })

  await t.test('F20 F37 two prefixes, two daemons a host, each with its port', async (t) => {
    const a = new EtcdNetwork(t, lab, 'f20-a')
    const b = new EtcdNetwork(t, lab, 'f20-b')
    await a.configure({ Network: '10.7.0.0/16' })
    await b.configure({ Network: '10.8.0.0/16', Backend: { Type: 'udp', Port: 8286 } })
    await a.startAll([h1, h2])
    await b.startAll([h1, h2])
    const [a2, b2] = [(await a.ready(h2, 1)).lease.subnet, (await b.ready(h2, 1)).lease.subnet]
    t.match(a2, /^10\.7\./)
    t.match(b2, /^10\.8\./)
    await a.untilPeers(h1, [a2])
    await b.untilPeers(h1, [b2])
    t.same([(await a.status(h1)).device?.name, (await b.status(h1)).device?.name].sort(), [
      'flannel0',
      'flannel1',
    ])
    const ping = async (subnet: string) =>
      (await h1.run('ping', ['-c1', '-W5', baseOf(subnet)])).code
    t.same([await ping(a2), await ping(b2)], [0, 0])
    t.match(envOf(a, h1), 'FLANNEL_NETWORK=10.7.0.0/16\n')
    t.match(envOf(b, h1), 'FLANNEL_NETWORK=10.8.0.0/16\n')
    t.same(await a.daemon(h1).stop(5000), { code: 0, signal: null })
    t.equal(await ping(b2), 0, 'one of them ends, the other goes on')
    t.equal((await b.status(h1)).state, 'ready')
  })
})

function envOf(network: EtcdNetwork, host: Host): string {
  return readFileSync(network.subnetFile(host), 'utf8')
}

/** Address of the bridge in a subnet that begins at .0. */
function first(subnet: string): string {
  return baseOf(subnet).replace(/0$/, '1')
}
