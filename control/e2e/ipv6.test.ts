/**
 * @serial Every pair of inner and outer IP version, over both backends: pings of all sizes, hop limits,
 * TCP with hashes both ways, UDP, and what the wire carries.
 */
import t, { type Test } from 'tap'
import type { Pod } from '../lab/host.js'
import { exchange } from './exchange.js'
import { assertAccounted, createOverlay, PREFIX, skip, type Overlay } from './overlay.js'

t.setTimeout(180_000)

const MB = 1e6
/** What the lab's networks of IPv6 are. */
const IPV6 = { EnableIPv6: true, IPv6Network: 'fd05::/48' }

interface Case {
  readonly backend: { readonly Type: 'udp' | 'vxlan'; readonly Underlay?: 'ipv4' | 'ipv6' }
  /** Outer IP version of what carries IPv4, and of what carries IPv6. */
  readonly outer: readonly [4 | 6, 4 | 6]
  readonly mtu: number
}

const cases: readonly Case[] = [
  { backend: { Type: 'udp' }, outer: [4, 4], mtu: 1472 },
  { backend: { Type: 'udp', Underlay: 'ipv6' }, outer: [6, 6], mtu: 1452 },
  { backend: { Type: 'vxlan' }, outer: [4, 6], mtu: 1430 },
  { backend: { Type: 'vxlan', Underlay: 'ipv4' }, outer: [4, 4], mtu: 1450 },
  { backend: { Type: 'vxlan', Underlay: 'ipv6' }, outer: [6, 6], mtu: 1430 },
]

/** A ping of each family between the pods is carried by what it should be. */
async function checkWire(t: Test, overlay: Overlay, pods: [Pod, Pod], test: Case): Promise<void> {
  const port = test.backend.Type === 'udp' ? 8285 : 8472
  const [from, to] = pods
  for (const [i, address] of [to.address, to.address6].entries()) {
    const outer = test.outer[i as 0 | 1]
    const filter = `${outer === 4 ? 'ip' : 'ip6'} and udp dst port ${port}`
    const capture = await overlay.host(1).capture('eth0', filter)
    await from.run('ping', ['-c3', '-i0.2', '-W1', address])
    const { packets } = await capture.stop()
    t.ok(packets.length >= 3, `IPv${i === 0 ? 4 : 6} in IPv${outer}: ${packets.length} packets`)
  }
}

for (const test of cases) {
  const name = [test.backend.Type, test.backend.Underlay].filter(Boolean).join(' on ')
  t.test(name, { skip }, async (t) => {
    const { backend, outer, mtu } = test
    const overlay = await createOverlay(t, {
      hosts: 2,
      store: 'etcd',
      ipv6: true,
      network: IPV6,
      backend,
    })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const pods: [Pod, Pod] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const ttl = backend.Type === 'udp' ? 60 : 62

    await t.test('F22 F49 key, value, subnet.env and devices', async (t) => {
      const keys = [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`)).keys()]
      t.equal(keys.length, 2)
      for (const key of keys) t.match(key, /\/10\.5\.\d+\.0-24&fd05(:0:0:[\da-f]+)?::-64$/)
      const env = await h1.subnetEnv()
      t.equal(env.mtu, mtu)
      t.match(env, { prefixLen: 24, prefixLen6: 64 })
      const { lease, tunnels } = await overlay.status(h1)
      t.equal(lease.publicIP, h1.address)
      t.equal(lease.publicIPv6, outer.includes(6) ? h1.address6 : null)
      t.equal(tunnels.length, backend.Type === 'vxlan' && backend.Underlay === undefined ? 2 : 1)
    })
    for (const family of [4, 6] as const) {
      await t.test(`IPv${family} in IPv${outer[family === 4 ? 0 : 1]}`, async (t) => {
        const traffic = { family, ttl, mtu, bytes: 30 * MB }
        await exchange(t, pods, traffic)
        await exchange(t, [pods[1], pods[0]], traffic)
      })
    }
    await t.test('on the wire', (t) => checkWire(t, overlay, pods, test))
    for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
  })
}
