/**
 * @serial Daemons with several engines (`--queues`): flows spread over them, each in its own order,
 * beside a daemon with one engine, which sends from the flannel port alone as flanneld does.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { FIREWALL_MODE } from '../lab/firewall-mode.js'
import { HEDDLED } from '../lab/host.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import { behindEthernet, parseIpv4 } from './ipv4.js'
import { assertAccounted, createOverlay, skip, until } from './overlay.js'

t.setTimeout(120_000)

const MB = 1e6
const PORT = 8285

t.test('two daemons with two engines each, one with one', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 3, daemons: 0, store: 'etcd' })
  const [h1, h2, h3] = [overlay.host(1), overlay.host(2), overlay.host(3)]
  await Promise.all([
    overlay.start(h1, ['--queues=2']),
    overlay.start(h2, ['--queues=2']),
    overlay.start(h3),
  ])
  for (const host of [h1, h2, h3]) await overlay.ready(host, 2)
  const from = [await overlay.addPod(h1), await overlay.addPod(h1), await overlay.addPod(h1)]
  const to = [await overlay.addPod(h2), await overlay.addPod(h2), await overlay.addPod(h2)]
  const single = await overlay.addPod(h3)
  const [p1, p2] = [from[0]!, to[0]!]

  await t.test('TCP flows spread over both engines of both hosts, whole both ways', async (t) => {
    const capture = await h2.capture('eth0', 'udp')
    const transfers = [1, 2, 3, 4, 5, 6].flatMap((seed) => [
      tcpTransfer(p1, p2, p2.address, { bytes: 8 * MB, seed }),
      tcpTransfer(p2, p1, p1.address, { bytes: 8 * MB, seed }),
    ])
    for (const { intact, received } of await Promise.all(transfers)) {
      t.ok(intact)
      t.equal(received.bytes, 8 * MB)
    }
    const packets = await capture.waitForPackets(100)
    await capture.stop()
    const ports = new Map<number, number>()
    for (const { bytes } of packets) {
      const { payload } = parseIpv4(behindEthernet(bytes) ?? new Uint8Array())
      const udp = Buffer.from(payload)
      ports.set(udp.readUInt16BE(0), (ports.get(udp.readUInt16BE(0)) ?? 0) + 1)
      if (udp.readUInt16BE(2) !== PORT) t.fail(`a datagram to port ${String(udp.readUInt16BE(2))}`)
    }
    const others = [...ports.keys()].filter((port) => port !== PORT)
    t.ok(ports.has(PORT), 'engine 0 sends from the flannel port')
    t.equal(others.length, 2, `engine 1 of each host has a port of its own: ${others.join()}`)
    t.ok(others.every((port) => port % 16 === 1 && port >= 49152))
    for (const host of [h1, h2]) {
      const { queues } = await overlay.status(host)
      t.equal(queues.length, 2)
      for (const [i, { egress, ingress }] of queues.entries()) {
        t.ok(egress > 100 && ingress > 100, `${host.name} engine ${String(i)} took part`)
      }
      assertAccounted(t, host.name, await overlay.settled(host))
    }
  })

  await t.test('UDP flows keep their order while answers run the other way', async (t) => {
    // One pair of pods after the other: many programs that start at a time keep receivers waiting.
    for (const [i, pod] of from.entries()) {
      const peer = to[i]!
      const options = { count: 3000, perSecond: 3000 }
      // Fragments of one flow have no ports, whole datagrams of another have.
      const size = i === 0 ? 2000 : 900
      const flows = await Promise.all([
        udpTransfer(pod, peer, peer.address, { ...options, size: 200 }),
        udpTransfer(peer, pod, pod.address, { ...options, size }),
      ])
      for (const { received } of flows) {
        t.match(received, { received: 3000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
      }
    }
  })

  await t.test('what comes from a daemon with one engine stays on one engine', async (t) => {
    const before = (await overlay.status(h1)).queues
    const options = { count: 3000, size: 500, perSecond: 3000 }
    const [there, back, tcp] = await Promise.all([
      udpTransfer(p1, single, single.address, options),
      udpTransfer(single, p1, p1.address, options),
      tcpTransfer(p1, single, single.address, { bytes: 20 * MB }),
    ])
    for (const { received } of [there, back]) t.match(received, { received: 3000, reordered: 0 })
    t.ok(tcp.intact)
    const after = (await overlay.status(h1)).queues
    t.equal(after[1]?.ingress, before[1]?.ingress, 'engine 1 received nothing')
    t.ok((after[0]?.ingress ?? 0) >= (before[0]?.ingress ?? 0) + 3000)
  })

  await t.test('the shared port is still taken for another daemon', async (t) => {
    const prefix = '/another/network'
    const config = { ...FIREWALL_MODE, Network: '10.9.0.0/16' }
    await overlay.lab.etcd.put(`${prefix}/config`, JSON.stringify(config))
    const args = [`--etcd-endpoints=${overlay.lab.etcd.endpoint}`, '--queues=2', '--iface=eth0']
    const own = [`--etcd-prefix=${prefix}`, `--subnet-file=${h1.subnetFile}.second`]
    const second = await h1.run(process.execPath, [HEDDLED, ...args, ...own])
    t.not(second.code, 0)
    t.match(second.stderr, /UDP 172\.30\.0\.11:8285 is taken/)
  })

  await t.test('SIGTERM ends all engines', async (t) => {
    const daemon = overlay.daemon(h2)
    process.kill(daemon.pid, 'SIGTERM')
    t.same(await daemon.exited, { code: 0, signal: null })
  })
})

t.test('vxlan: flows spread over both engines, whole and in order', { skip }, async (t) => {
  const backend = { Type: 'vxlan' }
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd', backend })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  await Promise.all([h1, h2].map((host) => overlay.start(host, ['--queues=2'])))
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const transfers = [1, 2, 3, 4].flatMap((seed) => [
    tcpTransfer(p1, p2, p2.address, { bytes: 8 * MB, seed }),
    tcpTransfer(p2, p1, p1.address, { bytes: 8 * MB, seed }),
  ])
  for (const { intact } of await Promise.all(transfers)) t.ok(intact)
  const options = { count: 3000, perSecond: 3000, size: 200 }
  const { received } = await udpTransfer(p1, p2, p2.address, options)
  t.match(received, { received: 3000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
  for (const host of [h1, h2]) {
    const { queues } = await overlay.status(host)
    for (const [i, { egress, ingress }] of queues.entries()) {
      t.ok(egress > 100 && ingress > 100, `${host.name} engine ${String(i)} took part`)
    }
    assertAccounted(t, host.name, await overlay.settled(host))
  }
})

const isOpenToAll =
  readFileSync('/proc/sys/kernel/unprivileged_bpf_disabled', 'utf8').trim() === '0'

t.test(
  'without the right to load programs there is one engine, and a line that says so',
  { skip: skip === false ? isOpenToAll && 'this kernel lets everybody load programs' : skip },
  async (t) => {
    const overlay = await createOverlay(t, { hosts: 1, daemons: 0, store: 'file' })
    const host = overlay.host(1)
    const args = [`--store=file:${overlay.directory}`, '--iface=eth0', '--queues=4']
    const daemon = await host.spawn('setpriv', [
      '--bounding-set=-bpf,-sys_admin',
      ...[process.execPath, HEDDLED, ...args, `--subnet-file=${host.subnetFile}`],
    ])
    overlay.daemons.set(host, daemon)
    const { queues } = await overlay.ready(host, 0)
    t.equal(queues.length, 1)
    await until('the log says so', 1000, () =>
      /one engine and one source port: .*EPERM/.test(daemon.stderr()),
    )
  },
)
