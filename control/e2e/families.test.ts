/**
 * @serial Every pair of inner and outer family, with both backends: pings of every kind of size, path
 * MTU, hop limits, TCP both ways, and every packet accounted for.
 */
import t, { type Test } from 'tap'
import type { Pod } from '../lab/host.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import { DUAL } from './ipv6.js'
import { assertAccounted, createOverlay, skip } from './overlay.js'

t.setTimeout(180_000)

const BYTES = 20e6

/** Backend, devices with their MTUs, and what an IPv4 TTL or a hop limit of 64 arrives as. */
const CASES = [
  { backend: { Type: 'udp' }, devices: { flannel0: 1472 }, ttl: 60 },
  { backend: { Type: 'udp', Underlay: 'ipv6' }, devices: { flannel0: 1452 }, ttl: 60 },
  { backend: { Type: 'vxlan', Underlay: 'ipv4' }, devices: { 'flannel.1': 1450 }, ttl: 62 },
  { backend: { Type: 'vxlan', Underlay: 'ipv6' }, devices: { 'flannel.1': 1430 }, ttl: 62 },
  {
    backend: { Type: 'vxlan' },
    devices: { 'flannel.1': 1450, 'flannel-v6.1': 1430 },
    ttl: 62,
  },
] as const

/** Where the two reports that the kernel of a router sends to ff02::16 on each new device end (MLD). */
const GROUP_REPORTS = new Set(['egress.drop_no_route', 'egress.drop_ipv6_unsupported'])

async function exchange(t: Test, from: Pod, to: Pod, family: 4 | 6, mtu: number, ttl: number) {
  const address = family === 4 ? to.address : (to.address6 ?? '')
  // Internet header and that of the echo request.
  const fits = mtu - (family === 4 ? 28 : 48)
  const ping = (size: number, ...args: string[]) =>
    from.run('ping', ['-c1', '-W2', '-s', String(size), ...args, address])
  for (const size of [0, 1, 8, 1200, fits - 1, fits, fits + 1, 4000, 60_000]) {
    const { code, stdout } = await ping(size)
    t.equal(code, 0, `IPv${family}: ping of ${size} bytes`)
    if (size > 0) t.match(stdout, new RegExp(` ttl=${ttl}\\b`))
  }
  t.equal((await ping(fits, '-M', 'do')).code, 0, `DF: ${mtu} bytes pass`)
  const over = await ping(fits + 1, '-M', 'do')
  t.match(over.stdout + over.stderr, new RegExp(`[Mm]essage too long, mtu[=: ]+${mtu}`))
  const { intact, received } = await tcpTransfer(from, to, address, { bytes: BYTES })
  t.ok(intact && received.bytes === BYTES, `IPv${family}: TCP: the same hash`)
  const numbered = { count: 1000, size: 1200, perSecond: 5000 }
  const { received: datagrams } = await udpTransfer(from, to, address, numbered)
  t.match(datagrams, { received: 1000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
}

for (const { backend, devices, ttl } of CASES) {
  t.test(JSON.stringify(backend), { skip }, async (t) => {
    const options = { hosts: 2, store: 'file', ipv6: true } as const
    const overlay = await createOverlay(t, { ...options, network: DUAL, backend })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const mtu = Math.min(...Object.values(devices))
    t.equal((await h1.subnetEnv()).mtu, mtu, 'one MTU for all, the smallest')
    const { tunnels } = await overlay.status(h1)
    t.same(Object.fromEntries(tunnels.map((tunnel) => [tunnel.device, tunnel.mtu])), devices)
    for (const device of Object.keys(devices)) {
      const { stdout } = await h1.run('ip', ['-6', 'address', 'show', 'dev', device])
      t.notMatch(stdout, 'fe80', 'no link-local address, so no router is asked for')
    }
    for (const family of [4, 6] as const) {
      await exchange(t, p1, p2, family, mtu, ttl)
      await exchange(t, p2, p1, family, mtu, ttl)
    }
    for (const host of [h1, h2]) {
      const counts = await overlay.settled(host)
      assertAccounted(t, host.name, counts)
      const drops = [...counts].filter(([name, n]) => name.includes('.drop_') && n > 0)
      t.same(
        drops.filter(([name, n]) => !GROUP_REPORTS.has(name) || n > 2),
        [],
        `${host.name}: nothing is lost`,
      )
    }
  })
}
