/**
 * @serial Underlays that carry less than the hosts' interfaces: a router between the hosts drops what
 * is too long and says so (RFC 1191). Inner senders hear what fits through the overlay, TCP goes on, and
 * nothing is fragmented outside unless its sender allows it.
 */
import t, { type Test } from 'tap'
import type { Host } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { tcpTransfer } from '../lab/transfers.js'
import { assertAccounted, counted, createOverlay, type Overlay, skip, until } from './overlay.js'

t.setTimeout(120_000)

const MB = 1e6
const OVERHEAD = 28
const FRAGMENTS = 'ip[6:2] & 0x3fff != 0'

/** Makes the switch a router between the hosts, which stay in one subnet: it answers ARP for all. */
async function routeBetween(overlay: Overlay, mtu: number): Promise<void> {
  const router = overlay.lab.switch
  await router.sysctl({ 'net.ipv4.ip_forward': 1 })
  for (const { name, address } of overlay.lab.hosts) {
    await router.ip(`link set ${name} nomaster`, `route add ${address}/32 dev ${name} mtu ${mtu}`)
    const [conf, neigh] = [`net.ipv4.conf.${name}`, `net.ipv4.neigh.${name}`]
    await router.sysctl({ [`${conf}.proxy_arp`]: 1, [`${neigh}.proxy_delay`]: 0 })
  }
  for (const host of overlay.lab.hosts) await host.ip('neigh flush dev eth0')
}

/** Changes what the router lets through in one piece. */
async function setPathMtu(overlay: Overlay, mtu: number): Promise<void> {
  for (const { name, address } of overlay.lab.hosts) {
    await overlay.lab.switch.ip(`route change ${address}/32 dev ${name} mtu ${mtu}`)
  }
}

const ping = (from: Netns, size: number, to: string, df: 'do' | 'dont', count = 1) =>
  from.run('ping', ['-i0.1', '-W1', `-c${count}`, `-M${df}`, `-s${size - OVERHEAD}`, to])

/** What the kernel of a host has learned of the path to another, which it forgets in ten minutes. */
async function checkLearned(t: Test, from: Host, to: Host, mtu: number): Promise<void> {
  const { stdout } = await from.run('ip', ['route', 'get', to.address])
  const [, seconds = '', learned = ''] = /expires (\d+)sec mtu (\d+)/.exec(stdout) ?? []
  t.equal(Number(learned), mtu, stdout)
  t.ok(Number(seconds) > 0 && Number(seconds) <= 600, `expires in ${seconds} s`)
}

t.test('a path of 1280 bytes between interfaces of 1500', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  await routeBetween(overlay, 1280)
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const capture = await h1.capture('eth0', FRAGMENTS)

  await t.test('with DF: the sender hears what fits (F41)', async (t) => {
    t.equal((await ping(p1, 1280 - OVERHEAD, p2.address, 'do')).code, 0, 'this does')
    const before = await overlay.settled(h1)
    const { code, stdout } = await ping(p1, 1472, p2.address, 'do', 3)
    t.equal(code, 1)
    t.match(
      stdout,
      /Frag needed and DF set \(mtu = 1252\)/,
      'the first one tells the daemon’s host',
    )
    const moved = counted(before, await overlay.settled(h1))
    t.ok((moved['egress.drop_too_big'] ?? 0) >= 1)
    t.equal(moved['gauge.icmp_sent'], 1, 'then the pod’s own kernel knows')
    await checkLearned(t, h1, h2, 1280)
    const { stdout: cached } = await p1.run('ip', ['route', 'get', p2.address])
    t.match(cached, /mtu 1252/)
    const exact = await ping(p1, 1252, p2.address, 'do')
    t.equal(exact.code, 0)
  })

  await t.test('TCP uses it without an outer fragment, both ways', async (t) => {
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
    ] as const) {
      t.ok((await tcpTransfer(from, to, to.address, { bytes: 20 * MB })).intact)
    }
    t.equal((await capture.stop()).packets.length, 0)
  })

  await t.test('without DF: outer fragments, counted', async (t) => {
    const fragments = await h1.capture('eth0', `src host ${h1.address} and ${FRAGMENTS}`)
    // One whose own kernel has not heard of the path, or it would fragment the inner packet.
    const fresh = await overlay.addPod(h1)
    const before = await overlay.settled(h1)
    const answered = await ping(fresh, 1472, p2.address, 'dont', 3)
    t.equal(answered.code, 0, answered.stdout)
    const moved = counted(before, await overlay.settled(h1))
    t.equal(moved['gauge.sent_in_fragments'], 3)
    await fragments.waitForPackets(6)
    t.equal((await fragments.stop()).packets.length, 6, 'two for each')
  })
  for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
})

t.test('vxlan: a path of 1280 bytes between interfaces of 1500', { skip }, async (t) => {
  const backend = { Type: 'vxlan' }
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend })
  await routeBetween(overlay, 1280)
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const capture = await h1.capture('eth0', FRAGMENTS)
  const { code, stdout } = await ping(p1, 1450, p2.address, 'do', 3)
  t.equal(code, 1)
  t.match(stdout, /Frag needed and DF set \(mtu = 1230\)/, '1280 − 50')
  t.equal((await ping(p1, 1230, p2.address, 'do')).code, 0)
  await checkLearned(t, h1, h2, 1280)
  for (const [from, to] of [
    [p1, p2],
    [p2, p1],
  ] as const) {
    t.ok((await tcpTransfer(from, to, to.address, { bytes: 20 * MB })).intact)
  }
  t.equal((await capture.stop()).packets.length, 0, 'no outer fragment')
  const fresh = await overlay.addPod(h1)
  const before = await overlay.settled(h1)
  t.equal((await ping(fresh, 1450, p2.address, 'dont', 3)).code, 0, 'without DF')
  const moved = counted(before, await overlay.settled(h1))
  t.equal(moved['gauge.sent_in_fragments'], 3)
  for (const host of [h1, h2]) {
    const counts = await overlay.settled(host)
    assertAccounted(t, host.name, counts)
    t.equal(counts.get('gauge.runs_lost'), 0)
  }
})

t.test('a path that shrinks under a transfer: TCP goes on in seconds', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  await routeBetween(overlay, 1500)
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const capture = await h1.capture('eth0', FRAGMENTS)
  const transfer = tcpTransfer(p1, p2, p2.address, { bytes: 3000 * MB, timeoutMs: 60_000 })
  const arrived = async (): Promise<number> =>
    (await overlay.status(h2)).counters.ingress.verdicts['forward']?.packets ?? 0
  for (const mtu of [1500, 1280, 1000]) {
    await setPathMtu(overlay, mtu)
    const before = await arrived()
    // Packets that were on their way when the path changed are far fewer.
    const flowing = async (): Promise<boolean> => (await arrived()) > before + 20_000
    const ms = await until(`TCP goes on over a path of ${mtu}`, 10_000, flowing)
    t.comment(`path of ${mtu}: 20 000 packets after ${ms.toFixed(0)} ms`)
    t.ok(ms < 5000)
  }
  t.ok((await transfer).intact)
  t.equal((await capture.stop()).packets.length, 0, 'no outer fragment')
  await checkLearned(t, h1, h2, 1000)
  for (const host of [h1, h2]) {
    const counts = await overlay.settled(host)
    assertAccounted(t, host.name, counts)
    t.equal(counts.get('gauge.runs_lost'), 0)
  }
})
