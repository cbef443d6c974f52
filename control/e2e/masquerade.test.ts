/**
 * @parallel `--ip-masq` with real traffic: whose address packets have when they leave, and that it is the
 * same through restarts and repairs of the rules.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { FIREWALL_MODE, skipIptables } from '../lab/firewall-mode.js'
import type { Host } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { waitForSubnetEnv } from '../lab/subnet-env.js'
import { behindEthernet, parseIpv4 } from './ipv4.js'
import { createOverlay, overlayAddress, skip, until } from './overlay.js'
import { NewFlows } from './new-flows.js'

t.setTimeout(120_000)

const OUTSIDE = '172.30.0.254'
const RANDOM = ' --random-fully'

/** Rules of a table that are flannel's, as iptables-save prints them. */
async function rulesOf(host: Host, table: string): Promise<string[]> {
  const { stdout } = await host.run('iptables-save', ['-t', table])
  return stdout.split('\n').filter((line) => /^-A .*(FLANNEL|flanneld)/.test(line))
}

/** What --ip-masq installs, in its order. */
function masquerade(network: string, subnet: string, random = RANDOM): string[] {
  const comment = '-m comment --comment "flanneld masq"'
  const chain = '-A FLANNEL-POSTRTG'
  return [
    `-A POSTROUTING ${comment} -j FLANNEL-POSTRTG`,
    `${chain} -m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
    `${chain} -s ${subnet} -d ${network} ${comment} -j RETURN`,
    `${chain} -s ${network} -d ${subnet} ${comment} -j RETURN`,
    `${chain} ! -s ${network} -d ${subnet} ${comment} -j RETURN`,
    `${chain} -s ${network} ! -d 224.0.0.0/4 ${comment} -j MASQUERADE${random}`,
    `${chain} ! -s ${network} -d ${network} ${comment} -j MASQUERADE${random}`,
  ]
}

/** Sources of the echo requests that a place sees while one is pinged from another. */
async function sourcesOfPing(
  from: Netns,
  args: readonly string[],
  place: Netns,
  iface: string,
): Promise<string[]> {
  const capture = await place.capture(iface, 'icmp[icmptype] == icmp-echo')
  const { code, stdout } = await from.run('ping', ['-c3', '-i0.2', '-W2', ...args])
  if (code !== 0) throw new Error(stdout)
  await capture.waitForPackets(3)
  const { packets } = await capture.stop()
  return [...new Set(packets.map((p) => parseIpv4(behindEthernet(p.bytes) ?? p.bytes).src))]
}

t.test('masquerading', { skip: skip || skipIptables }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const args = ['--ip-masq', '--iptables-resync=1']
  for (const host of [h1, h2]) await overlay.start(host, args)
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const subnet = (await overlay.status(h1)).lease.subnet
  const wanted = masquerade('10.5.0.0/16', subnet)
  const areRight = async () => (await rulesOf(h1, 'nat')).join('\n') === wanted.join('\n')
  const restart = async (more: readonly string[] = args) => {
    await overlay.daemon(h1).stop()
    await overlay.start(h1, more)
    await overlay.ready(h1, 1)
  }

  await t.test('F57 the rules, their order, and what subnet.env says', async (t) => {
    t.same(await rulesOf(h1, 'nat'), wanted)
    t.match(readFileSync(h1.subnetFile, 'utf8'), /^FLANNEL_IPMASQ=true$/m)
  })

  await t.test('F57 who sees which source address', async (t) => {
    const base = await overlayAddress(h1)
    const cases: readonly (readonly [string, Netns, string[], Netns, string, string])[] = [
      ['pod to outside', p1, [OUTSIDE], overlay.lab.switch, 'br0', h1.address],
      ['pod to pod', p1, [p2.address], p2, 'eth0', p1.address],
      ['host to remote pod', h1, ['-I', h1.address, p2.address], p2, 'eth0', base],
      ['host to its own pod', h1, ['-I', h1.address, p1.address], p1, 'eth0', h1.address],
    ]
    for (const [name, from, args, place, iface, source] of cases) {
      t.same(await sourcesOfPing(from, args, place, iface), [source], name)
    }
    await overlay.lab.switch.ip(`route add ${subnet} via ${h1.address}`)
    t.same(await sourcesOfPing(overlay.lab.switch, [p1.address], p1, 'eth0'), [OUTSIDE], 'inwards')
  })

  await t.test('F57 no gap: new flows keep their source through a restart', async (t) => {
    await withFlows(t, async () => {
      await restart()
      t.same(await rulesOf(h1, 'nat'), wanted)
      overlay.daemon(h1).kill('SIGKILL')
      await overlay.daemon(h1).exited
      await overlay.start(h1, args)
      await overlay.ready(h1, 1)
    })
  })

  const damages: Readonly<Record<string, readonly string[]>> = {
    'a rule deleted': ['-D FLANNEL-POSTRTG 2'],
    'the first rule last': [
      '-D FLANNEL-POSTRTG 1',
      '-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment flanneld_masq -j RETURN',
    ],
    'the jump deleted': ['-D POSTROUTING 1'],
    'all flushed': ['-F'],
  }
  for (const [name, commands] of Object.entries(damages)) {
    await t.test(`F59 put back: ${name}`, async (t) => {
      for (const command of commands) {
        const words = command.split(' ').map((word) => word.replace('_', ' '))
        t.equal((await h1.run('iptables', ['-t', 'nat', ...words])).code, 0)
      }
      const took = await until('the rules are back', 10_000, areRight)
      t.comment(`after ${took.toFixed(0)} ms`)
      await overlay
        .daemon(h1)
        .waitFor(/Some iptables rules are missing; deleting and recreating rules \(IPv4, masq/)
    })
  }

  await t.test('F59 no gap: new flows keep their source through a repair', async (t) => {
    await withFlows(t, async () => {
      await h1.run('iptables', ['-t', 'nat', '-D', 'FLANNEL-POSTRTG', '1'])
      await until('the rules are back', 10_000, areRight)
    })
  })

  await t.test('F62 random source ports unless they are not wanted', async (t) => {
    const pure = masquerade('10.5.0.0/16', subnet, '')
    await withFlows(t, async () => {
      await restart([...args, '--ip-masq-fully-random-disable'])
      t.same(await rulesOf(h1, 'nat'), pure)
    })
    await restart()
    t.same(await rulesOf(h1, 'nat'), wanted)
  })

  await t.test('F57 F59 two daemons on one host leave the rules of each other', async (t) => {
    const second = join(overlay.lab.dir, 'second')
    const file = join(h1.dir, 'second', 'subnet.env')
    mkdirSync(second)
    const config = {
      Network: '10.8.0.0/16',
      ...FIREWALL_MODE,
      Backend: { Port: 8286, Type: 'udp' },
    }
    writeFileSync(join(second, 'config'), JSON.stringify(config))
    const daemon = await h1.startDaemon(`file:${second}`, [`--subnet-file=${file}`, ...args])
    const env = await waitForSubnetEnv(file)
    const theirs = `${env.gateway.replace(/\.1$/, '.0')}/24`
    const both = [...wanted, ...masquerade('10.8.0.0/16', theirs).slice(2)].sort()
    t.same((await rulesOf(h1, 'nat')).sort(), both)
    await h1.run('iptables', ['-t', 'nat', '-F'])
    await until('all are back', 10_000, async () => {
      return (await rulesOf(h1, 'nat')).sort().join() === both.join()
    })
    // Long enough for each to look twice.
    const said = () => (overlay.daemon(h1).stderr() + daemon.stderr()).match(/are missing/g)?.length
    const before = said()
    await sleep(2500)
    t.equal(said(), before, 'they are content')
    await daemon.stop()
    const off = [`--subnet-file=${file}`, '--iptables-forward-rules=false']
    const last = await h1.startDaemon(`file:${second}`, off)
    await until('those of its own are gone when it wants none', 15_000, async () => {
      return (await areRight()) && (await rulesOf(h1, 'filter')).length === 3
    })
    await last.stop()
  })

  await t.test('F60 a changed network: the old rules are gone, none is there twice', async (t) => {
    for (const network of ['10.6.0.0/16', '10.7.0.0/16', '10.7.0.0/16']) {
      await overlay.configure({ Network: network, Backend: { Type: 'udp' } })
      await overlay.daemon(h1).stop()
      await overlay.start(h1, args)
      await until('it has a subnet of the network', 15_000, async () => {
        const status = await overlay.status(h1).catch(() => null)
        return status?.state === 'ready' && status.network === network
      })
      const { lease } = await overlay.status(h1)
      t.same(await rulesOf(h1, 'nat'), masquerade(network, lease.subnet), network)
      t.equal((await rulesOf(h1, 'filter')).length, 3, 'jump and two rules')
    }
  })

  await t.test('F57 without the flag: no rules, and subnet.env says so', async (t) => {
    await overlay.daemon(h1).stop()
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    t.same(await rulesOf(h1, 'nat'), [])
    t.notMatch((await h1.run('iptables-save', [])).stdout, /FLANNEL-POSTRTG/)
    t.match(readFileSync(h1.subnetFile, 'utf8'), /^FLANNEL_IPMASQ=false$/m)
  })

  await t.test('F59 a period of 0: the rules are made, and not looked at again', async (t) => {
    await restart(['--ip-masq', '--iptables-resync=0'])
    await h1.run('iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG'])
    await sleep(2000)
    t.equal((await rulesOf(h1, 'nat')).length, 1, 'the jump')
    t.equal((await overlay.status(h1)).state, 'ready')
  })

  /** Sends new flows from a pod to outside meanwhile; each must arrive with the host's address. */
  async function withFlows(t: Test, work: () => Promise<void>): Promise<void> {
    const flows = await NewFlows.start(p1, OUTSIDE, overlay.lab.switch, 'br0')
    await work()
    const sources = await flows.stop()
    t.same([...sources.keys()], [h1.address], JSON.stringify([...sources]))
    t.ok((sources.get(h1.address) ?? 0) >= 50, 'many flows')
  }
})
