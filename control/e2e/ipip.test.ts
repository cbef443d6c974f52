/**
 * @serial The `ipip` backend in user space between two daemons: traffic, and each field of the outer
 * header against RFC 2003, RFC 6040 and what flannel's device of the kernel is set to (F52).
 */
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Pod } from '../lab/host.js'
import { must } from '../lab/process.js'
import { tcpTransfer } from '../lab/transfers.js'
import { exchange } from './exchange.js'
import { assertAccounted, createOverlay, overlayAddress, PREFIX, skip } from './overlay.js'
import { dissect } from './tshark.js'

t.setTimeout(120_000)

const MB = 1e6
const MTU = 1480
const TRAFFIC = { mtu: MTU, bytes: 50 * MB }

const ping = (from: Pod, to: Pod, ...args: string[]) =>
  from.run('ping', ['-c1', '-W2', ...args, to.address])

/** Flags as numbers; newer tsharks write them as words. */
const plain = (values: string): string => values.replaceAll('True', '1').replaceAll('False', '0')

t.test('F52 two daemons', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend: { Type: 'ipip' } })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('device, address, MTU, route and lease', async (t) => {
    const base = await overlayAddress(h1)
    t.equal((await h1.subnetEnv()).mtu, MTU)
    const { stdout } = await h1.run('ip', ['-json', '-4', 'address', 'show', 'flannel.ipip'])
    const [link] = JSON.parse(stdout) as [{ mtu: number; addr_info: object[] }]
    t.equal(link.mtu, MTU)
    t.match(link.addr_info, [{ local: base, prefixlen: 32 }])
    const routes = await h1.run('ip', ['route', 'show', 'dev', 'flannel.ipip'])
    t.match(routes.stdout, /^10\.5\.0\.0\/16 /)
    const { backend, device } = await overlay.status(h1)
    t.match({ backend, device }, { backend: { type: 'ipip', port: null }, device: { mtu: MTU } })
    const { offloads } = await overlay.status(h1)
    t.match(
      offloads.find(({ name }) => name === 'udp-segment'),
      { state: 'unavailable', detail: /raw socket/ },
    )
    const leases = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
    t.equal(
      leases.get(`${PREFIX}/subnets/${base}-24`),
      '{"PublicIP":"172.30.0.11","PublicIPv6":null,"BackendType":"ipip"}',
    )
  })

  await t.test('traffic', async (t) => {
    await exchange(t, [p1, p2], TRAFFIC)
    await exchange(t, [p2, p1], TRAFFIC)
  })

  await t.test('on a host whose network card joins what it receives', async (t) => {
    await must('ip', ['netns', 'exec', h2.netns, 'ethtool', '-K', 'eth0', 'gro', 'on'])
    await exchange(t, [p1, p2], TRAFFIC)
    const joined = (await overlay.settled(h2)).get('gauge.unfinished_taken') ?? 0
    t.comment(`${joined} packets of TCP were joined by the kernel`)
    await must('ip', ['netns', 'exec', h2.netns, 'ethtool', '-K', 'eth0', 'gro', 'off'])
  })

  await t.test('the outer header', async (t) => {
    const capture = await h1.capture('eth0', 'ip proto 4 and src host 172.30.0.11')
    await ping(p1, p2, '-M', 'do', '-s', '100')
    await ping(p1, p2, '-M', 'dont', '-s', '101')
    await ping(p1, p2, '-t', '9', '-Q', '0xb8', '-s', '102')
    for (const ecn of [1, 2, 3]) await ping(p1, p2, '-Q', String(ecn), '-s', String(102 + ecn))
    await ping(p1, p2, '-s', '3000')
    const { file } = await capture.stop()
    const fields = [
      ...([
        'ip.version',
        'ip.hdr_len',
        'ip.proto',
        'ip.src',
        'ip.dst',
        'ip.ttl',
        'ip.len',
      ] as const),
      ...(['ip.flags.df', 'ip.flags.mf', 'ip.dsfield.dscp', 'ip.dsfield.ecn'] as const),
      ...(['ip.frag_offset', 'ip.checksum.status'] as const),
    ]
    type Field = (typeof fields)[number]
    const packets = await dissect(file, fields)
    t.equal(packets.length, 9, 'six pings, and one in three fragments')
    const dst = p2.address
    for (const packet of packets) {
      const pair = (field: Field) => plain(packet[field]).split(',')
      const [outerLen, innerLen] = pair('ip.len').map(Number)
      t.equal(outerLen, innerLen! + 20)
      t.same(pair('ip.src'), ['172.30.0.11', p1.address])
      t.same(pair('ip.dst'), ['172.30.0.12', dst])
      t.same(pair('ip.proto'), ['4', '1'])
      t.same(pair('ip.checksum.status'), ['1', '1'])
      const [outerTtl, innerTtl] = pair('ip.ttl')
      t.equal(outerTtl, innerTtl)
      const [outerDf, innerDf] = pair('ip.flags.df')
      t.equal(outerDf, innerDf)
      t.equal(pair('ip.dsfield.dscp')[0], '0')
      const [outerEcn, innerEcn] = pair('ip.dsfield.ecn')
      t.equal(outerEcn, innerEcn === '3' ? '2' : innerEcn)
      t.equal(pair('ip.flags.mf')[0], '0', 'whole outside')
      t.equal(pair('ip.frag_offset')[0], '0')
    }
    const subnets = await Promise.all([h1, h2].map(overlayAddress))
    const [from, to] = subnets.map((base) => `${base}/24`)
    const tool = fileURLToPath(new URL('../cli/heddle.js', import.meta.url))
    const args = ['--backend=ipip', `--subnet=${to}`, `--route=${from}=172.30.0.11`]
    const replayed = await h1.run(process.execPath, [tool, 'replay', file, ...args])
    t.match(replayed.stdout, /9 packets\n {2}ingress forward: 9\n/, 'heddle replay takes them all')
    const seen = (field: Field) => packets.map((packet) => plain(packet[field]))
    t.same(seen('ip.ttl').slice(0, 3), ['63,63', '63,63', '8,8'])
    t.same(seen('ip.flags.df').slice(0, 2), ['1,1', '0,0'])
    t.same(seen('ip.dsfield.dscp')[2], '0,46')
    t.same(seen('ip.dsfield.ecn').slice(3, 6), ['1,1', '2,2', '2,3'])
  })

  await t.test('an underlay that shrinks below the device’s MTU', async (t) => {
    await h1.ip('link set eth0 mtu 1300')
    const capture = await h1.capture('eth0', 'ip proto 4 and src host 172.30.0.11')
    // The answer, as long as the request, is more than the narrow interface takes.
    const inside = await h2.capture('flannel.ipip', `icmp[0] == 8 and dst host ${p2.address}`)
    await ping(p1, p2, '-M', 'dont', '-s', '1400')
    await inside.waitForPackets(1)
    const [arrived] = (await inside.stop()).packets
    t.equal(arrived?.bytes.length, 1428, 'in outer fragments, and whole again')
    const over = await ping(p1, p2, '-M', 'do', '-s', '1400')
    t.match(over.stdout, /Frag needed and DF set \(mtu = 1280\)/)
    const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 5 * MB })
    t.ok(intact, 'TCP goes on')
    const { file } = await capture.stop()
    const fragments = await dissect(file, ['ip.ttl', 'ip.dsfield.ecn', 'ip.frag_offset'], {
      filter: 'ip.flags.mf == 1',
    })
    t.equal(fragments.length, 1)
    t.equal(fragments[0]!['ip.ttl'].split(',')[0], '63')
    const counts = await overlay.settled(h1)
    t.equal(counts.get('gauge.sent_in_fragments'), 1)
    await h1.ip('link set eth0 mtu 1500')
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
