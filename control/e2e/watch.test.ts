/**
 * @serial What a daemon learns of its peers: hosts that come, go and move, an etcd that was away or
 * has forgotten its history, and keys that are no leases.
 */
import t from 'tap'
import { baseOf, createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip, until } from './overlay.js'
import { RESTING, restingShare } from './processor.js'

t.setTimeout(120_000)

const SECOND = 1000

/** Daemons lease below, so that the tests' own keys never meet theirs. */
const CONFIG = { Network: '10.5.0.0/16', SubnetMax: '10.5.99.0' }

t.test('peers in etcd', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 3)
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)]

  await t.test('F14 a host joins and leaves: known < 1 s, forgotten < 1 s', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f14')
    await network.configure(CONFIG)
    await network.startAll([h1, h2])
    const [second] = (await network.ready(h1, 1)).peers.map((peer) => peer.subnet)
    await network.start(h3)
    await network.daemon(h3).waitFor(/Allocated lease/, PATIENCE_MS)
    const leased = Date.now()
    await until('h1 knows h3', PATIENCE_MS, async () => (await network.peers(h1)).length === 2)
    const took = Date.now() - leased
    t.ok(took < SECOND, `known after ${took} ms`)
    const third = (await network.ready(h3, 2)).lease.subnet
    t.equal((await h1.run('ping', ['-c1', '-W5', baseOf(third)])).code, 0)
    const deleted = Date.now()
    await network.remove(third)
    await network.untilPeers(h1, [second!])
    const left = Date.now() - deleted
    t.ok(left < SECOND, `forgotten after ${left} ms`)
    t.equal((await network.status(h1)).routes, 1)
    t.match((await h1.run('ping', ['-c1', '-W1', baseOf(third)])).stdout, /Net Unreachable/)
    t.match(network.daemon(h1).stderr(), `Subnet added: ${third} via 172.30.0.13`)
    t.match(network.daemon(h1).stderr(), `Subnet removed: ${third}`)
  })

  await t.test('F15 etcd restarted, with changes meanwhile: converges and idles', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f15')
    await network.configure(CONFIG)
    await network.put('10.5.101.0/24', network.value('172.30.0.101'))
    await network.startAll([h1, h2])
    const real = (await network.status(h2)).lease.subnet
    await network.untilPeers(h1, [real, '10.5.101.0/24'])
    await lab.etcd.kill()
    await until('the outage is noticed', PATIENCE_MS, async () => {
      return !(await network.status(h1)).store.isReachable
    })
    t.same((await network.peers(h1)).length, 2, 'nothing is forgotten')
    const away = await restingShare(network.daemon(h1))
    t.ok(away < RESTING, `${away.toFixed(2)} of a core while etcd is away`)
    await lab.etcd.start()
    await network.put('10.5.102.0/24', network.value('172.30.0.102'))
    await network.remove('10.5.101.0/24')
    await Promise.all([
      network.untilPeers(h1, [real, '10.5.102.0/24']),
      network.untilPeers(h2, [(await network.status(h1)).lease.subnet, '10.5.102.0/24']),
    ])
    await until('the end of the outage is noticed', PATIENCE_MS, async () => {
      return (await network.status(h1)).store.isReachable
    })
    const after = await restingShare(network.daemon(h1))
    t.ok(after < RESTING, `${after.toFixed(2)} of a core afterwards`)
    const log = network.daemon(h1).stderr()
    t.equal(log.match(/store not reachable/g)?.length, 1, 'told once')
    t.equal(log.match(/store reachable again/g)?.length, 1)
    t.equal(log.match(new RegExp(`Subnet added: ${real}`, 'g'))?.length, 1, 'no churn')
    t.notMatch(log, `Subnet removed: ${real}`)
  })

  await t.test(
    'F16 history compacted while cut off: lists again, removes no live peer',
    async (t) => {
      const network = new EtcdNetwork(t, lab, 'f16')
      await network.configure(CONFIG)
      await network.put('10.5.101.0/24', network.value('172.30.0.101'))
      await network.startAll([h1, h2])
      const own = (await network.status(h1)).lease.subnet
      const real = (await network.status(h2)).lease.subnet
      await network.untilPeers(h1, [real, '10.5.101.0/24'])
      const daemon = network.daemon(h1)
      // Suspended, so that it meets the new server only when its place in the history is gone.
      daemon.kill('SIGSTOP')
      await lab.etcd.kill()
      await lab.etcd.start()
      await network.put('10.5.102.0/24', network.value('172.30.0.102'))
      await network.remove('10.5.101.0/24')
      const { modRevision } = await network.record('10.5.102.0/24')
      await network.ctl('compact', String(modRevision + 1))
      daemon.kill('SIGCONT')
      await network.untilPeers(h1, [real, '10.5.102.0/24'])
      await network.put('10.5.103.0/24', network.value('172.30.0.103'))
      await network.untilPeers(h1, [real, '10.5.102.0/24', '10.5.103.0/24'])
      t.ok(daemon.running)
      t.equal((await network.status(h1)).lease.subnet, own)
      t.ok((await network.records()).has(own), 'the own key stays')
      const log = daemon.stderr()
      t.equal(log.match(new RegExp(`Subnet added: ${real}`, 'g'))?.length, 1)
      t.notMatch(log, `Subnet removed: ${real}`)
      t.notMatch(log, new RegExp(`Subnet (added|removed): ${own}`), 'the own subnet is no peer')
      t.equal((await h1.run('ping', ['-c1', '-W5', baseOf(real)])).code, 0)
    },
  )

  await t.test(
    'F17 garbage among the keys: no peer is lost, each is counted and named',
    async (t) => {
      const network = new EtcdNetwork(t, lab, 'f17')
      await network.configure(CONFIG)
      await network.startAll([h1, h2])
      const real = (await network.status(h2)).lease.subnet
      await network.untilPeers(h1, [real])
      const garbage = [
        ['foo', 'bar'],
        ['10.5.150.0-24', '{"PublicIP":'],
        ['10.5.151.0-24', '{"PublicIP":null}'],
        ['10.5.152.0-24', '{"PublicIP":"fd00::1"}'],
        ['10.5.153.0-24', ''],
        ['10.5.154.0-33', network.value('172.30.0.9')],
        ['10.5.155.1-24', network.value('172.30.0.9')],
        ['deep/10.5.156.0-24', network.value('172.30.0.9')],
      ] as const
      for (const [name, value] of garbage) {
        await network.ctl('put', '--', `${network.prefix}/subnets/${name}`, value)
      }
      await network.ctl('put', `${network.prefix}/subnets-x`, 'beside the leases')
      // Not garbage, but no peer either: a lease of an IPv6-only network.
      const lone = `${network.prefix}/subnets/0.0.0.0-0&fd00::-64`
      await network.ctl('put', '--', lone, network.value('172.30.0.9'))
      await until('each is counted', PATIENCE_MS, async () => {
        return (await network.status(h1)).skippedKeys > garbage.length
      })
      await network.daemon(h1).waitFor(/ignoring lease fd00::\/64: it is of an IPv6-only network/)
      const log = network.daemon(h1).stderr()
      for (const [name] of garbage) {
        t.ok(log.includes(`ignoring ${network.prefix}/subnets/${name}: `), name)
      }
      t.same(await network.peers(h1), [real])
      t.equal((await h1.run('ping', ['-c1', '-W5', baseOf(real)])).code, 0)

      // A live peer's own key is spoiled: what it said last stays in force until it is deleted.
      await network.put(real, '{"PublicIP":')
      await until('that is named too', PATIENCE_MS, () => {
        return network
          .daemon(h1)
          .stderr()
          .includes(`ignoring ${network.key(real)}: `)
      })
      t.same(await network.peers(h1), [real])

      // One that starts among garbage finds the others, too.
      await network.start(h3)
      await until('h3 knows h1', PATIENCE_MS, async () => {
        return (await network.peers(h3).catch(() => [])).length === 1
      })
    },
  )

  await t.test('F18 a peer’s PublicIP is rewritten: traffic follows', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f18')
    await network.configure(CONFIG)
    await network.startAll([h1])
    await network.put('10.5.120.0/24', network.value(h2.address))
    await network.untilPeers(h1, ['10.5.120.0/24'])
    const arrived = new Map(
      await Promise.all(
        [h2, h3].map(async (host) => {
          const sink = await host.spawn('socat', ['-u', 'UDP-RECV:8285', 'STDOUT'])
          await until('the port is open', PATIENCE_MS, async () => {
            return (await host.run('ss', ['-lun'])).stdout.includes(':8285')
          })
          return [host, sink] as const
        }),
      ),
    )
    const bytes = (host: typeof h2) => arrived.get(host)!.stdout().length
    const send = () => h1.run('ping', ['-c1', '-W1', '10.5.120.1'])
    await send()
    await until('it arrives at h2', PATIENCE_MS, () => bytes(h2) > 0)
    t.equal(bytes(h3), 0)

    await network.put('10.5.120.0/24', network.value(h3.address))
    await until('the status tells', PATIENCE_MS, async () => {
      return (await network.status(h1)).peers[0]?.publicIP === h3.address
    })
    const before = bytes(h2)
    await send()
    await until('it arrives at h3', PATIENCE_MS, () => bytes(h3) > 0)
    t.equal(bytes(h2), before, 'and at h2 no more')
    t.equal((await network.status(h1)).routes, 1)
    await Promise.all([...arrived.values()].map((sink) => sink.stop()))
  })
})
