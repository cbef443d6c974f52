/**
 * @parallel The ingress check over an IPv6 underlay: the same packet, of either family, is taken from its
 * own host and refused from another leased one and from a stranger; and how to allow it, behind a NAT too.
 */
import t from 'tap'
import type { Host } from '../lab/host.js'
import { relay } from './attack.js'
import { ipv4Packet, udpDatagram } from './ipv4.js'
import { counted, createOverlay, skip, tally, until, assertAccounted } from './overlay.js'

t.setTimeout(60_000)

/** An address that h2's packets seem to come from. */
const NAT = 'fd30::200'

function addressBytes6(text: string): Buffer {
  const [head = '', tail = ''] = text.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const zeros = Array<string>(8 - groups(head).length - groups(tail).length).fill('0')
  const hex = [...groups(head), ...zeros, ...groups(tail)].map((group) => group.padStart(4, '0'))
  return Buffer.from(hex.join(''), 'hex')
}

/** An IPv6 packet of the protocol without a next header (RFC 8200 §4.7). */
function ipv6Packet(src: string, dst: string): Buffer {
  const fixed = Buffer.from('6000000000083b40', 'hex')
  return Buffer.concat([fixed, addressBytes6(src), addressBytes6(dst), Buffer.alloc(8)])
}

t.test('who may send what over IPv6', { skip }, async (t) => {
  // h1 receives, h2 and h3 are peers, h4 is a stranger.
  const overlay = await createOverlay(t, {
    hosts: 4,
    daemons: 3,
    store: 'file',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Underlay: 'ipv6' },
  })
  const [h1, h2, h3, h4] = [1, 2, 3, 4].map((n) => overlay.host(n)) as [Host, Host, Host, Host]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const four = (src: string) =>
    ipv4Packet({ src, dst: p1.address }, udpDatagram(src, p1.address, 40000, 9, Buffer.alloc(32)))
  const six = (src: string) => ipv6Packet(src, p1.address6)
  const p3 = (await h3.subnetEnv()).gateway6 ?? ''
  const by = {
    own: await relay(h2, h1, h1.address6),
    other: await relay(h3, h1, h1.address6),
    stranger: await relay(h4, h1, h1.address6),
  }
  const check = async (from: keyof typeof by, packet: Buffer, want: string, name: string) => {
    const before = await overlay.settled(h1)
    await by[from](packet)
    await until('it was read', 2000, async () => {
      const now = tally(await overlay.status(h1))
      return now.get('ingress.read') !== before.get('ingress.read')
    })
    const moved = counted(before, await overlay.settled(h1))
    t.match(moved, { [`ingress.${want}`]: 1, 'ingress.read': 1 }, `${name}: ${want}`)
  }
  const cases = [
    ['own', p2, 'forward', 'from its own host'],
    ['other', p2, 'drop_source_forged', 'from a leased other host'],
    ['stranger', p2, 'drop_source_unknown', 'from a stranger'],
    ['own', p1, 'drop_source_forged', 'as one of our own pods'],
  ] as const
  for (const [from, { address6, address }, want, name] of cases) {
    await check(from, six(address6), want, `IPv6 ${name}`)
    await check(from, four(address), want, `IPv4 ${name}`)
  }
  const [line = '', ...more] =
    overlay
      .daemon(h1)
      .stderr()
      .match(/refused a packet .*/g) ?? []
  t.same(more, [], 'one line for all of them')
  t.match(line, `from host ${h3.address6} with source ${p2.address6} (drop_source_forged)`)
  const remedy = `--ingress-allow=${p2.address6}/128=${h3.address6}`
  t.match(line, remedy)

  await t.test('with what the log says', async () => {
    await overlay.daemon(h1).stop()
    await overlay.start(h1, [remedy])
    await overlay.ready(h1, 2)
    await check('other', six(p2.address6), 'forward', 'IPv6 from a leased other host')
    await check('other', four(p2.address), 'drop_source_forged', 'IPv4 was not allowed')
    await check('stranger', six(p2.address6), 'drop_source_unknown', 'nobody else')
  })

  await t.test('a whole subnet behind a NAT', async (t) => {
    // Deprecated, it is not the one that the daemon binds to.
    await h2.ip(`address add ${NAT}/64 dev eth0 nodad preferred_lft 0`)
    const rules = [
      'add table ip6 nat',
      'add chain ip6 nat out { type nat hook postrouting priority 100; }',
      `add rule ip6 nat out oifname eth0 udp dport 8285 snat to ${NAT}`,
      'add chain ip6 nat in { type nat hook prerouting priority -100; }',
      `add rule ip6 nat in ip6 daddr ${NAT} udp dport 8285 dnat to ${h2.address6}`,
    ]
    for (const rule of rules) t.equal((await h2.run('nft', rule.split(' '))).code, 0, rule)
    // A daemon that is started anew has a new connection for the NAT to look at.
    const again = async (host: Host, args: readonly string[]): Promise<void> => {
      await overlay.daemon(host).stop()
      await overlay.start(host, args)
      await overlay.ready(host, 2)
    }
    const ping = async (to: string) =>
      (await p2.run('ping', ['-c3', '-i0.1', '-W1', to])).code === 0
    const refusals = async (to: string) => {
      const before = await overlay.settled(h1)
      t.notOk(await ping(to), `no answer from ${to}`)
      return counted(before, await overlay.settled(h1))
    }
    await again(h2, [])
    await again(h1, [])
    t.match(await refusals(p1.address6), { 'ingress.drop_source_unknown': 3 }, 'not allowed')

    const subnet = p2.address6.replace(/2$/, '/64')
    await again(h1, [`--ingress-allow=${subnet}=${NAT}`])
    t.ok(await ping(p1.address6), 'allowed')
    const far = await h2.addPod()
    const { code } = await far.run('ping', ['-c1', '-W2', p1.address6])
    t.equal(code, 0, 'another pod of the subnet')
    t.match(await refusals(p1.address), { 'ingress.drop_source_forged': 3 }, 'IPv4 is not')
    await check('other', six(p2.address6), 'drop_source_forged', 'another leased host')
    await check('stranger', six(p2.address6), 'drop_source_unknown', 'a stranger')
    await check('own', six(p3), 'drop_source_forged', 'from the NAT, outside the subnet')
  })
  assertAccounted(t, 'h1', await overlay.settled(h1))
})
