/**
 * @serial A VXLAN device of the kernel that nobody has told of its neighbours: it asks for the daemon's MAC
 * address through the tunnel, and is answered.
 */
import t from 'tap'
import { programAsker, programKernel, publishedMac } from './kernel-vxlan.js'
import { assertAccounted, createOverlay, overlayAddress, PREFIX, skip, until } from './overlay.js'

t.setTimeout(60_000)

t.test('a kernel device without static neighbours', { skip }, async (t) => {
  const backend = { Type: 'vxlan' }
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'etcd', backend })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const p1 = await overlay.addPod(h1)
  const p2 = await programKernel(overlay, h2, h1, programAsker)
  await until('the peer is known', 5000, async () => (await overlay.status(h1)).peers.length === 1)
  for (const [from, to] of [
    [p2, p1],
    [p1, p2],
  ] as const) {
    const { code, stdout } = await from.run('ping', ['-c3', '-i0.2', '-W3', to.address])
    t.equal(code, 0, stdout)
    t.match(stdout, /3 received/)
  }
  const base = await overlayAddress(h1)
  const { stdout } = await h2.run('ip', ['neigh', 'show', base, 'dev', 'flannel.1'])
  t.match(
    stdout,
    new RegExp(`lladdr ${await publishedMac(overlay, h1)} .*(REACHABLE|DELAY|STALE|PROBE)`),
  )

  await t.test('asked again for what it knows, by a frame to that MAC', async (t) => {
    const before = (await overlay.settled(h1)).get('ingress.neighbour_answered') ?? 0
    await h2.ip(`neigh change ${base} dev flannel.1 nud probe`)
    await until('it is reachable', 5000, async () => {
      const { stdout } = await h2.run('ip', ['neigh', 'show', base, 'dev', 'flannel.1'])
      return stdout.includes('REACHABLE')
    })
    const counts = await overlay.settled(h1)
    t.ok((counts.get('ingress.neighbour_answered') ?? 0) > before, 'answered once more')
    assertAccounted(t, h1.name, counts)
  })

  await t.test('who asks without a lease gets no answer', async (t) => {
    await overlay.lab.etcd.ctl('del', `${PREFIX}/subnets/10.5.250.0-24`)
    await until('it is gone', 5000, async () => (await overlay.status(h1)).peers.length === 0)
    await h2.ip(`neigh flush dev flannel.1`)
    t.not((await p2.run('ping', ['-c2', '-i0.2', '-W1', p1.address])).code, 0)
    const counts = await overlay.settled(h1)
    t.ok((counts.get('ingress.drop_source_unknown') ?? 0) > 0)
    const { stdout } = await h2.run('ip', ['neigh', 'show', base, 'dev', 'flannel.1'])
    t.notMatch(stdout, /lladdr/)
  })
})
