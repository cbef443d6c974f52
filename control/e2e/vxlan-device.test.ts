/**
 * @parallel `vxlan` by devices of the kernel (`"Dataplane":"kernel"`): what the kernel holds is what flannel would
 * have told it, whatever is taken away comes back, and both dataplanes talk to each other.
 */
import t from 'tap'
import type { Host } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import { publishedMac } from './kernel-vxlan.js'
import { createOverlay, links, overlayAddress, PREFIX, skip, until } from './overlay.js'

t.setTimeout(120_000)

const BACKEND = { Type: 'vxlan', Dataplane: 'kernel' }
/** Five seconds, and what a busy machine may add. */
const REPAIR_MS = 15_000

const ip = async (host: Host, ...args: string[]) => (await host.run('ip', args)).stdout
const fdb = async (host: Host) =>
  (await host.run('bridge', ['fdb', 'show', 'dev', 'flannel.1'])).stdout

t.test('two daemons, two devices of the kernel', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend: BACKEND })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const [base1, base2] = [await overlayAddress(h1), await overlayAddress(h2)]
  const [mac1, mac2] = [await publishedMac(overlay, h1), await publishedMac(overlay, h2)]
  const held = async () =>
    (await ip(h1, 'neigh', 'show', 'dev', 'flannel.1')).includes(
      `${base2} lladdr ${mac2} PERMANENT`,
    ) &&
    (await fdb(h1)).includes(`${mac2} dst ${h2.address} self permanent`) &&
    (await ip(h1, 'route')).includes(`${base2}/24 via ${base2} dev flannel.1`)
  await until('the kernel knows the peer', REPAIR_MS, held)

  await t.test('F43 device, address, entries and routes are as flannel makes them', async (t) => {
    const details = await ip(h1, '-d', 'link', 'show', 'flannel.1')
    t.match(
      details,
      new RegExp(`mtu 1450 .*link/ether ${mac1} .*vxlan id 1 local ${h1.address} dev eth0`, 's'),
    )
    t.match(details, /dstport 8472 nolearning/)
    t.match(
      await ip(h1, '-4', 'address', 'show', 'flannel.1'),
      ` inet ${base1}/32 scope global flannel.1`,
    )
    t.match(
      await ip(h1, 'route'),
      new RegExp(`^${base2}/24 via ${base2} dev flannel\\.1 .*onlink`, 'm'),
    )
    t.notMatch(await ip(h1, 'route'), '10.5.0.0/16')
    t.match(await h1.subnetEnv(), { mtu: 1450 })
    const { stdout } = await h1.run('cat', ['/proc/sys/net/ipv6/conf/flannel.1/accept_ra'])
    t.equal(stdout, '0\n')
    const status = await overlay.status(h1)
    t.match(status, {
      backend: { type: 'vxlan', port: 8472, dataplane: 'kernel' },
      device: null,
      kernelDevices: [{ name: 'flannel.1', mtu: 1450 }],
    })
  })

  await t.test('F43 traffic', async (t) => {
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
    ] as const) {
      const { stdout } = await from.run('ping', ['-c3', '-i0.2', '-W2', to.address])
      t.match(stdout, / ttl=62\b/)
      t.ok((await tcpTransfer(from, to, to.address, { bytes: 20e6 })).intact)
    }
  })

  await t.test('F47 whatever is taken away comes back, the device too', async (t) => {
    const damages: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['route', () => h1.ip(`route del ${base2}/24`)],
      ['neighbour', () => h1.ip(`neigh del ${base2} dev flannel.1`)],
      [
        'forwarding entry',
        () => h1.run('bridge', ['fdb', 'del', mac2, 'dev', 'flannel.1', 'dst', h2.address, 'self']),
      ],
      ['address', () => h1.ip(`address del ${base1}/32 dev flannel.1`)],
      ['device down', () => h1.ip('link set flannel.1 down')],
      ['device', () => h1.ip('link del flannel.1')],
      ['underlay down and up', () => h1.ip('link set eth0 down', 'link set eth0 up')],
    ]
    for (const [what, damage] of damages) {
      await damage()
      await until(`${what}: all is back`, REPAIR_MS, async () => {
        const { code } = await p1.run('ping', ['-c1', '-W1', p2.address])
        return code === 0 && (await held())
      })
      t.equal(await publishedMac(overlay, h1), mac1, what)
      t.match(await ip(h1, 'link', 'show', 'flannel.1'), mac1)
    }
  })

  await t.test(
    'F46 a restart costs no packet: device, MAC address and lease value stay',
    async (t) => {
      const value = async () => [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`))].sort()
      const before = await value()
      const ping = p1.run('ping', ['-c300', '-i0.01', '-W2', p2.address])
      await overlay.daemon(h1).stop()
      t.ok((await links(h1)).includes('flannel.1'), 'stays while nobody looks after it')
      await overlay.start(h1)
      await overlay.ready(h1, 1)
      t.match((await ping).stdout, /300 received/)
      t.same(await value(), before)
      t.equal(await publishedMac(overlay, h1), mac1)
    },
  )

  await t.test('what a former daemon left of peers that are gone is removed', async (t) => {
    await overlay.daemon(h1).stop()
    await h1.ip(
      `neigh add 10.5.251.0 lladdr 0e:00:00:00:00:0c dev flannel.1 nud permanent`,
      `route add 10.5.251.0/24 via 10.5.251.0 dev flannel.1 onlink`,
    )
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    await until('it is gone', REPAIR_MS, async () => {
      const left = (await ip(h1, 'route')) + (await ip(h1, 'neigh', 'show', 'dev', 'flannel.1'))
      return !left.includes('10.5.251.0')
    })
    t.ok(await held())
  })

  await t.test('the same network in user space on one of them', async (t) => {
    await overlay.configure({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan' } })
    await overlay.daemon(h2).stop()
    await overlay.start(h2)
    await overlay.ready(h2, 1)
    t.equal(await publishedMac(overlay, h2), mac2)
    t.match(await ip(h2, '-d', 'link', 'show', 'flannel.1'), /tun type tun/)
    const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 20e6 })
    t.ok(intact)
    await overlay.configure({ Network: '10.5.0.0/16', Backend: { ...BACKEND, Dataplane: 'auto' } })
    await overlay.daemon(h2).stop()
    const daemon = await overlay.start(h2)
    await overlay.ready(h2, 1)
    await daemon.waitFor(/vxlan by the kernel, which has VXLAN devices/)
    t.ok((await tcpTransfer(p2, p1, p1.address, { bytes: 20e6 })).intact, 'and back')
  })

  await t.test('F14 a peer that goes takes its entries', async (t) => {
    await overlay.daemon(h2).stop()
    await overlay.lab.etcd.ctl('del', `${PREFIX}/subnets/${base2}-24`)
    await until('they are gone', REPAIR_MS, async () => {
      const left =
        (await ip(h1, 'route')) +
        (await ip(h1, 'neigh', 'show', 'dev', 'flannel.1')) +
        (await fdb(h1))
      return !left.includes(base2) && !left.includes(mac2)
    })
    t.pass('they are')
  })
})

t.test('F49 dual stack: two devices of the kernel', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'etcd',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: BACKEND,
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  t.match(await ip(h1, '-d', 'link', 'show', 'flannel-v6.1'), `local ${h1.address6} dev eth0`)
  for (const address of [p2.address, p2.address6]) {
    await until(`${address} answers`, REPAIR_MS, async () => {
      return (await p1.run('ping', ['-c1', '-W1', address])).code === 0
    })
    t.ok((await tcpTransfer(p1, p2, address, { bytes: 10e6 })).intact, address)
  }
  const { stdout } = await h1.run('bridge', ['fdb', 'show', 'dev', 'flannel-v6.1'])
  t.match(stdout, `dst ${h2.address6} self permanent`)
})

t.test('F45 DirectRouting past a device of the kernel', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'etcd',
    backend: { ...BACKEND, DirectRouting: true },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const base2 = await overlayAddress(h2)
  await until('the route is there', REPAIR_MS, async () =>
    (await ip(h1, 'route')).includes(`${base2}/24 via ${h2.address} dev eth0`),
  )
  const capture = await h1.capture('eth0', 'udp dst port 8472')
  t.ok((await tcpTransfer(p1, p2, p2.address, { bytes: 5e6 })).intact)
  t.equal((await capture.stop()).packets.length, 0, 'no VXLAN')
  t.equal(await ip(h1, 'neigh', 'show', 'dev', 'flannel.1', 'nud', 'permanent'), '')
})

t.test('a device of that name that is none of VXLAN is named', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 1, daemons: 0, store: 'etcd', backend: BACKEND })
  const h1 = overlay.host(1)
  await h1.ip('link add flannel.1 type bridge')
  const daemon = await overlay.start(h1)
  const { code } = await daemon.exited
  t.equal(code, 1)
  t.match(daemon.stderr(), /flannel\.1 is there already, and it is a bridge device/)
})
