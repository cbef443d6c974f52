/**
 * @parallel A VXLAN device of the kernel that nobody has told of its neighbours: it asks for the daemon's MAC
 * address through the tunnel, and is answered.
 */
import t from 'tap'
import { KERNEL_MAC, programAsker, programKernel, publishedMac } from './kernel-vxlan.js'
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

t.test('the same for IPv6: asked at first, and again for what it knows', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    daemons: 1,
    store: 'etcd',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Type: 'vxlan' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [key = ''] = (await overlay.lab.etcd.list(`${PREFIX}/subnets/`)).keys()
  const base = /&([\da-f:]+)-64$/.exec(key)?.[1] ?? `not in ${key}`
  const [own, device, mac] = ['fd05:0:0:fa::', 'flannel-v6.1', '0e:00:00:00:00:0c']
  await h2.sysctl({ 'net.ipv6.conf.default.accept_dad': 0 })
  await h2.ip(
    `link add ${device} address ${mac} mtu 1430 type vxlan id 1 dev eth0 local ${h2.address6} remote ${h1.address6} dstport 8472`,
    `address add ${own}/128 dev ${device}`,
    `link set ${device} up`,
    `route replace ${base}/64 via ${base} dev ${device} onlink`,
  )
  await overlay.lab.etcd.put(
    `${PREFIX}/subnets/10.5.250.0-24&${own}-64`,
    `{"PublicIP":"${h2.address}","PublicIPv6":"${h2.address6}","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${KERNEL_MAC}"},"BackendV6Data":{"VNI":1,"VtepMAC":"${mac}"}}`,
  )
  await until('the peer is known', 5000, async () => (await overlay.status(h1)).peers.length === 1)
  const ping = await h2.run('ping', ['-c3', '-i0.2', '-W3', '-I', own, base])
  t.match(ping.stdout, /3 received/)
  await h2.ip(`neigh change ${base} dev ${device} nud probe`)
  await until('it is reachable', 5000, async () => {
    const { stdout } = await h2.run('ip', ['neigh', 'show', base, 'dev', device])
    return stdout.includes('REACHABLE')
  })
  assertAccounted(t, h1.name, await overlay.settled(h1))
})
