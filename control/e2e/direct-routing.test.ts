/**
 * @parallel DirectRouting of `vxlan` and `ipip`: peers on the same network get packets as they are, those behind a
 * router by the tunnel; the routes follow the peers and are repaired, for both families (F45, F52).
 */
import t from 'tap'
import type { Host, Pod } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import { createOverlay, PREFIX, skip, until } from './overlay.js'

t.setTimeout(120_000)

for (const [name, type, family, gateway] of [
  ['F45 vxlan, IPv4', 'vxlan', '-4', '172.30.0.254'],
  ['F45 vxlan, IPv6', 'vxlan', '-6', 'fd30::fe'],
  ['F52 ipip', 'ipip', '-4', '172.30.0.254'],
] as const) {
  const tunnelled = type === 'ipip' ? 'ip proto 4' : 'udp dst port 8472'
  const is6 = family === '-6'
  t.test(`${name}: past the tunnel where there is no router in between`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 3,
      daemons: 2,
      store: 'etcd',
      ipv6: is6,
      network: is6 ? { EnableIPv6: true, IPv6Network: 'fd05::/48' } : {},
      backend: { Type: type, DirectRouting: true },
    })
    const [h1, h2, h3] = [overlay.host(1), overlay.host(2), overlay.host(3)]
    const at = (place: Host | Pod) => (is6 ? place.address6 : place.address)
    const router = overlay.lab.switch
    await router.sysctl({ [is6 ? 'net.ipv6.conf.all.forwarding' : 'net.ipv4.ip_forward']: 1 })
    await h1.ip(`route add ${at(h3)} via ${gateway}`)
    await h3.ip(`route add ${at(h1)} via ${gateway}`)
    await overlay.start(h3)
    for (const host of [h1, h2, h3]) await overlay.ready(host, 2)
    const [p1, p2, p3] = [
      await overlay.addPod(h1),
      await overlay.addPod(h2),
      await overlay.addPod(h3),
    ]
    const subnet2 = is6 ? p2.address6.replace(/2$/, '/64') : p2.address.replace(/\d+$/, '0/24')
    const routes = async () => (await h1.run('ip', [family, 'route', 'show', 'proto', '72'])).stdout
    const hasRoute = async () => (await routes()).includes(`${subnet2} via ${at(h2)} dev eth0`)
    await until('the route is there', 5000, hasRoute)

    await t.test('no tunnel to the neighbour, the tunnel to the one behind a router', async (t) => {
      t.notMatch(await routes(), `via ${at(h3)} `)
      for (const [pod, isTunnelled] of [
        [p2, false],
        [p3, true],
      ] as const) {
        const capture = await h1.capture('eth0', tunnelled)
        const { stdout } = await p1.run('ping', ['-c3', '-i0.2', '-W2', at(pod)])
        t.match(stdout, / ttl=62\b/)
        const { intact } = await tcpTransfer(p1, pod, at(pod), { bytes: 5e6 })
        t.ok(intact)
        const { packets } = await capture.stop()
        t.equal(packets.length > 0, isTunnelled, `${packets.length} datagrams`)
      }
    })

    await t.test('a route that somebody removes comes back', async (t) => {
      await h1.ip(`route del ${subnet2}`)
      await until('it is back', 10_000, hasRoute)
      t.pass('it is')
    })

    await t.test('it goes with its peer', async (t) => {
      await overlay.daemon(h2).stop()
      const keys = [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`)).keys()]
      const key = keys.find((text) => text.endsWith(subnet2.replace('/', '-'))) ?? ''
      await overlay.lab.etcd.ctl('del', key)
      await until('it is gone', 5000, async () => !(await hasRoute()))
      t.pass('it is')
    })
  })
}
