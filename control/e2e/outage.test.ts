/**
 * @parallel Times without etcd, long ones in proportion: lifetimes of seconds in place of a day. Packets go on, the
 * log stays readable, and afterwards every subnet has exactly one owner.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { baseOf, createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip, until } from './overlay.js'
import { Pinger, INTERVAL_MS } from './pinger.js'

t.setTimeout(180_000)

const TTL_S = 3
/** Ten lifetimes: with flannel's of a day, ten days. */
const OUTAGE_MS = 10 * TTL_S * 1000
/** Lines of a daemon's log that an outage may cost, a minute. */
const LINES_PER_MINUTE = 20

const lineCount = (text: string): number => text.split('\n').length

t.test('without etcd', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 3)
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)]
  const short = [`--lease-ttl-seconds=${TTL_S}`]

  await t.test('F11 F15 away for ten lifetimes: no packet lost, few lines', async (t) => {
    const network = new EtcdNetwork(t, lab, 'long')
    await network.configure({ Network: '10.5.0.0/16' })
    await network.startAll([h1, h2], short)
    const [own, other] = [
      (await network.ready(h1, 1)).lease.subnet,
      (await network.ready(h2, 1)).lease.subnet,
    ]
    const pinger = await Pinger.start(h1, baseOf(other))
    await pinger.answerAfter(0, PATIENCE_MS)
    await lab.etcd.kill()
    const before = [h1, h2].map((host) => lineCount(network.daemon(host).stderr()))
    await sleep(OUTAGE_MS)
    const lines = [h1, h2].map((host, i) => {
      return lineCount(network.daemon(host).stderr()) - (before[i] ?? 0)
    })
    t.comment(`${lines.join(' and ')} lines in ${OUTAGE_MS / 1000} s`)
    for (const count of lines) {
      t.ok(count > 0, 'the outage is told')
      t.ok(count <= (LINES_PER_MINUTE * OUTAGE_MS) / 60_000, `${count} lines`)
    }
    t.same(await network.peers(h1), [other], 'nothing is forgotten')
    const gap = pinger.longestGap()
    t.ok(gap < 20 * INTERVAL_MS, `longest gap ${gap.toFixed(0)} ms`)

    await lab.etcd.start()
    await until('both leases are there again, and live', PATIENCE_MS, async () => {
      const records = await network.records()
      return records.has(own) && records.has(other)
    })
    await Promise.all([network.untilPeers(h1, [other]), network.untilPeers(h2, [own])])
    t.equal((await network.records()).size, 2, 'the same two')
    const after = pinger.longestGap()
    t.ok(after < 20 * INTERVAL_MS, `and with the return ${after.toFixed(0)} ms`)
    await pinger.stop()
    const log = network.daemon(h1).stderr()
    t.equal(log.match(new RegExp(`Subnet added: ${other}`, 'g'))?.length, 1, 'no churn')
    t.equal(log.match(/store not reachable/g)?.length, 1)
  })

  await t.test('F12 cut off past its lifetime: one owner afterwards', async (t) => {
    const network = new EtcdNetwork(t, lab, 'split')
    // Two subnets: the third host gets the first one's, once that has expired.
    await network.configure({
      Network: '10.5.0.0/16',
      SubnetLen: 24,
      SubnetMin: '10.5.1.0',
      SubnetMax: '10.5.2.0',
    })
    await network.startAll([h1, h2], short)
    const lost = (await network.ready(h1, 1)).lease.subnet
    const stays = (await network.ready(h2, 1)).lease.subnet
    await h1.ip('route add blackhole 172.30.0.254/32')
    await until('its lease has expired', PATIENCE_MS, async () => {
      return !(await network.records()).has(lost)
    })
    await network.untilPeers(h2, [])
    t.ok(network.daemon(h1).running, 'it goes on meanwhile')
    await network.start(h3, short)
    t.equal((await network.ready(h3, 1)).lease.subnet, lost, 'somebody else has it now')
    await network.untilPeers(h2, [lost])
    await h1.ip('route del blackhole 172.30.0.254/32')
    t.same(await network.daemon(h1).exited, { code: 1, signal: null })
    t.match(network.daemon(h1).stderr(), `subnet ${lost} belongs to ${h3.address} now`)
    const records = await network.records()
    t.same([...records.keys()].sort(), [lost, stays].sort())
    t.equal(records.get(lost)?.value, network.value(h3.address), 'one owner')
    t.equal((await h2.run('ping', ['-c1', '-W5', baseOf(lost)])).code, 0, 'who is reached')
  })

  await t.test('identical values, compaction under a watch: nothing happens', async (t) => {
    const network = new EtcdNetwork(t, lab, 'same')
    await network.configure({ Network: '10.5.0.0/16', SubnetMax: '10.5.99.0' })
    await network.start(h1)
    const subnet = '10.5.200.0/24'
    await network.put(subnet, network.value('172.30.0.99'))
    await network.ready(h1, 1)
    const before = lineCount(network.daemon(h1).stderr())
    for (let n = 0; n < 10; n++) await network.put(subnet, network.value('172.30.0.99'))
    const { modRevision } = await network.record(subnet)
    await network.ctl('compact', String(modRevision))
    await network.put(subnet, network.value('172.30.0.99'))
    // What comes behind it is seen, so all of it was.
    await network.put('10.5.201.0/24', network.value('172.30.0.98'))
    await network.untilPeers(h1, [subnet, '10.5.201.0/24'])
    const said = network
      .daemon(h1)
      .stderr()
      .split('\n')
      .slice(before - 1)
    t.same(
      said.filter((line) => line !== '').map((line) => line.replace(/^.*\] /, '')),
      ['Subnet added: 10.5.201.0/24 via 172.30.0.98'],
    )
  })
})
