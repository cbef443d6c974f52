/**
 * The ingress check among real daemons: the same packet is delivered from its own host and refused
 * from others; NAT, host networks and exceptions. @parallel
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { relay } from './attack.js'
import { ipv4Packet, udpDatagram } from './ipv4.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  overlayAddress,
  skip,
  tally,
  until,
  type Overlay,
} from './overlay.js'

t.setTimeout(90_000)

/** An address that h2's packets seem to come from. */
const NAT = '172.30.0.200'

/** Verdicts and gauges of what a host's daemon read since, once it has read something. */
async function moves(overlay: Overlay, host: Host, act: () => Promise<unknown>) {
  const before = await overlay.settled(host)
  await act()
  await until('something was read', 2000, async () => {
    const now = tally(await overlay.status(host))
    return now.get('ingress.read') !== before.get('ingress.read')
  })
  return counted(before, await overlay.settled(host))
}

async function ping(from: { run: Host['run'] }, to: string): Promise<boolean> {
  const { code } = await from.run('ping', ['-c3', '-i0.1', '-W1', to])
  return code === 0
}

t.test('who may send what', { skip }, async (t) => {
  // h1 receives, h2 and h3 are peers, h4 is a stranger.
  const overlay = await createOverlay(t, { hosts: 4, daemons: 3, store: 'file' })
  const [h1, h2, h3, h4] = [1, 2, 3, 4].map((n) => overlay.host(n)) as [Host, Host, Host, Host]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const packet = (src: string, dst = p1.address): Buffer =>
    ipv4Packet({ src, dst }, udpDatagram(src, dst, 40000, 9, Buffer.alloc(32)))
  const send = {
    own: await relay(h2, h1),
    other: await relay(h3, h1),
    stranger: await relay(h4, h1),
  }

  const cases = [
    { name: 'from its own host', by: send.own, src: p2.address, want: 'forward' },
    {
      name: 'from a leased other host',
      by: send.other,
      src: p2.address,
      want: 'drop_source_forged',
    },
    { name: 'from a stranger', by: send.stranger, src: p2.address, want: 'drop_source_unknown' },
    { name: 'as one of our own pods', by: send.own, src: p1.address, want: 'drop_source_forged' },
    {
      name: 'to another subnet',
      by: send.own,
      src: p2.address,
      dst: '10.5.254.9',
      want: 'drop_not_our_subnet',
    },
  ]
  for (const { name, by, src, dst, want } of cases) {
    const moved = await moves(overlay, h1, () => by(packet(src, dst)))
    t.match(moved, { [`ingress.${want}`]: 1, 'ingress.read': 1 }, `${name}: ${want}`)
  }
  const lines =
    overlay
      .daemon(h1)
      .stderr()
      .match(/refused a packet .*/g) ?? []
  t.equal(lines.length, 1, 'one line for all of them')
  t.match(lines[0], `from host ${h3.address} with source ${p2.address} (drop_source_forged)`)
  t.match(lines[0], `--ingress-allow=${p2.address}/32=${h3.address}`)

  await t.test('pods talk, and hosts with addresses of their own', async (t) => {
    t.ok(await ping(p2, p1.address))
    t.ok(await ping(h2, await overlayAddress(h1)))
    // Not masqueraded: the source is no overlay address, and the answer does not come back this way.
    const moved = await moves(overlay, h1, () =>
      h2.run('ping', ['-c1', '-W1', '-I', h2.address, p1.address]),
    )
    t.match(moved, { 'ingress.forward': 1, 'gauge.sources_outside': 1 })
  })

  await t.test(
    'behind a NAT: refused, allowed by the receiver or declared by the host',
    async (t) => {
      await h2.ip(`address add ${NAT}/24 dev eth0`)
      const rules = [
        'add table ip nat',
        'add chain ip nat out { type nat hook postrouting priority 100; }',
        `add rule ip nat out oifname eth0 udp dport 8285 snat to ${NAT}`,
        'add chain ip nat in { type nat hook prerouting priority -100; }',
        `add rule ip nat in ip daddr ${NAT} udp dport 8285 dnat to ${h2.address}`,
      ]
      for (const rule of rules) t.equal((await h2.run('nft', rule.split(' '))).code, 0, rule)
      const subnet = (await overlayAddress(h2)).concat('/24')

      // A daemon that is started anew has a new connection for the NAT to look at.
      const again = async (host: Host, args: readonly string[]): Promise<void> => {
        await overlay.daemon(host).stop()
        await overlay.start(host, args)
        await overlay.ready(host, 2)
      }
      await again(h2, [])
      const moved = await moves(overlay, h1, () => ping(p2, p1.address))
      t.equal(moved['ingress.drop_source_unknown'], 3, 'all three are refused')

      await again(h1, [`--ingress-allow=${subnet}=${NAT}`])
      t.ok(await ping(p2, p1.address), 'with --ingress-allow at the receiver')

      await again(h1, [])
      // Another public address is another host: the subnet must be given back first.
      await overlay.daemon(h2).stop()
      rmSync(join(overlay.directory, 'subnets', subnet.replace('/', '-')))
      await again(h2, [`--public-ip=${NAT}`, '--iface=eth0'])
      t.ok(await ping(p2, p1.address), 'with --public-ip at the host')
    },
  )

  await t.test('strict and off', async (t) => {
    const again = async (mode: string): Promise<void> => {
      await overlay.daemon(h1).stop()
      await overlay.start(h1, [`--ingress-check=${mode}`])
      await overlay.ready(h1, 2)
    }
    await again('strict')
    const strict = await moves(overlay, h1, () => send.other(packet('192.168.7.7')))
    t.match(strict, { 'ingress.drop_source_outside': 1 })
    await again('off')
    const off = await moves(overlay, h1, () => send.stranger(packet(p2.address)))
    t.match(off, { 'ingress.forward': 1 })
  })
  assertAccounted(t, 'h1', await overlay.settled(h1))
})
