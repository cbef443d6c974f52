/**
 * @parallel ICMPv6 destination unreachable through the overlay, decoded by tshark: a subnet without a
 * lease (code 0), a peer that the kernel cannot reach (code 3).
 */
import t from 'tap'
import type { Host } from '../lab/host.js'
import { assertAccounted, counted, createOverlay, skip } from './overlay.js'
import { unreachable, unreachablesOf } from './tshark.js'

t.setTimeout(90_000)

const DUAL = { EnableIPv6: true, IPv6Network: 'fd05::/48' }
/** No host gets it: leases are taken below. */
const UNLEASED = 'fd05:0:0:ffff::9'
const LEASABLE = { IPv6SubnetMax: 'fd05:0:0:fff::' }

const backends = [
  { Type: 'udp' },
  { Type: 'udp', Underlay: 'ipv6' },
  { Type: 'vxlan' },
  { Type: 'vxlan', Underlay: 'ipv6' },
]

/** Base of a host's IPv6 subnet: the address that its errors come from. */
async function base6(host: Host): Promise<string> {
  return ((await host.subnetEnv()).gateway6 ?? '').replace(/:1$/, ':')
}

for (const backend of backends) {
  t.test(`errors of ${Object.values(backend).join(' on ')}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 3,
      store: 'file',
      ipv6: true,
      network: { ...DUAL, ...LEASABLE },
      backend,
    })
    const [h1, h2, h3] = [1, 2, 3].map((n) => overlay.host(n)) as [Host, Host, Host]
    const p1 = await overlay.addPod(h1)
    const [base1, base2, base3] = await Promise.all([base6(h1), base6(h2), base6(h3)])

    await t.test('a subnet without a lease: no route, 1/0', async (t) => {
      const before = await overlay.settled(h1)
      const { isAnswered, errors } = await unreachablesOf(p1, UNLEASED)
      t.notOk(isAnswered)
      t.same(errors, [unreachable(base1, p1.address6, UNLEASED, 0)])
      const moved = counted(before, await overlay.settled(h1))
      // The kernel's own multicast may come meanwhile, which has no route either, and no answer.
      t.ok((moved['egress.drop_no_route'] ?? 0) >= 1, JSON.stringify(moved))
      t.match(moved, { 'gauge.icmp_sent': 1 })
      t.notMatch(moved, { 'egress.forward': 1 }, 'nothing of it is sent')
    })

    if (backend.Underlay !== 'ipv6') return
    await t.test('a peer that the kernel cannot reach: address unreachable, 1/3', async (t) => {
      for (const kind of ['unreachable', 'prohibit', 'blackhole']) {
        await h1.ip(`route add ${kind} ${h2.address6}/128`)
        const before = await overlay.settled(h1)
        const { isAnswered, errors } = await unreachablesOf(p1, base2)
        t.notOk(isAnswered, kind)
        // A black hole is EINVAL, which says nothing about the peer.
        const wanted = kind === 'blackhole' ? [] : [unreachable(base1, p1.address6, base2, 3)]
        t.same(errors, wanted, kind)
        const moved = counted(before, await overlay.settled(h1))
        t.equal(moved['egress.drop_tx_unreachable'] ?? 0, wanted.length, JSON.stringify(moved))
        t.equal((await p1.run('ping', ['-c1', '-W2', base3])).code, 0, 'the other peer answers')
        await h1.ip(`route del ${kind} ${h2.address6}/128`)
      }
      t.equal((await p1.run('ping', ['-c1', '-W2', base2])).code, 0, 'and so does it later')
    })
    assertAccounted(t, h1.name, await overlay.settled(h1))
  })
}
