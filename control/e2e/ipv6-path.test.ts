/**
 * @parallel IPv6 underlays and inner IPv6 where the path is narrow: Packet Too Big from a router on the
 * way (RFC 8201), packets of 1280 bytes that are held whole inside (RFC 8200 §5), transfers that go on when the path
 * shrinks, and each hop of a traceroute.
 */
import t from 'tap'
import type { Host } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { tcpTransfer } from '../lab/transfers.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  type Overlay,
  skip,
  tally,
  until,
} from './overlay.js'

t.setTimeout(240_000)

const DUAL = { EnableIPv6: true, IPv6Network: 'fd05::/48' }
const FRAGMENTS = 'ip6[6] == 44 or (ip[6:2] & 0x3fff != 0)'
/** Headers of an echo request. */
const HEADERS = { 4: 28, 6: 48 }

const ping = (from: Netns, length: number, to: string, ...args: string[]) => {
  const size = length - HEADERS[to.includes(':') ? 6 : 4]
  return from.run('ping', ['-c1', '-W2', '-s', String(size), ...args, to])
}

/** Makes the switch a router between the hosts, which reach each other through it alone. */
async function routeBetween(overlay: Overlay, mtu: number): Promise<void> {
  const router = overlay.lab.switch
  const { hosts } = overlay.lab
  await router.sysctl({ 'net.ipv6.conf.all.forwarding': 1 })
  for (const { name, address6 } of hosts) {
    await router.ip(
      `link set ${name} nomaster`,
      `address add fe80::1/64 dev ${name} nodad`,
      `route add ${address6}/128 dev ${name} mtu ${mtu}`,
    )
  }
  for (const host of hosts) {
    const others = hosts.filter((other) => other !== host)
    await host.ip(
      ...others.map(({ address6 }) => `route add ${address6}/128 via fe80::1 dev eth0`),
      'neigh flush dev eth0',
    )
  }
}

async function setPathMtu(overlay: Overlay, mtu: number): Promise<void> {
  for (const { name, address6 } of overlay.lab.hosts) {
    await overlay.lab.switch.ip(`route change ${address6}/128 dev ${name} mtu ${mtu}`)
  }
}

/** Backends, and what they put around a packet over IPv6. */
const BACKENDS = [
  ['udp', 48],
  ['vxlan', 70],
] as const

for (const [type, overhead] of BACKENDS) {
  t.test(`${type}: an IPv6 path that narrows, and narrows again`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      store: 'file',
      ipv6: true,
      network: DUAL,
      backend: { Type: type, Underlay: 'ipv6' },
    })
    const fits = 1400 - overhead
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    await routeBetween(overlay, 1400)

    await t.test('1400: both families hear what fits', async (t) => {
      const capture = await h1.capture('eth0', FRAGMENTS)
      for (const [address, says] of [
        [p2.address6, `Packet too big: mtu=${fits}`],
        [p2.address, `Frag needed and DF set (mtu = ${fits})`],
      ] as const) {
        t.equal((await ping(p1, fits, address, '-M', 'do')).code, 0, 'this does')
        const { stdout } = await ping(p1, 1500 - overhead, address, '-M', 'do', '-c3', '-i0.2')
        t.match(stdout, says)
      }
      const { stdout } = await h1.run('ip', ['route', 'get', h2.address6])
      t.match(stdout, /expires \d+sec mtu 1400/)
      for (const [from, to] of [
        [p1, p2],
        [p2, p1],
      ] as const) {
        for (const address of [to.address, to.address6]) {
          t.ok((await tcpTransfer(from, to, address, { bytes: 20e6 })).intact, `TCP to ${address}`)
        }
      }
      t.equal((await capture.stop()).packets.length, 0, 'no outer fragment')
    })

    await t.test('1280: IPv6 is held whole, IPv4 hears what fits', async (t) => {
      await setPathMtu(overlay, 1280)
      // The first one tells the one host of the path, the first answer the other.
      const passes = async () => (await ping(p1, 1280, p2.address6)).code === 0
      await until('both hosts have heard of the path', 15_000, passes)
      const before = await overlay.settled(h1)
      t.equal((await ping(p1, 1280, p2.address6, '-M', 'do')).code, 0, '1280 bytes inside')
      t.equal(counted(before, await overlay.settled(h1))['gauge.sent_in_fragments'], 1)
      const six = await ping(p1, fits, p2.address6, '-M', 'do', '-c2')
      t.match(six.stdout, /Packet too big: mtu=1280/, 'and no more')
      const four = await ping(p1, fits, p2.address, '-M', 'do', '-c2')
      t.match(four.stdout, `Frag needed and DF set (mtu = ${1280 - overhead})`)
      for (const address of [p2.address, p2.address6]) {
        t.ok((await tcpTransfer(p1, p2, address, { bytes: 5e6 })).intact, `TCP to ${address}`)
      }
    })
    for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
  })
}

for (const [type, overhead] of BACKENDS) {
  t.test(`${type}: an IPv6 path that shrinks under a transfer`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      store: 'file',
      ipv6: true,
      network: DUAL,
      backend: { Type: type, Underlay: 'ipv6' },
    })
    await routeBetween(overlay, 1500)
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const transfer = tcpTransfer(p1, p2, p2.address6, { bytes: 600e6, timeoutMs: 90_000 })
    const count = async (host: Host, name: string) =>
      tally(await overlay.status(host)).get(name) ?? 0
    for (const mtu of [1500, 1400, 1280]) {
      await setPathMtu(overlay, mtu)
      const before = await count(h2, 'ingress.forward')
      // Packets that were on their way when the path changed are far fewer.
      const flowing = async () => (await count(h2, 'ingress.forward')) > before + 20_000
      const ms = await until(`TCP goes on over a path of ${mtu}`, 20_000, flowing)
      t.comment(`path of ${mtu}: 20 000 packets after ${ms.toFixed(0)} ms`)
      // IPv6 needs 1280 bytes inside, which only this path does not have.
      const isHeldWhole = (await count(h1, 'gauge.sent_in_fragments')) > 0
      t.equal(isHeldWhole, mtu - overhead < 1280, `in outer fragments at ${mtu}`)
    }
    t.ok((await transfer).intact)
    for (const host of [h1, h2]) {
      const counts = await overlay.settled(host)
      assertAccounted(t, host.name, counts)
      t.equal(counts.get('gauge.runs_lost'), 0)
    }
  })
}

for (const [underlay, fits] of [
  ['ipv4', 1252],
  ['ipv6', 1232],
] as const) {
  t.test(`interfaces of 1280 bytes, ${underlay} outside`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      store: 'file',
      mtu: 1280,
      ipv6: true,
      network: DUAL,
      backend: { Underlay: underlay },
    })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    t.equal((await h1.subnetEnv()).mtu, 1280, 'held at what IPv6 needs')
    const fragments = async (length: number, address: string) => {
      const before = await overlay.settled(h1)
      t.equal((await ping(p1, length, address, '-M', 'do')).code, 0, `${length} to ${address}`)
      return counted(before, await overlay.settled(h1))['gauge.sent_in_fragments'] ?? 0
    }
    t.equal(await fragments(fits, p2.address6), 0, 'what fits needs none')
    t.equal(await fragments(fits + 1, p2.address6), 1)
    t.equal(await fragments(1280, p2.address6), 1)
    t.equal(await fragments(fits, p2.address), 0)
    const four = await ping(p1, fits + 1, p2.address, '-M', 'do')
    t.match(four.stdout, new RegExp(`Frag needed and DF set \\(mtu = ${fits}\\)`), 'IPv4 adapts')
    for (const address of [p2.address, p2.address6]) {
      t.ok((await tcpTransfer(p1, p2, address, { bytes: 5e6 })).intact, `TCP to ${address}`)
    }
    for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
  })
}

/** Who answers an echo request of each hop limit until its destination does. */
async function hopsTo(from: Netns, address: string): Promise<string[]> {
  const hops: string[] = []
  for (let limit = 1; limit < 9; limit++) {
    const { code, stdout } = await from.run('ping', ['-c1', '-W2', `-t${limit}`, address])
    const [, router, target] = /^From (\S+) icmp_seq|bytes from (\S+): icmp_seq/m.exec(stdout) ?? []
    hops.push(router ?? target ?? '*')
    if (code === 0) break
  }
  return hops
}

for (const underlay of ['ipv4', 'ipv6'] as const) {
  t.test(`a traceroute of IPv6 shows each hop, ${underlay} outside`, { skip }, async (t) => {
    const backend = { Underlay: underlay }
    const options = { hosts: 2, store: 'file', ipv6: true, network: DUAL, backend } as const
    const overlay = await createOverlay(t, options)
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const gateway = p1.address6.replace(/2$/, '1')
    const [base1, base2] = [p1, p2].map(({ address6 }) => address6.replace(/2$/, ''))
    t.same(
      await hopsTo(p1, p2.address6),
      [gateway, base1, base2, base2, p2.address6],
      'own kernel, own engine, remote engine, remote kernel, pod',
    )
  })
}
