/**
 * @serial Real traffic between pods on two hosts, leases in a real etcd: what arrives is what was
 * sent, and the wire shows what flannel's `udp` backend puts there.
 */
import { readFileSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { CapturedPacket } from '../lab/capture.js'
import type { Host, Pod } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { must } from '../lab/process.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import {
  behindEthernet,
  type Ipv4Fields,
  isTransportSumRight,
  parseIpv4,
  PROTO_ICMP,
  PROTO_TCP,
  PROTO_UDP,
} from './ipv4.js'
import { assertAccounted, counted, createOverlay, overlayAddress, PREFIX, skip } from './overlay.js'
import { dissect } from './tshark.js'
import type { SizesReport } from './udp-sizes.js'

t.setTimeout(120_000)

const MB = 1e6
const TX_OFF = ['ethtool', '-K', 'eth0', 'tx', 'off']
const SIZES_TOOL = fileURLToPath(new URL('udp-sizes.js', import.meta.url))

/** Sends a datagram of each size from a pod to another. @param sizes  such as `0-9,4000` */
async function sendSizes(from: Netns, to: Pod, sizes: string): Promise<SizesReport> {
  const receiver = await to.spawn(
    process.execPath,
    [SIZES_TOOL, 'receive', to.address, '0', '1500'],
    { name: 'udp-sizes' },
  )
  const port = (await receiver.waitFor(/"listening":(\d+)/))[1] ?? ''
  const sent = await from.run(process.execPath, [SIZES_TOOL, 'send', to.address, port, sizes])
  if (sent.code !== 0) throw new Error(`udp-sizes send: ${sent.stderr}`)
  await receiver.exited
  return JSON.parse(receiver.stdout().trim().split('\n').at(-1) ?? '') as SizesReport
}

/** The inner packets of a capture on the underlay, with the outer header of each. */
function unwrap(packets: readonly CapturedPacket[]): { outer: Ipv4Fields; inner: Ipv4Fields }[] {
  return packets.map(({ bytes }) => {
    const outer = parseIpv4(behindEthernet(bytes) ?? new Uint8Array())
    return { outer, inner: parseIpv4(outer.payload.subarray(8)) }
  })
}

/** TTL of the last of a few echo requests as a capture on the receiving side shows it. */
async function arrivingTtl(from: Netns, to: Netns, iface: string, address: string) {
  const capture = await to.capture(iface, 'icmp[icmptype] = icmp-echo')
  const ping = await from.run('ping', ['-c2', '-i0.1', '-W2', '-t64', address])
  const packets = await capture.waitForPackets(2)
  await capture.stop()
  const raw = packets.map(({ bytes, linkType }) =>
    parseIpv4(linkType === 1 ? (behindEthernet(bytes) ?? bytes) : bytes),
  )
  return { code: ping.code, ttls: raw.map((p) => p.ttl), sums: raw.every((p) => p.isSumRight) }
}

t.test('two hosts, two pods, etcd', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('kernel state, subnet file and lease are flannel’s (F36, F27, F4)', async (t) => {
    await checkHostState(t, h1)
    await checkHostState(t, h2)
    const keys = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
    const wanted = [h1, h2].map(async (host) => [
      `${PREFIX}/subnets/${await overlayAddress(host)}-24`,
      `{"PublicIP":"${host.address}","PublicIPv6":null}`,
    ])
    t.same([...keys].sort(), (await Promise.all(wanted)).sort())
  })

  await t.test('pod to pod arrives with TTL 60 of 64, host to host with 62 (F38)', async (t) => {
    const sixty = { code: 0, ttls: [60, 60], sums: true }
    t.same(await arrivingTtl(p1, p2, 'eth0', p2.address), sixty)
    t.same(await arrivingTtl(p2, p1, 'eth0', p1.address), sixty)
    const base = await overlayAddress(h2)
    t.same(await arrivingTtl(h1, h2, 'flannel0', base), { code: 0, ttls: [62, 62], sums: true })
  })

  await t.test('200 MB of TCP arrive with the same SHA-256, both ways', async (t) => {
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
    ] as const) {
      const bytes = 200 * MB
      const { intact, received } = await tcpTransfer(from, to, to.address, { bytes })
      t.ok(intact, `${from.netns} to ${to.netns}: same hash`)
      t.equal(received.bytes, bytes)
      t.comment(`${received.mbitPerSecond.toFixed(0)} Mbit/s`)
    }
  })

  await t.test('datagrams of every size that fits arrive whole', async (t) => {
    const report = await sendSizes(p1, p2, '0-1444')
    t.equal(report.damaged, 0)
    t.same(
      [...report.whole].sort((a, b) => a - b),
      Array.from({ length: 1445 }, (_, i) => i),
    )
  })

  await t.test('larger datagrams travel as fragments and arrive whole', async (t) => {
    const report = await sendSizes(p2, p1, '1445,1472,1473,2892,4000,9000,60000,65507')
    t.equal(report.damaged, 0)
    t.same(
      [...report.whole].sort((a, b) => a - b),
      [1445, 1472, 1473, 2892, 4000, 9000, 60000, 65507],
    )
  })

  await t.test('numbered datagrams at a steady pace: none lost, doubled or swapped', async (t) => {
    const options = { count: 5000, size: 1200, perSecond: 5000 }
    const { received } = await udpTransfer(p1, p2, p2.address, options)
    t.match(received, { received: 5000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
  })

  await t.test('DF: 1472 bytes pass, 1473 are refused locally (F41)', async (t) => {
    const ping = (size: number) =>
      p1.run('ping', ['-c1', '-W2', '-M', 'do', '-s', String(size), p2.address])
    t.equal((await ping(1444)).code, 0, '28 + 1444 = 1472')
    const over = await ping(1445)
    t.not(over.code, 0)
    t.match(over.stdout + over.stderr, /message too long, mtu=1472/)
  })

  await t.test('DF from a pod with a larger MTU: its kernel hears of 1472 (F41)', async (t) => {
    await h1.ip('link set cni0 mtu 1500', `link set ${p1.hostIface} mtu 1500`)
    await p1.ip('link set eth0 mtu 1500')
    const ping = await p1.run('ping', ['-c1', '-W2', '-M', 'do', '-s1445', p2.address])
    t.match(ping.stdout, /Frag needed and DF set \(mtu = 1472\)/)
    const report = await sendSizes(p1, p2, '1445,1472,1473,5000')
    t.equal(report.whole.length, 4, 'without DF the host fragments')
    await p1.ip('link set eth0 mtu 1472')
    await h1.ip(`link set ${p1.hostIface} mtu 1472`, 'link set cni0 mtu 1472')
  })

  await t.test('the wire: raw IPv4 in UDP 8285, nothing malformed (F36)', async (t) => {
    // Otherwise the underlay shows outer checksums that a network card would have to finish.
    for (const host of [h1, h2]) await must('ip', ['netns', 'exec', host.netns, ...TX_OFF])
    const before = await overlay.settled(h1)
    const capture = await h1.capture('eth0', 'ip and not tcp')
    await tcpTransfer(p1, p2, p2.address, { bytes: 0.4 * MB })
    await sendSizes(p2, p1, '0-40,1440-1444,4000,9001')
    await p1.run('ping', ['-c3', '-i0.1', p2.address])
    await h1.run('ping', ['-c3', '-i0.1', await overlayAddress(h2)])
    const moved = counted(before, await overlay.settled(h1))
    const onWire = (moved['egress.forward'] ?? 0) + (moved['ingress.read'] ?? 0)
    await capture.waitForPackets(onWire)
    const { file, packets, droppedByKernel } = await capture.stop()
    t.equal(droppedByKernel, 0)
    t.equal(packets.length, onWire, 'the wire carried what the daemon counted')
    checkWire(t, packets, [h1, h2])
    await checkTshark(t, file, packets.length)
  })

  await t.test('every packet is accounted for, and nothing was dropped on its way', async (t) => {
    for (const host of [h1, h2]) {
      const counts = await overlay.settled(host)
      assertAccounted(t, host.name, counts)
      const drops = [...counts].filter(([name, n]) => name.includes('drop_') && n > 0)
      // Only the kernel's own IPv6 messages on a new device are not for us.
      t.same(
        drops.filter(([name]) => name !== 'egress.drop_ipv6_unsupported'),
        [],
      )
    }
  })
})

/** TUN device, address, route and subnet file of a ready host. */
async function checkHostState(t: Test, host: Host): Promise<void> {
  const env = await host.subnetEnv()
  const base = await overlayAddress(host)
  t.match(base, /^10\.5\.\d+\.0$/)
  const [link] = JSON.parse(
    (await host.run('ip', ['-json', '-4', 'address', 'show', 'flannel0'])).stdout,
  ) as [{ mtu: number; flags: string[]; addr_info: object[] }]
  t.equal(link.mtu, 1472)
  t.ok(link.flags.includes('UP') && link.flags.includes('POINTOPOINT'))
  t.match(link.addr_info, [{ family: 'inet', local: base, prefixlen: 32, scope: 'global' }])
  t.equal(link.addr_info.length, 1)
  const routes = (await host.run('ip', ['route', 'show', 'dev', 'flannel0'])).stdout
  t.equal(routes.trim(), '10.5.0.0/16')
  t.equal(
    readFileSync(host.subnetFile, 'utf8'),
    `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${env.gateway}/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`,
  )
  t.equal(statSync(host.subnetFile).mode & 0o777, 0o644)
}

/** Outer headers, and inner ones with all their sums, by the tests' own reading. */
function checkWire(t: Test, packets: readonly CapturedPacket[], hosts: readonly Host[]): void {
  const addresses = hosts.map((host) => host.address)
  const all = unwrap(packets)
  const faults: string[] = []
  const seen = new Set<number>()
  let fragments = 0
  for (const { outer, inner } of all) {
    const ports = [outer.payload.readUInt16BE(0), outer.payload.readUInt16BE(2)]
    if (outer.protocol !== PROTO_UDP || outer.src === outer.dst) faults.push('outer protocol')
    if (!addresses.includes(outer.src) || !addresses.includes(outer.dst)) faults.push(outer.src)
    if (ports.some((port) => port !== 8285)) faults.push(`ports ${ports.join(' ')}`)
    if (outer.totalLen !== inner.totalLen + 28) faults.push(`length ${outer.totalLen}`)
    if (outer.totalLen > 1500 || (outer.fragment & 0x3fff) !== 0) faults.push('outer fragment')
    if (!inner.isSumRight) faults.push('inner header checksum')
    if ((inner.fragment & 0x3fff) !== 0) fragments++
    else if (!isTransportSumRight(inner)) faults.push(`inner checksum, protocol ${inner.protocol}`)
    // Between the daemons: pods' packets were routed once and lowered once, hosts' only lowered.
    if (inner.ttl !== 62 && inner.ttl !== 63) faults.push(`inner TTL ${inner.ttl}`)
    seen.add(inner.protocol)
  }
  t.same(faults, [])
  t.same(new Set([PROTO_ICMP, PROTO_TCP, PROTO_UDP]), seen)
  t.ok(fragments >= 3 + 7, `${fragments} inner fragments`)
  t.ok(all.length > 300, `${all.length} packets`)
}

/** The same capture read by tshark. */
async function checkTshark(t: Test, file: string, count: number): Promise<void> {
  const rows = await dissect(
    file,
    [
      'ip.src',
      '_ws.malformed',
      '_ws.short',
      ...['ip', 'udp', 'tcp', 'icmp'].map((p) => `${p}.checksum.status`),
    ],
    { decodeAs: 'udp.port==8285,ip', filter: 'udp.port == 8285' },
  )
  t.equal(rows.length, count, 'all of it is UDP 8285')
  const strange = rows.map(Object.values<string>).filter((values) => {
    const [sources = '', malformed, short, ...statuses] = values
    // 2 = not checked, as the inner sums of a fragment.
    const isWrong = statuses.some((status) => status.split(',').includes('0'))
    return !INNER_SOURCE.test(sources) || malformed !== '' || short !== '' || isWrong
  })
  t.same(strange, [], 'none malformed, no wrong checksum')
}

/** An address of the underlay, inside it one of the overlay (twice where fragments were joined). */
const INNER_SOURCE = /^172\.30\.0\.1[12],10\.5\.\d+\.\d+/
