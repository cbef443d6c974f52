/**
 * @serial The `vxlan` backend: between two daemons, and with a VXLAN device of the kernel that is
 * programmed as flannel programs it. What arrives is what was sent, both ways.
 */
import t from 'tap'
import { OFFLOADS } from '../../dataplane/index.js'
import { must } from '../lab/process.js'
import { udpTransfer } from '../lab/transfers.js'
import { exchange } from './exchange.js'
import { programKernel, publishedMac } from './kernel-vxlan.js'
import { assertAccounted, createOverlay, overlayAddress, PREFIX, skip, until } from './overlay.js'

t.setTimeout(180_000)

const MB = 1e6
const MTU = 1450
const ALL_OFF = OFFLOADS.map((name) => `--${name}=false`)

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

  await t.test('traffic', async (t) => {
    await exchange(t, [p1, p2], { mtu: MTU, bytes: 100 * MB })
    await exchange(t, [p2, p1], { mtu: MTU, bytes: 100 * MB })
  })

  await t.test('the source port on the wire varies by flow, and is one for each', async (t) => {
    const capture = await h1.capture('eth0', 'udp dst port 8472 and src host 172.30.0.11')
    const options = { count: 20, size: 100, perSecond: 1000 }
    for (let flow = 0; flow < 12; flow++) {
      const { received } = await udpTransfer(p1, p2, p2.address, options)
      t.equal(received.received, 20)
    }
    const { packets } = await capture.stop()
    /** Outer source ports by inner ports. */
    const sources = new Map<number, Set<number>>()
    for (const { bytes } of packets) {
      const frame = Buffer.from(bytes)
      const inner = 14 + 20 + 8 + 22
      if (frame[inner + 9] !== 17) continue
      const flow = frame.readUInt32BE(inner + 20)
      sources.set(flow, (sources.get(flow) ?? new Set()).add(frame.readUInt16BE(14 + 20)))
      t.not(frame.readUInt16BE(14 + 20 + 6), 0, 'the outer checksum is there')
    }
    t.equal(sources.size, 12)
    for (const ports of sources.values()) t.equal(ports.size, 1)
    const all = new Set([...sources.values()].flatMap((ports) => [...ports]))
    t.ok(all.size > 2 && all.size <= 8, `${all.size} source ports`)
    t.ok([...all].every((port) => port >= 49152 && port % 16 === 0))
  })

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
      await exchange(t, [p1, p2], { mtu: MTU, bytes: 50 * MB })
      await exchange(t, [p2, p1], { mtu: MTU, bytes: 50 * MB })
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
