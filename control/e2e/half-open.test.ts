/**
 * A path to etcd that swallows packets while connections stay open, as a firewall in between does.
 */
import t from 'tap'
import { createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip } from './overlay.js'

t.setTimeout(120_000)

/** Bound of the telling: keepalive 6 s, wait for its answer 3 s, the rest for a busy machine. */
const NOTICED_MS = 12_500

t.test('half-open connections', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 2)
  const [h1, h2] = [lab.host(1), lab.host(2)]
  const network = new EtcdNetwork(t, lab, 'half-open')
  await network.configure({ Network: '10.5.0.0/16' })
  await network.startAll([h1, h2])
  await Promise.all([network.ready(h1, 1), network.ready(h2, 1)])
  const nft = async (host: typeof h1, ...args: string[]) => {
    const result = await host.run('nft', args)
    if (result.code !== 0) throw new Error(result.stderr)
  }

  await t.test('noticed and told, few lines, peers stay; back afterwards (F15)', async (t) => {
    const before = network.daemon(h1).stderr().length
    const start = performance.now()
    await nft(
      h1,
      'add table ip swallow; add chain ip swallow in { type filter hook input priority -300; }; add rule ip swallow in tcp sport 2379 drop',
    )
    await network.daemon(h1).waitFor(/store not reachable/, PATIENCE_MS)
    const took = performance.now() - start
    t.ok(took < NOTICED_MS, `told after ${took.toFixed(0)} ms`)
    await network.put('10.5.200.0/24', network.value('172.30.0.99'))
    t.equal((await network.peers(h1)).length, 1, 'peers stay')
    const other = (await network.status(h2)).lease.subnet
    const ping = await h1.run('ping', [
      '-c',
      '20',
      '-i',
      '0.05',
      '-W',
      '2',
      other.replace(/\/\d+$/, ''),
    ])
    t.match(ping.stdout, / 0% packet loss/, 'no packet is lost')
    const lines = network.daemon(h1).stderr().slice(before).trimEnd().split('\n')
    t.ok(lines.length <= 6, lines.join('\n'))
    await nft(h1, 'delete table ip swallow')
    await network.untilPeers(h1, [other, '10.5.200.0/24'])
    t.ok(network.daemon(h1).running)
  })
})
