/**
 * @serial A dual-stack daemon and the two VXLAN devices of a kernel, `flannel.1` and `flannel-v6.1`,
 * programmed as flannel programs them: IPv4 in IPv4 and IPv6 in IPv6, both ways (F49).
 */
import t from 'tap'
import { OFFLOADS } from '../../dataplane/index.js'
import type { Host, Pod } from '../lab/host.js'
import { must } from '../lab/process.js'
import { exchange } from './exchange.js'
import { assertAccounted, createOverlay, PREFIX, skip, until, type Overlay } from './overlay.js'

t.setTimeout(120_000)

const BYTES = 30e6
const ALL_OFF = OFFLOADS.map((name) => `--${name}=false`)
const MTU = 1430
/** What the kernel's host owns. */
const OWN = {
  v4: '10.5.250.0',
  v6: 'fd05:0:0:fa::',
  macs: ['0e:00:00:00:00:0b', '0e:00:00:00:00:0c'],
}

interface KernelDevice {
  readonly name: string
  /** Own address on the underlay, and that of the peer. */
  readonly local: string
  readonly remote: string
  readonly mac: string
  /** Own base address with its length, base address and subnet of the peer, and the peer's MAC. */
  readonly address: string
  readonly base: string
  readonly subnet: string
  readonly peerMac: string
}

async function program(host: Host, device: KernelDevice): Promise<void> {
  const { name, local, remote, mac, address, base, subnet, peerMac } = device
  await host.ip(
    `link add ${name} address ${mac} mtu 1450 txqueuelen 0 type vxlan id 1 dev eth0 local ${local} dstport 8472 nolearning`,
    `address add ${address} dev ${name}`,
    `link set ${name} up`,
    `neigh replace ${base} lladdr ${peerMac} dev ${name} nud permanent`,
    `route replace ${subnet} via ${base} dev ${name} onlink`,
  )
  const entry = ['fdb', 'replace', peerMac, 'dev', name, 'dst', remote, 'self', 'permanent']
  await must('bridge', ['-n', host.netns, ...entry])
}

/** Makes a host what flanneld would make of it in a dual-stack network, and gives it a pod. */
async function programKernel(overlay: Overlay, host: Host, peer: Host): Promise<Pod> {
  const keys = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
  const [key, value] = [...keys][0] ?? ['', '']
  const [, v4 = '', v6 = ''] = /\/([\d.]+)-24&([\da-f:]+)-64$/.exec(key) ?? []
  const [mac4 = '', mac6 = ''] = [...value.matchAll(/"VtepMAC":"([\da-f:]+)"/g)].map(([, m]) => m)
  const [own4 = '', own6 = ''] = OWN.macs
  await host.sysctl({ 'net.ipv6.conf.default.accept_dad': 0 })
  await program(host, {
    name: 'flannel.1',
    local: host.address,
    remote: peer.address,
    mac: own4,
    address: `${OWN.v4}/32`,
    base: v4,
    subnet: `${v4}/24`,
    peerMac: mac4,
  })
  await program(host, {
    name: 'flannel-v6.1',
    local: host.address6,
    remote: peer.address6,
    mac: own6,
    address: `${OWN.v6}/128`,
    base: v6,
    subnet: `${v6}/64`,
    peerMac: mac6,
  })
  await overlay.lab.etcd.put(
    `${PREFIX}/subnets/${OWN.v4}-24&${OWN.v6}-64`,
    `{"PublicIP":"${host.address}","PublicIPv6":"${host.address6}","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${own4}"},"BackendV6Data":{"VNI":1,"VtepMAC":"${own6}"}}`,
  )
  await host.addBridge({
    network: '10.5.0.0/16',
    gateway: '10.5.250.1',
    prefixLen: 24,
    gateway6: `${OWN.v6}1`,
    prefixLen6: 64,
    mtu: MTU,
  })
  return host.addPod()
}

t.test('a dual-stack daemon and two VXLAN devices of the kernel (F49)', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    daemons: 1,
    store: 'etcd',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Type: 'vxlan' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const p1 = await overlay.addPod(h1)
  const p2 = await programKernel(overlay, h2, h1)
  await until('the peer is known', 5000, async () => (await overlay.status(h1)).peers.length === 1)

  for (const [name, args, link] of [
    ['with all offloads, over a wire', [], 'off'],
    ['without any, on one machine', ALL_OFF, 'on'],
    ['with all offloads, on one machine', [], 'on'],
  ] as const) {
    await t.test(name, async (t) => {
      const ethtool = ['-K', 'eth0', 'tx', link, 'gso', link]
      await must('ip', ['netns', 'exec', h2.netns, 'ethtool', ...ethtool])
      await overlay.daemon(h1).stop()
      await overlay.start(h1, args)
      await overlay.ready(h1, 1)
      for (const family of [4, 6] as const) {
        await exchange(t, [p1, p2], { family, mtu: MTU, bytes: BYTES })
        await exchange(t, [p2, p1], { family, mtu: MTU, bytes: BYTES })
      }
      const counts = await overlay.settled(h1)
      assertAccounted(t, h1.name, counts)
      const drops = [...counts].filter(([key, n]) => key.startsWith('ingress.drop_') && n > 0)
      t.same(
        // The kernel's own multicast on its devices: it looks for routers there.
        drops.filter(([key]) => key !== 'ingress.drop_vxlan_group'),
        [],
      )
    })
  }
})
