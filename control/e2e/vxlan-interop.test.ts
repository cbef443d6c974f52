/**
 * @serial The `vxlan` backend beside the kernel's VXLAN device: frames field by field, floods, flows,
 * checksums, several engines, hops and loops.
 */
import t, { type Test } from 'tap'
import type { Host, Pod } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import { KERNEL_MAC, programDevice, programKernel, publishedMac } from './kernel-vxlan.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  overlayAddress,
  PREFIX,
  skip,
  until,
  type Overlay,
} from './overlay.js'
import { dissect } from './tshark.js'

t.setTimeout(120_000)

const MB = 1e6
const ETHERNET = 14
const OUTER = ETHERNET + 20 + 8

interface World {
  readonly overlay: Overlay
  /** With the daemon, and with the kernel's device. */
  readonly h1: Host
  readonly h2: Host
  readonly p1: Pod
  readonly p2: Pod
}

/** @param more  options of the kernel's device @param args  of the daemon */
async function createWorld(t: Test, more = '', args: readonly string[] = []): Promise<World> {
  const backend = { Type: 'vxlan' }
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd', backend })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  await overlay.start(h1, args)
  await overlay.ready(h1, 0)
  const p1 = await overlay.addPod(h1)
  const p2 = await programKernel(overlay, h2, h1, (...of) => programDevice(...of, more))
  await overlay.ready(h1, 1)
  return { overlay, h1, h2, p1, p2 }
}

/** Fields of a frame with VXLAN in it, but for what may differ: MACs and ids outside, source port. */
function fieldsOf(frame: Uint8Array) {
  const bytes = Buffer.from(frame)
  const inner = OUTER + 22
  return {
    outer: {
      version: bytes[ETHERNET],
      tos: bytes[ETHERNET + 1],
      ttl: bytes[ETHERNET + 8],
      protocol: bytes[ETHERNET + 9],
      port: bytes.readUInt16BE(ETHERNET + 22),
      extra: bytes.readUInt16BE(ETHERNET + 2) - bytes.readUInt16BE(inner + 2),
      hasChecksum: bytes.readUInt16BE(ETHERNET + 26) !== 0,
    },
    source: bytes.readUInt16BE(ETHERNET + 20),
    vxlan: bytes.toString('hex', OUTER, OUTER + 8),
    macs: bytes.toString('hex', OUTER + 8, OUTER + 20),
    type: bytes.readUInt16BE(OUTER + 20),
    inner: { ttl: bytes[inner + 8], protocol: bytes[inner + 9] },
    from: bytes.subarray(ETHERNET + 12, ETHERNET + 16).join('.'),
  }
}

/** What names the ends of a frame, as tshark decodes it: the outer occurrence of a field first. */
const ENDS = ['eth.src', 'eth.dst', 'ip.src', 'udp.dstport'] as const
/** What does not. */
const KIND = [
  ...['eth.type', 'ip.proto', 'ip.ttl', 'ip.len', 'udp.length', 'vxlan.flags', 'vxlan.vni'],
  ...['ip.checksum.status', 'udp.checksum.status', 'icmp.checksum.status'],
  ...['frame.len', '_ws.malformed'],
] as const

/** Heddle's frames and the kernel's, as tshark decodes them: the same for packets of the same kind. */
async function checkTshark(t: Test, file: string, hosts: readonly [string, string]): Promise<void> {
  const fields = [...ENDS, ...KIND]
  const rows = await dissect(file, fields, { decodeAs: 'udp.port==8472,vxlan' })
  const [own, kernel] = hosts.map((host) => rows.filter((row) => row['ip.src'].startsWith(host)))
  const inner = (text: string) => text.split(',')[1] ?? ''
  const decoded = (list: typeof rows = []) => ({
    macs: new Set(list.map((row) => [inner(row['eth.src']), inner(row['eth.dst'])].join(' > '))),
    frames: new Set(list.map((row) => KIND.map((field) => row[field]).join(' '))),
  })
  const [ours, theirs] = [decoded(own), decoded(kernel)]
  t.same(ours.frames, theirs.frames, 'the same fields')
  const mirrored = [...theirs.macs].map((pair) => pair.split(' > ').reverse().join(' > '))
  t.same([...ours.macs], mirrored, 'one pair of MAC addresses, mirrored')
  for (const row of rows) {
    t.match(row, {
      'udp.dstport': /^8472\b/,
      'vxlan.flags': '0x0800',
      'vxlan.vni': '1',
      'ip.ttl': '64,63',
      'ip.checksum.status': '1,1',
      'udp.checksum.status': /^1(,1)?$/,
      'icmp.checksum.status': /^1?$/,
      '_ws.malformed': '',
    })
  }
}

/** Who answers an echo request of each TTL until its destination does. */
async function hopsTo(from: Netns, address: string): Promise<string[]> {
  const hops: string[] = []
  for (let ttl = 1; ttl <= 6; ttl++) {
    const { code, stdout } = await from.run('ping', ['-c1', '-W2', `-t${ttl}`, address])
    hops.push(/^(?:From|\d+ bytes from) ([\d.]+)/m.exec(stdout)?.[1] ?? '*')
    if (code === 0) break
  }
  return hops
}

async function flood(t: Test, from: Pod, to: Pod): Promise<void> {
  const { stdout } = await from.run('ping', ['-f', '-q', '-c10000', to.address], {
    timeoutMs: 60_000,
  })
  const [, received = '0'] = /(\d+) received/.exec(stdout) ?? []
  t.ok(Number(received) >= 9990, stdout)
}

t.test('a daemon and the kernel (F43)', { skip }, async (t) => {
  const { overlay, h1, h2, p1, p2 } = await createWorld(t)

  await t.test('frames: the same fields both ways', async (t) => {
    // As on a wire: runs are cut before they are seen.
    const setOffloads = async (state: 'on' | 'off') => {
      for (const host of [h1, h2]) {
        await host.run('ethtool', ['-K', 'eth0', 'tx', state, 'gso', state, 'gro', state])
      }
    }
    await setOffloads('off')
    const capture = await h1.capture('eth0', 'udp dst port 8472')
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
    ] as const) {
      t.equal((await from.run('ping', ['-c1', '-W2', to.address])).code, 0)
      await udpTransfer(from, to, to.address, { count: 5, size: 300, perSecond: 100 })
    }
    await capture.waitForPackets(14)
    const { file, packets } = await capture.stop()
    await setOffloads('on')
    await checkTshark(t, file, [h1.address, h2.address])
    const frames = packets.map(({ bytes }) => fieldsOf(bytes))
    const mac = (await publishedMac(overlay, h1)).replaceAll(':', '')
    const kernelMac = KERNEL_MAC.replaceAll(':', '')
    for (const host of [h1, h2]) {
      const own = frames.filter(({ from }) => from === host.address)
      t.ok(own.length >= 7, `${host.name}: ${own.length} frames`)
      for (const frame of own) {
        t.match(frame, {
          outer: {
            ...{ version: 0x45, tos: 0, ttl: 64, protocol: 17, port: 8472 },
            ...{ extra: 50, hasChecksum: true },
          },
          vxlan: '0800000000000100',
          macs: host === h1 ? kernelMac + mac : mac + kernelMac,
          type: 0x0800,
          inner: { ttl: 63 },
        })
      }
      t.ok(new Set(own.map(({ source }) => source)).size > 1, 'ICMP and UDP leave by other ports')
    }
  })

  await t.test('10 000 flood pings each way', async (t) => {
    await flood(t, p1, p2)
    await flood(t, p2, p1)
  })

  await t.test('500 MB, and four flows at a time', async (t) => {
    t.ok((await tcpTransfer(p1, p2, p2.address, { bytes: 500 * MB, timeoutMs: 60_000 })).intact)
    const flows = [1, 2].flatMap((seed) => [
      tcpTransfer(p1, p2, p2.address, { bytes: 20 * MB, seed, timeoutMs: 60_000 }),
      tcpTransfer(p2, p1, p1.address, { bytes: 20 * MB, seed, timeoutMs: 60_000 }),
    ])
    for (const { intact } of await Promise.all(flows)) t.ok(intact)
  })

  await t.test('a traceroute shows the kernels alone', async (t) => {
    const base1 = await overlayAddress(h1)
    t.same(await hopsTo(p1, p2.address), [p1.gateway, '10.5.250.0', p2.address])
    t.same(await hopsTo(p2, p1.address), [p2.gateway, base1, p1.address])
  })

  await t.test('crossed routes do not loop', async (t) => {
    // The daemon believes that the kernel's host has 10.5.3.0/24, which sends it back.
    const lease = `{"PublicIP":"${h2.address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${KERNEL_MAC}"}}`
    await overlay.lab.etcd.put(`${PREFIX}/subnets/10.5.3.0-24`, lease)
    await until('it does', 5000, async () => (await overlay.status(h1)).peers.length === 2)
    await h2.ip(`route add 10.5.3.0/24 via ${await overlayAddress(h1)} dev flannel.1 onlink`)
    const before = await overlay.settled(h1)
    t.equal((await p1.run('ping', ['-c3', '-i0.1', '-W1', '10.5.3.9'])).code, 1)
    const moved = counted(before, await overlay.settled(h1))
    t.match(moved, { 'egress.forward': 3, 'ingress.drop_not_our_subnet': 3 })
  })
  assertAccounted(t, h1.name, await overlay.settled(h1))
})

t.test('a sender without outer checksums is taken', { skip }, async (t) => {
  const { overlay, h1, h2, p1, p2 } = await createWorld(t, 'noudpcsum')
  const capture = await h1.capture('eth0', `udp dst port 8472 and src host ${h2.address}`)
  t.equal((await p1.run('ping', ['-c2', '-i0.1', '-W2', p2.address])).code, 0)
  await capture.waitForPackets(2)
  const { packets } = await capture.stop()
  for (const { bytes } of packets) t.equal(fieldsOf(bytes).outer.hasChecksum, false)
  t.ok((await tcpTransfer(p2, p1, p1.address, { bytes: 50 * MB })).intact)
  assertAccounted(t, h1.name, await overlay.settled(h1))
})

t.test('two engines: each flow of the kernel keeps to one', { skip }, async (t) => {
  const { overlay, h1, p1, p2 } = await createWorld(t, '', ['--queues=2'])
  const flows = [1, 2, 3, 4, 5, 6].flatMap((seed) => [
    tcpTransfer(p2, p1, p1.address, { bytes: 5 * MB, seed }),
    tcpTransfer(p1, p2, p2.address, { bytes: 5 * MB, seed }),
  ])
  for (const { intact } of await Promise.all(flows)) t.ok(intact)
  for (const { egress, ingress } of (await overlay.status(h1)).queues) {
    t.ok(egress > 50 && ingress > 50, `${egress} out, ${ingress} in`)
  }
  const before = (await overlay.status(h1)).queues
  const options = { count: 3000, size: 500, perSecond: 3000 }
  const { received } = await udpTransfer(p2, p1, p1.address, options)
  t.match(received, { received: 3000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
  const after = (await overlay.status(h1)).queues
  const took = after.map(({ ingress }, i) => ingress - (before[i]?.ingress ?? 0))
  t.ok(Math.max(...took) >= 3000 && Math.min(...took) < 100, `one flow: ${took.join(' and ')}`)
  assertAccounted(t, h1.name, await overlay.settled(h1))
})
