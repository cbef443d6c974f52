/**
 * @serial The `vxlan` backend: between two daemons, and with a VXLAN device of the kernel that is
 * programmed as flannel programs it. What arrives is what was sent, both ways.
 */
import t, { type Test } from 'tap'
import type { Host, Pod } from '../lab/host.js'
import { must } from '../lab/process.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import {
  assertAccounted,
  createOverlay,
  overlayAddress,
  PREFIX,
  skip,
  until,
  type Overlay,
} from './overlay.js'

t.setTimeout(180_000)

const MB = 1e6
const OFFLOADS = ['tun-offload', 'tun-uso', 'tun-gro', 'udp-segment', 'udp-gro']
const ALL_OFF = OFFLOADS.map((name) => `--${name}=false`)

/** The MAC address that a host's lease names. */
async function publishedMac(overlay: Overlay, host: Host): Promise<string> {
  const keys = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
  const base = await overlayAddress(host)
  const value = [...keys].find(([key]) => key.endsWith(`/${base}-24`))?.[1] ?? ''
  const exact = new RegExp(
    `^{"PublicIP":"${host.address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"([0-9a-f:]{17})"}}$`,
  )
  return exact.exec(value)?.[1] ?? `not in ${value}`
}

/** Pings of sizes up to the MTU and beyond, TTL, TCP both ways, UDP. */
async function exchange(t: Test, a: Pod, b: Pod, bytes: number): Promise<void> {
  const ping = (from: Pod, to: Pod, ...args: string[]) =>
    from.run('ping', ['-c1', '-W2', ...args, to.address])
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    for (const size of [0, 1, 8, 100, 1421, 1422, 1423, 4000, 9001, 60_000]) {
      const { code, stdout } = await ping(from, to, '-s', String(size))
      t.equal(code, 0, `ping of ${size} bytes`)
      t.match(stdout, / ttl=62\b/, '64 → 62: the kernels’ two alone')
    }
    t.equal((await ping(from, to, '-M', 'do', '-s', '1422')).code, 0, 'DF: 1450 bytes pass')
    const over = await ping(from, to, '-M', 'do', '-s', '1423')
    t.match(over.stdout + over.stderr, /message too long, mtu=1450/)
    const { intact, received } = await tcpTransfer(from, to, to.address, { bytes })
    t.ok(intact && received.bytes === bytes, 'TCP: the same hash')
    const numbered = { count: 2000, size: 1200, perSecond: 5000 }
    const { received: datagrams } = await udpTransfer(from, to, to.address, numbered)
    t.match(datagrams, { received: 2000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
  }
}

t.test('two daemons', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend: { Type: 'vxlan' } })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('device, address, MTU and route', async (t) => {
    const base = await overlayAddress(h1)
    t.equal((await h1.subnetEnv()).mtu, 1450)
    const { stdout } = await h1.run('ip', ['-json', '-4', 'address', 'show', 'flannel.1'])
    const [link] = JSON.parse(stdout) as [{ mtu: number; addr_info: object[] }]
    t.equal(link.mtu, 1450)
    t.match(link.addr_info, [{ local: base, prefixlen: 32 }])
    t.match((await h1.run('ip', ['route', 'show', 'dev', 'flannel.1'])).stdout, /^10\.5\.0\.0\/16 /)
    const { backend, device } = await overlay.status(h1)
    t.match({ backend, device }, { backend: { type: 'vxlan', port: 8472 }, device: { mtu: 1450 } })
  })

  await t.test('the lease names a MAC, which a restart keeps (F48)', async (t) => {
    const mac = await publishedMac(overlay, h1)
    t.match(mac, /^.[26ae](:[0-9a-f]{2}){5}$/)
    t.not(mac, await publishedMac(overlay, h2))
    await overlay.daemon(h1).stop()
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    t.equal(await publishedMac(overlay, h1), mac)
  })

  await t.test('traffic', (t) => exchange(t, p1, p2, 100 * MB))

  await t.test('a lease of another backend is left out, with a warning (F56)', async (t) => {
    await overlay.lab.etcd.put(`${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"172.30.0.99"}')
    await overlay.daemon(h1).waitFor(/ignoring lease 10\.5\.250\.0\/24: its backend type is none/)
    t.equal((await overlay.status(h1)).peers.length, 1)
  })

  await t.test('every packet is accounted for', async (t) => {
    for (const host of [h1, h2]) {
      const counts = await overlay.settled(host)
      assertAccounted(t, host.name, counts)
      const drops = [...counts].filter(([name, n]) => name.startsWith('ingress.drop_') && n > 0)
      t.same(drops, [], host.name)
    }
  })
})

const KERNEL_MAC = '0e:00:00:00:00:0b'

/** Makes a host what flanneld would make of it: device, neighbour, forwarding entry, route. */
async function programKernel(overlay: Overlay, host: Host, peer: Host): Promise<Pod> {
  const [own, base, mac] = [
    '10.5.250.0',
    await overlayAddress(peer),
    await publishedMac(overlay, peer),
  ]
  await host.ip(
    `link add flannel.1 address ${KERNEL_MAC} mtu 1450 type vxlan id 1 dev eth0 local ${host.address} dstport 8472 nolearning`,
    'link set flannel.1 up',
    `address add ${own}/32 dev flannel.1`,
    `neigh replace ${base} lladdr ${mac} dev flannel.1 nud permanent`,
    `route replace ${base}/24 via ${base} dev flannel.1 onlink`,
  )
  await must('bridge', [
    '-n',
    host.netns,
    'fdb',
    'add',
    mac,
    'dev',
    'flannel.1',
    'dst',
    peer.address,
    'self',
    'permanent',
  ])
  await host.sysctl({ 'net/ipv4/ip_forward': 1 })
  await overlay.lab.etcd.put(
    `${PREFIX}/subnets/${own}-24`,
    `{"PublicIP":"${host.address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${KERNEL_MAC}"}}`,
  )
  await host.addBridge({ network: '10.5.0.0/16', gateway: '10.5.250.1', prefixLen: 24, mtu: 1450 })
  return host.addPod()
}

t.test('a daemon and a VXLAN device of the kernel', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    daemons: 1,
    store: 'etcd',
    backend: { Type: 'vxlan' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const p1 = await overlay.addPod(h1)
  const p2 = await programKernel(overlay, h2, h1)
  await until('the peer is known', 5000, async () => (await overlay.status(h1)).peers.length === 1)
  const setLink = (state: 'on' | 'off') =>
    must('ip', ['netns', 'exec', h2.netns, 'ethtool', '-K', 'eth0', 'tx', state, 'gso', state])

  // On one machine the kernel leaves cutting and sums to whoever receives; over a wire it does not.
  for (const [name, args, link] of [
    ['with all offloads, over a wire', [], 'off'],
    ['without any, over a wire', ALL_OFF, 'off'],
    ['with all offloads, on one machine', [], 'on'],
    ['without any, on one machine', ALL_OFF, 'on'],
  ] as const) {
    await t.test(`${name} (F43)`, async (t) => {
      await setLink(link)
      await overlay.daemon(h1).stop()
      await overlay.start(h1, args)
      await overlay.ready(h1, 1)
      await exchange(t, p1, p2, 50 * MB)
      const counts = await overlay.settled(h1)
      assertAccounted(t, h1.name, counts)
      const drops = [...counts].filter(([key, n]) => key.startsWith('ingress.drop_') && n > 0)
      t.same(
        drops.filter(([key]) => key !== 'ingress.drop_vxlan_group'),
        [],
      )
      const unfinished = counts.get('gauge.unfinished_taken') ?? 0
      if (link === 'on') t.ok(unfinished > 1000, `${unfinished} unfinished ones`)
      else t.ok(unfinished < 10, `${unfinished} by chance`)
    })
  }
})
