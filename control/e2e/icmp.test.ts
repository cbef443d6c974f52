/**
 * @parallel ICMP errors through the overlay: the hops that a traceroute sees, and crossed routes
 * between two daemons, which do not loop.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Host } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { assertAccounted, createOverlay, NETWORK, overlayAddress, skip } from './overlay.js'

t.setTimeout(60_000)

/** Enough for any path here. */
const MAX_HOPS = 9

/** Who answers an echo request of each TTL until its destination does, as a traceroute finds out. */
async function hopsTo(from: Netns, address: string): Promise<string[]> {
  const hops: string[] = []
  for (let ttl = 1; ttl <= MAX_HOPS; ttl++) {
    const { code, stdout } = await from.run('ping', ['-c1', '-W2', `-t${ttl}`, address])
    const [, by = '*'] = /^(?:From|\d+ bytes from) ([\d.]+)/m.exec(stdout) ?? []
    hops.push(by)
    if (code === 0) break
  }
  return hops
}

t.test('a traceroute shows each hop of the `udp` backend (F38)', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const [base1, base2] = [await overlayAddress(h1), await overlayAddress(h2)]
  t.same(
    await hopsTo(p1, p2.address),
    // The other kernel answers from the device that leads back, which has the same address.
    [p1.gateway, base1, base2, base2, p2.address],
    'own kernel, own engine, remote engine, remote kernel, pod',
  )
  t.same(await hopsTo(h1, p2.address), [base1, base2, base2, p2.address], 'from the host')
  t.same(await hopsTo(p2, base1), [p2.gateway, base2, base1, base1], 'to the other host')
  for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
})

t.test('a peer that the kernel cannot reach: ICMP 3/1 (F39)', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 3, store: 'file' })
  const [h1, h2, h3] = [1, 2, 3].map((n) => overlay.host(n)) as [Host, Host, Host]
  const p1 = await overlay.addPod(h1)
  const [base1, base2, base3] = await Promise.all([h1, h2, h3].map(overlayAddress))
  for (const kind of ['unreachable', 'prohibit', 'blackhole']) {
    await h1.ip(`route add ${kind} ${h2.address}/32`)
    const { code, stdout } = await p1.run('ping', ['-c1', '-W2', base2 ?? ''])
    t.equal(code, 1, kind)
    // A black hole is EINVAL, which says nothing about the peer.
    const said = stdout.includes(`From ${base1} icmp_seq=1 Destination Host Unreachable`)
    t.equal(said, kind !== 'blackhole', `${kind}: ${stdout}`)
    t.equal((await p1.run('ping', ['-c1', '-W2', base3 ?? ''])).code, 0, 'the other peer answers')
    await h1.ip(`route del ${kind} ${h2.address}/32`)
  }
  t.equal((await p1.run('ping', ['-c1', '-W2', base2 ?? ''])).code, 0, 'and so does it later')
  t.match(await overlay.settled(h1), new Map([['egress.drop_tx_unreachable', 2]]))
})

/** A store whose network can lease one subnet only, with leases written by hand. */
function writeStore(directory: string, subnet: string, leases: Record<string, Host>): void {
  mkdirSync(join(directory, 'subnets'), { recursive: true })
  const backend = { Type: 'udp' }
  const config = { Network: NETWORK, SubnetMin: subnet, SubnetMax: subnet, Backend: backend }
  writeFileSync(join(directory, 'config'), JSON.stringify(config))
  for (const [key, host] of Object.entries(leases)) {
    const lease = { PublicIP: host.address, PublicIPv6: null }
    writeFileSync(join(directory, 'subnets', key), JSON.stringify(lease))
  }
}

t.test('crossed routes between two daemons do not loop', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  // Each of them believes that the other has 10.5.3.0/24.
  const stores = [
    { host: h1, subnet: '10.5.1.0', leases: { '10.5.2.0-24': h2, '10.5.3.0-24': h2 } },
    { host: h2, subnet: '10.5.2.0', leases: { '10.5.1.0-24': h1, '10.5.3.0-24': h1 } },
  ]
  for (const { host, subnet, leases } of stores) {
    const directory = join(overlay.lab.dir, `store-${host.name}`)
    writeStore(directory, subnet, leases)
    overlay.daemons.set(host, await host.startDaemon(`file:${directory}`))
  }
  for (const { host } of stores) await overlay.ready(host, 2)
  const { code } = await h1.run('ping', ['-c3', '-i0.05', '-W1', '-t255', '10.5.3.9'])
  t.equal(code, 1, 'nobody is there')
  const [one, two] = [await overlay.settled(h1), await overlay.settled(h2)]
  t.equal(one.get('egress.forward'), 3, 'each packet crosses once')
  t.equal(two.get('ingress.drop_not_our_subnet'), 3, 'and ends there')
  t.equal(two.get('egress.forward'), 0)
  t.equal((await h1.run('ping', ['-c1', '-W2', '10.5.2.0'])).code, 0, 'they do know each other')
  assertAccounted(t, 'h1', await overlay.settled(h1))
  assertAccounted(t, 'h2', await overlay.settled(h2))
})
