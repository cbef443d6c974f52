/**
 * @serial The life of a lease: renewed, not renewed because etcd stands still, evicted, expired while
 * the host was suspended, taken by another host. Traffic goes on whenever the subnet is still ours.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { baseOf, createEtcdLab, EtcdNetwork, etcdProcess, PATIENCE_MS } from './etcd-network.js'
import { links, skip, until } from './overlay.js'
import { Pinger } from './pinger.js'

t.setTimeout(120_000)

const SECOND = 1000

/** With the margin of an hour renewed at its half, every three seconds. */
const SHORT = '--lease-ttl-seconds=6'

/** With a margin of a minute renewed every two seconds, and still valid a minute later. */
const EARLY = ['--lease-ttl-seconds=62', '--subnet-lease-renew-margin=1']

t.test('the life of a lease', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 4)
  const [h1, h2, h3, h4] = [lab.host(1), lab.host(2), lab.host(3), lab.host(4)]

  await t.test('F10 renewal: a new etcd lease, the same value, a no-op for peers', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f10')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.start(h1, EARLY)
    const { subnet } = (await network.ready(h1)).lease
    await network.start(h2)
    const before = (await network.ready(h2, 1)).peers[0]!
    const seenAt = Date.now()
    const first = await network.record(subnet)
    const grants = new Set([first.lease])
    const values = new Set([first.value])
    await until('renewed twice', PATIENCE_MS, async () => {
      const now = await network.record(subnet)
      values.add(now.value)
      return grants.add(now.lease).size === 3
    })
    t.equal(values.size, 1, 'never another value')
    const last = await network.record(subnet)
    const time = await network.lifetime(last.lease)
    t.equal(time?.granted, 62)
    t.ok(time !== null && time.left > 50, `${time?.left} s left`)
    t.match(network.daemon(h1).stderr(), /Lease renewed, new expiration: 20\d\d-/)
    const after = (await network.status(h2)).peers[0]!
    // A peer that was set anew would be younger than the time since it was first seen.
    const elapsed = (Date.now() - seenAt) / 1000
    t.ok(after.ageSeconds > before.ageSeconds + elapsed - 0.5, 'the peer is as old as it is')
    t.equal(
      network
        .daemon(h2)
        .stderr()
        .match(/Subnet added: /g)?.length,
      1,
    )
    t.notMatch(network.daemon(h2).stderr(), /Subnet removed/)
  })

  await t.test('F11 etcd stands still during a renewal: traffic flows', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f11')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.start(h1, EARLY)
    await network.start(h2, EARLY)
    const { subnet } = (await network.ready(h1, 1)).lease
    const other = (await network.ready(h2, 1)).lease.subnet
    const first = await network.record(subnet)
    const pinger = await Pinger.start(h1, baseOf(other))
    await pinger.answerAfter(0, PATIENCE_MS)
    const etcd = etcdProcess(lab)
    etcd.kill('SIGSTOP')
    await network.daemon(h1).waitFor(/^E.*Error renewing lease \(trying again\)/m, PATIENCE_MS)
    const thawed = Date.now()
    etcd.kill('SIGCONT')
    await until('renewed', PATIENCE_MS, async () => {
      return (await network.record(subnet)).lease !== first.lease
    })
    t.comment(`renewed ${Date.now() - thawed} ms after etcd went on`)
    await until('told', PATIENCE_MS, async () => {
      return /Lease renewed/.test(network.daemon(h1).stderr().split('Error renewing').at(-1)!)
    })
    const gap = pinger.longestGap()
    await pinger.stop()
    t.ok(gap < SECOND, `longest gap ${gap.toFixed(0)} ms`)
    t.same(await network.peers(h1), [other])
    t.equal((await network.record(subnet)).value, first.value)
  })

  await t.test('F12 own key overwritten by another host, or deleted', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f12-running')
    await network.configure({ Network: '10.5.0.0/16' })
    const states = await network.startAll([h1, h2, h3])
    const [, evicted, taken] = states.map((status) => status.lease.subnet)
    await network.ready(h1, 2)

    await network.put(taken!, network.value('172.30.0.99'))
    t.same(await network.daemon(h3).exited, { code: 1, signal: null })
    t.match(
      network.daemon(h3).stderr(),
      new RegExp(`^F.*subnet ${taken} belongs to 172\\.30\\.0\\.99 now; restart heddled`, 'm'),
    )
    t.notOk((await links(h3)).includes('flannel0'), 'it forwards no more')
    t.equal((await network.record(taken!)).value, network.value('172.30.0.99'), 'and keeps off')
    await until('h1 follows the new owner', PATIENCE_MS, async () => {
      return peerAddress(await network.status(h1), taken!) === '172.30.0.99'
    })

    const deleted = Date.now()
    await network.remove(evicted!)
    await network.untilPeers(h1, [taken!])
    const took = Date.now() - deleted
    t.ok(took < SECOND, `h1 drops the route after ${took} ms`)
    t.same(await network.daemon(h2).exited, { code: 0, signal: null })
    t.match(network.daemon(h2).stderr(), 'Lease has been revoked. Shutting down daemon.')
    t.notOk((await links(h2)).includes('flannel0'))
    t.notOk((await network.records()).has(evicted!), 'and does not come back')
  })

  await t.test('F12 own lease expired in etcd while the host was suspended', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f12-asleep')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.start(h4)
    const { subnet: reserved } = (await network.ready(h4)).lease
    await network.startAll([h1, h2], [SHORT])
    const [back, lost] = await subnets(network, [h1, h2])
    await network.untilPeers(h4, [back!, lost!])
    const before = await network.record(back!)
    const suspended = [network.daemon(h1), network.daemon(h2)]
    for (const daemon of suspended) daemon.kill('SIGSTOP')
    await until('both keys have expired', PATIENCE_MS, async () => {
      const records = await network.records()
      return !records.has(back!) && !records.has(lost!)
    })
    await network.untilPeers(h4, [])
    await network.put(lost!, network.value('172.30.0.99'))
    for (const daemon of suspended) daemon.kill('SIGCONT')

    await until('taken again', PATIENCE_MS, async () => (await network.records()).has(back!))
    const again = await network.record(back!)
    t.equal(again.value, before.value, 'the same subnet, for the same host')
    t.not(again.lease, before.lease)
    await network.daemon(h1).waitFor(/^W.*expired in the store, taking it again/m, PATIENCE_MS)
    t.same(await network.daemon(h2).exited, { code: 1, signal: null })
    t.match(network.daemon(h2).stderr(), `subnet ${lost} belongs to 172.30.0.99 now`)
    t.notOk((await links(h2)).includes('flannel0'))
    t.equal((await network.record(lost!)).value, network.value('172.30.0.99'))

    await network.untilPeers(h4, [back!, lost!])
    t.equal((await h4.run('ping', ['-c1', '-W5', baseOf(back!)])).code, 0, 'it forwards again')
    await network.daemon(h1).waitFor(/Lease renewed/, PATIENCE_MS)
    t.ok(network.daemon(h1).running, 'and renews')
    await network.untilPeers(h1, [reserved, lost!])
  })

  await t.test('F12 etcd away past the expiry: forwarding and lease go on', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f12-outage')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.startAll([h1, h2], ['--lease-ttl-seconds=3'])
    const [own, other] = await subnets(network, [h1, h2])
    await network.untilPeers(h1, [other!])
    const pinger = await Pinger.start(h1, baseOf(other!))
    await pinger.answerAfter(0, PATIENCE_MS)
    await lab.etcd.kill()
    await until('the lease is over by the own clock', PATIENCE_MS, async () => {
      const { lease } = await network.status(h1)
      return Date.parse(lease.expiresAt ?? '') < Date.now() - SECOND
    })
    await sleep(SECOND)
    t.same(await network.peers(h1), [other], 'nothing is forgotten')
    t.equal((await network.status(h1)).store.isReachable, false)
    await lab.etcd.start()
    await until('valid again', PATIENCE_MS, async () => {
      const { lease } = await network.status(h1)
      return Date.parse(lease.expiresAt ?? '') > Date.now()
    })
    const gap = pinger.longestGap()
    await pinger.stop()
    t.ok(gap < SECOND, `longest gap ${gap.toFixed(0)} ms`)
    t.equal((await network.status(h1)).lease.subnet, own)
    t.ok(network.daemon(h1).running && network.daemon(h2).running)
    await network.untilPeers(h1, [other!])
  })
})

function peerAddress(
  status: Awaited<ReturnType<EtcdNetwork['status']>>,
  subnet: string,
): string | undefined {
  return status.peers.find((peer) => peer.subnet === subnet)?.publicIP
}

function subnets(network: EtcdNetwork, hosts: readonly Host[]): Promise<string[]> {
  return Promise.all(hosts.map(async (host) => (await network.status(host)).lease.subnet))
}
