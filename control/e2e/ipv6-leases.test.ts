/**
 * @parallel Leases with IPv6 in real stores: their exact bytes, what survives a wiped store, peers that
 * take no IPv6, and networks of IPv6 alone.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Host } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  PREFIX,
  skip,
  until,
  type Overlay,
} from './overlay.js'
import { unreachable, unreachablesOf } from './tshark.js'

t.setTimeout(120_000)

const IPV6 = { EnableIPv6: true, IPv6Network: 'fd05::/48' }
const ONLY6 = { EnableIPv4: false, ...IPV6 }
const SUBNETS = `${PREFIX}/subnets/`

/** Keys of all leases, without their prefix, with their values. */
async function leases(overlay: Overlay): Promise<Map<string, string>> {
  const keys = await overlay.lab.etcd.list(SUBNETS)
  return new Map([...keys].map(([key, value]) => [key.slice(SUBNETS.length), value]))
}

/** The two subnets of a host, from its subnet.env, and the key that stands for them. */
function own(host: Host) {
  const text = readFileSync(host.subnetFile, 'utf8')
  const part = (name: string, tail: RegExp) =>
    (new RegExp(`^${name}=(.+)/`, 'm').exec(text)?.[1] ?? '').replace(tail, '')
  const v4 = `${part('FLANNEL_SUBNET', /\.1$/)}.0`
  const v6 = part('FLANNEL_IPV6_SUBNET', /1$/)
  return { text, v4, v6, key: `${v4}-24&${v6}-64` }
}

function envText({ v4, v6 }: ReturnType<typeof own>, mtu: number): string {
  const four = `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${v4.replace(/0$/, '1')}/24\n`
  const six = `FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=${v6}1/64\n`
  return `${four}${six}FLANNEL_MTU=${mtu}\nFLANNEL_IPMASQ=false\n`
}

const MAC = '([0-9a-f]{2}(?::[0-9a-f]{2}){5})'

t.test('F22 vxlan: bytes of key, value and subnet.env; after a wipe', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'etcd',
    ipv6: true,
    network: IPV6,
    backend: { Type: 'vxlan' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const before = own(h1)
  t.equal(before.text, envText(before, 1430))
  const value = new RegExp(
    `^{"PublicIP":"${h1.address}","PublicIPv6":"${h1.address6}","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${MAC}"},"BackendV6Data":{"VNI":1,"VtepMAC":"${MAC}"}}$`,
  )
  const macsOf = async () => value.exec((await leases(overlay)).get(own(h1).key) ?? '')?.slice(1)
  const macs = (await macsOf()) ?? []
  t.equal(macs.length, 2)
  t.not(macs[0], macs[1], 'each device has its own')

  await t.test('F48 a restart keeps both MACs and both subnets', async (t) => {
    await overlay.daemon(h1).stop()
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    t.same(await macsOf(), macs)
    t.equal(own(h1).key, before.key)
  })

  await t.test('F8 both subnets come back from subnet.env', async (t) => {
    await overlay.daemon(h1).stop()
    await overlay.lab.etcd.ctl('del', SUBNETS + before.key)
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    t.equal(own(h1).key, before.key)
    await overlay.daemon(h1).waitFor(/Found previously leased subnet/)
  })

  await t.test('a key of an IPv6-only network is left alone, with one warning', async (t) => {
    const value = '{"PublicIP":"0.0.0.0","PublicIPv6":"fd30::99"}'
    const key = `${SUBNETS}0.0.0.0-0&fd05:0:0:fff::-64`
    const { etcd } = overlay.lab
    const daemon = overlay.daemon(h2)
    const warnings = () => daemon.stderr().match(/ignoring lease fd05:0:0:fff::\/64: .*/g) ?? []
    await etcd.put(key, value)
    await daemon.waitFor(/ignoring lease fd05:0:0:fff::\/64: it is of an IPv6-only/)
    // Renewals of it, and lists of all leases after an outage; a peer that comes after each shows
    // that it was read.
    for (const n of [1, 2, 3]) {
      await etcd.put(key, value)
      await etcd.put(key, value)
      await etcd.restart()
      const peer = `${SUBNETS}10.5.24${n}.0-24&fd05:0:0:eee${n}::-64`
      await etcd.put(peer, (await leases(overlay)).get(before.key) ?? '')
      await daemon.waitFor(new RegExp(`Subnet added: 10\\.5\\.24${n}\\.0/24`), 20_000)
      await etcd.ctl('del', peer)
      await daemon.waitFor(new RegExp(`Subnet removed: 10\\.5\\.24${n}\\.0/24`), 20_000)
    }
    t.equal(warnings().length, 1, warnings().join('\n'))
    t.equal((await overlay.status(h2)).peers.length, 1)
    for (const base of [before.v4, before.v6]) {
      t.equal((await h2.run('ping', ['-c1', '-W2', base])).code, 0, `${base} still answers`)
    }
  })
})

t.test('F22 udp: a peer that takes no IPv6', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', ipv6: true, network: IPV6 })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const p1 = await overlay.addPod(h1)
  const { text, key, v6 } = own(h1)
  t.equal(text, envText(own(h1), 1472))
  t.equal(
    (await leases(overlay)).get(key),
    `{"PublicIP":"${h1.address}","PublicIPv6":null,"BackendV6Data":{"IPv6":true}}`,
  )
  // As flannel's udp writes it: no word of IPv6.
  await overlay.lab.etcd.put(
    `${SUBNETS}10.5.250.0-24&fd05:0:0:fa::-64`,
    `{"PublicIP":"${h2.address}","PublicIPv6":null}`,
  )
  await until('it is known', 5000, async () => (await overlay.status(h1)).peers.length === 2)
  const before = await overlay.settled(h1)
  const { isAnswered, errors } = await unreachablesOf(p1, 'fd05:0:0:fa::2')
  t.notOk(isAnswered)
  t.same(errors, [unreachable(v6, p1.address6, 'fd05:0:0:fa::2', 3)], 'address unreachable')
  const moved = counted(before, await overlay.settled(h1))
  t.match(moved, { 'egress.drop_peer_no_ipv6': 1, 'gauge.icmp_sent': 1 })
  t.notMatch(moved, { 'egress.forward': 1 }, 'nothing of it is sent')
  t.equal((await p1.run('ping', ['-c1', '-W2', own(h2).v6])).code, 0, 'the other peer does')
  assertAccounted(t, h1.name, await overlay.settled(h1))
})

/** Two hosts of a network without IPv4. */
async function checkOnly6(t: Test, overlay: Overlay): Promise<void> {
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const { text, v6 } = own(h1)
  const mtu = 1452
  const six = `FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=${v6}1/64\n`
  t.equal(text, `${six}FLANNEL_MTU=${mtu}\nFLANNEL_IPMASQ=false\n`)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  t.equal((await p1.run('ping', ['-c1', '-W2', p2.address6])).code, 0)
  t.ok((await tcpTransfer(p1, p2, p2.address6, { bytes: 10e6 })).intact)
  const { lease, peers } = await overlay.status(h2)
  t.match(lease, { publicIP: '0.0.0.0', publicIPv6: h2.address6 })
  t.match(peers, [{ subnet: `${v6}/64`, publicIPv6: h1.address6 }])
  for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
  // A host is known by its IPv6 address.
  await overlay.daemon(h1).stop()
  await overlay.start(h1)
  await overlay.ready(h1, 1)
  await overlay.daemon(h1).waitFor(new RegExp(`for current IP \\(${h1.address6}\\), reusing`))
  t.equal(own(h1).v6, v6)
}

for (const store of ['etcd', 'file'] as const) {
  t.test(`a network of IPv6 alone, ${store}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 3,
      daemons: 2,
      store,
      ipv6: true,
      network: ONLY6,
      backend: { Underlay: 'ipv6' },
    })
    const key = `0.0.0.0-0&${own(overlay.host(1)).v6}-64`
    const value = `{"PublicIP":"0.0.0.0","PublicIPv6":"${overlay.host(1).address6}","BackendV6Data":{"IPv6":true}}`
    const folder = join(overlay.directory, 'subnets')
    const read = async () =>
      store === 'etcd'
        ? (await leases(overlay)).get(key)
        : readFileSync(join(folder, key), 'utf8').trim()
    t.equal(await read(), value)
    await checkOnly6(t, overlay)

    await t.test('not beside a lease with IPv4, which stays as it is', async (t) => {
      const foreign = '{"PublicIP":"172.30.0.77","PublicIPv6":null}'
      if (store === 'etcd') await overlay.lab.etcd.put(`${SUBNETS}10.5.7.0-24`, foreign)
      else writeFileSync(join(folder, '10.5.7.0-24'), foreign)
      const h3 = overlay.host(3)
      const daemon = await overlay.start(h3)
      t.same(await daemon.exited, { code: 1, signal: null })
      t.match(daemon.stderr(), /^F.*EnableIPv4 is false.*10\.5\.7\.0\/24.*172\.30\.0\.77/m)
      t.notOk(existsSync(h3.subnetFile))
      const keys = store === 'etcd' ? [...(await leases(overlay)).keys()] : readdirSync(folder)
      t.equal(keys.length, 3, 'nothing is written, nothing removed')
      await overlay.daemon(overlay.host(1)).waitFor(/ignoring lease 10\.5\.7\.0\/24: it has IPv4/)
      t.equal((await overlay.status(overlay.host(1))).peers.length, 1)
    })
  })
}

t.test('a network of IPv6 alone over IPv4: hosts are known by that', { skip }, async (t) => {
  const options = { hosts: 2, store: 'file', ipv6: true, network: ONLY6 } as const
  const overlay = await createOverlay(t, options)
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  t.equal((await h1.run('ping', ['-c1', '-W2', own(h2).v6])).code, 0)
  t.match((await overlay.status(h1)).lease, { publicIP: h1.address, publicIPv6: null })
})
