/**
 * @parallel FORWARD rules, nftables mode and switching, the blackhole route, and what the firewall needs:
 * br_netfilter and its programs. All with traffic of real pods.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { skipIptables } from '../lab/firewall-mode.js'
import type { Host } from '../lab/host.js'
import { createEtcdLab, EtcdNetwork } from './etcd-network.js'
import { NewFlows } from './new-flows.js'
import { createOverlay, NETWORK, skip, until } from './overlay.js'

t.setTimeout(120_000)

const OUTSIDE = '172.30.0.254'
const OUTSIDE6 = 'fd30::fe'
const FORWARD = '-m comment --comment "flanneld forward"'
const HIDE = 'mount -t tmpfs tmpfs /proc/sys/net/bridge && exec "$@"'

/** All rules of both families that iptables keeps, without flannel's none. */
async function iptablesRules(host: Host): Promise<string[]> {
  const texts = await Promise.all(['iptables-save', 'ip6tables-save'].map((p) => host.run(p, [])))
  return texts
    .flatMap(({ stdout }) => stdout.split('\n'))
    .filter((line) => /^-A .*(FLANNEL|flanneld)|^:FLANNEL/.test(line))
}

/** One of our nftables tables as nft prints it, empty if there is none. */
async function nftTable(host: Host, name: string): Promise<string> {
  return (await host.run('nft', ['list', 'table', ...name.split(' ')])).stdout
}

/** Our IPv4 table as nft prints it where traffic is masqueraded. */
function wantedTable(subnet: string): string {
  return `table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		ip saddr ${subnet} ip daddr ${NETWORK} return
		ip saddr ${NETWORK} ip daddr ${subnet} return
		ip saddr != ${NETWORK} ip daddr ${subnet} return
		ip saddr ${NETWORK} ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != ${NETWORK} ip daddr ${NETWORK} masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr ${NETWORK} accept
		ip daddr ${NETWORK} accept
	}
}
`
}

t.test('FORWARD rules and modes', { skip: skip || skipIptables }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'file',
    network: { EnableNFTables: false },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const subnet = (await overlay.status(h1)).lease.subnet
  const ping = async () => (await p1.run('ping', ['-c2', '-i0.2', '-W2', p2.address])).code === 0
  const restart = async (args: readonly string[], mode?: { EnableNFTables: boolean }) => {
    if (mode) await overlay.configure({ Network: NETWORK, ...mode, Backend: { Type: 'udp' } })
    await overlay.daemon(h1).stop()
    await overlay.start(h1, args)
    await overlay.ready(h1, 1)
  }

  await t.test('F58 the policy of FORWARD is DROP: pods still talk', async (t) => {
    t.same(await iptablesRules(h1), [
      ':FLANNEL-FWD - [0:0]',
      `-A FORWARD ${FORWARD} -j FLANNEL-FWD`,
      `-A FLANNEL-FWD -s ${NETWORK} ${FORWARD} -j ACCEPT`,
      `-A FLANNEL-FWD -d ${NETWORK} ${FORWARD} -j ACCEPT`,
    ])
    for (const host of [h1, h2]) await host.run('iptables', ['-P', 'FORWARD', 'DROP'])
    t.ok(await ping())
    await h1.run('iptables', ['-F', 'FLANNEL-FWD'])
    t.notOk(await ping(), 'it is these rules that let them')
    await until('the rules are back', 15_000, async () => (await iptablesRules(h1)).length === 4)
    t.ok(await ping())
  })

  await t.test('F58 with the flag off there is no chain', async (t) => {
    await restart(['--iptables-forward-rules=false'])
    t.same(await iptablesRules(h1), [])
    t.notOk(await ping(), 'the policy decides')
    await h1.run('iptables', ['-P', 'FORWARD', 'ACCEPT'])
    t.ok(await ping())
  })

  await t.test('F61 nftables: the tables, and nothing of iptables', async (t) => {
    await restart(['--ip-masq'])
    t.equal((await iptablesRules(h1)).length, 12)
    const flows = await NewFlows.start(p1, OUTSIDE, overlay.lab.switch, 'br0')
    await restart(['--ip-masq', '--iptables-resync=1'], { EnableNFTables: true })
    t.equal(await nftTable(h1, 'ip flannel-ipv4'), wantedTable(subnet))
    t.match(await nftTable(h1, 'ip6 flannel-ipv6'), /^table ip6 flannel-ipv6 \{\n\tcomment "rules/)
    t.same(await iptablesRules(h1), [])
    t.ok(await ping())
    t.same([...(await flows.stop()).keys()], [h1.address], 'no flow left with another source')
  })

  await t.test('F61 F59 nftables rules are put back, too', async (t) => {
    const flows = await NewFlows.start(p1, OUTSIDE, overlay.lab.switch, 'br0')
    await h1.run('nft', ['insert rule ip flannel-ipv4 postrtg meta mark 1 return'])
    await until('they are back', 10_000, async () => {
      return (await nftTable(h1, 'ip flannel-ipv4')) === wantedTable(subnet)
    })
    t.same([...(await flows.stop()).keys()], [h1.address])
    await h1.run('nft', ['delete table ip flannel-ipv4'])
    await until('they are back', 10_000, async () => {
      return (await nftTable(h1, 'ip flannel-ipv4')).includes(`ip saddr ${subnet}`)
    })
    t.match(
      overlay.daemon(h1).stderr(),
      /Some nftables rules are missing; deleting and recreating rules \(IPv4\)/,
    )
  })

  await t.test('F61 F62 without random source ports', async (t) => {
    await restart(['--ip-masq', '--ip-masq-fully-random-disable'])
    const table = await nftTable(h1, 'ip flannel-ipv4')
    t.match(table, /ip daddr != 224\.0\.0\.0\/4 masquerade\n/)
    t.notMatch(table, /random/)
  })

  await t.test('F61 and back: the tables are gone', async (t) => {
    const flows = await NewFlows.start(p1, OUTSIDE, overlay.lab.switch, 'br0')
    await restart(['--ip-masq'], { EnableNFTables: false })
    t.same([...(await flows.stop()).keys()], [h1.address])
    t.equal((await iptablesRules(h1)).length, 12)
    t.notMatch((await h1.run('nft', ['list', 'tables'])).stdout, /flannel/)
  })
})

t.test('both families', { skip: skip || skipIptables }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 1,
    daemons: 0,
    ipv6: true,
    store: 'file',
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48', EnableNFTables: false },
  })
  const h1 = overlay.host(1)
  await overlay.start(h1, ['--ip-masq', '--ip-blackhole-route'])
  const [v4 = '', v6 = ''] = (await overlay.ready(h1, 0)).lease.subnet.split(',')

  await t.test('F57 F58 with IPv6: the same of ip6tables', async (t) => {
    const masq = '-m comment --comment "flanneld masq"'
    const rules = (await h1.run('ip6tables-save', [])).stdout
    for (const rule of [
      `-A FLANNEL-POSTRTG -s ${v6} -d fd05::/48 ${masq} -j RETURN`,
      `-A FLANNEL-POSTRTG -s fd05::/48 ! -d ff00::/8 ${masq} -j MASQUERADE --random-fully`,
      `-A FLANNEL-FWD -d fd05::/48 ${FORWARD} -j ACCEPT`,
    ]) {
      t.ok(rules.includes(`${rule}\n`), rule)
    }
    const { stdout } = await h1.run('iptables-save', ['-t', 'nat'])
    t.ok(stdout.includes(`-A FLANNEL-POSTRTG -s ${v4} -d ${NETWORK} ${masq} -j RETURN\n`))
  })

  await t.test('F57 with IPv6: a pod that goes outside has the address of its host', async (t) => {
    const pod = await overlay.addPod(h1)
    const capture = await overlay.lab.switch.capture('br0', 'icmp6 and ip6[40] == 128')
    t.equal((await pod.run('ping', ['-c3', '-i0.2', '-W2', OUTSIDE6])).code, 0)
    await capture.waitForPackets(3)
    const { packets } = await capture.stop()
    // Behind Ethernet (14) the source is at byte 8 of the IPv6 header (RFC 8200 §3).
    const sources = packets.map(({ bytes }) => Buffer.from(bytes.subarray(22, 38)).toString('hex'))
    t.same(sources, Array<string>(3).fill('fd300000000000000000000000000011'))
  })

  await t.test('F63 a blackhole of each family', async (t) => {
    const list = async (family: string) =>
      (await h1.run('ip', [family, 'route', 'show', 'type', 'blackhole'])).stdout
    t.match(await list('-4'), `blackhole ${v4} proto 72 metric 4294967295`)
    t.match(await list('-6'), `blackhole ${v6} dev lo proto 72 metric 4294967295`)
  })

  await t.test('F60 a network that has no IPv6 any more: its rules are gone', async (t) => {
    await overlay.daemon(h1).stop()
    await overlay.configure({ Network: NETWORK, EnableNFTables: false, Backend: { Type: 'udp' } })
    await overlay.start(h1, ['--ip-masq'])
    await overlay.ready(h1, 0)
    const rules = await iptablesRules(h1)
    t.notMatch(rules.join('\n'), /fd05/)
    t.equal(rules.length, 12, 'those of IPv4')
  })
})

t.test('the blackhole route', { skip: skip || skipIptables }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const args = ['--ip-blackhole-route']
  for (const host of [h1, h2]) await overlay.start(host, args)
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  const { subnet } = (await overlay.status(h1)).lease
  const unused = subnet.replace(/\.0\/24$/, '.77')
  const holes = async () =>
    (await h1.run('ip', ['-4', 'route', 'show', 'type', 'blackhole'])).stdout

  await t.test('F63 what no pod has is not forwarded', async (t) => {
    t.match(await holes(), `blackhole ${subnet} `)
    const capture = await h1.capture('flannel0', `dst host ${unused}`)
    const { code } = await h2.run('ping', ['-c3', '-i0.2', '-W1', unused])
    t.equal(code, 1)
    await capture.waitForPackets(3)
    await overlay.settled(h1)
    t.equal((await capture.stop()).packets.length, 3, 'each came, and none went on')
  })

  await t.test('F63 pods of a bridge that comes later are reached', async (t) => {
    const p1 = await overlay.addPod(h1)
    t.equal((await h2.run('ping', ['-c2', '-i0.2', '-W2', p1.address])).code, 0)
    t.equal((await h1.run('ping', ['-c2', '-i0.2', '-W2', p1.address])).code, 0)
  })

  await t.test('F63 it comes back, stays over a stop, and goes with the flag', async (t) => {
    await h1.ip(`route del blackhole ${subnet} metric 4294967295`)
    await until('it is back', 15_000, async () => (await holes()).includes(subnet))
    await overlay.daemon(h1).stop()
    t.match(await holes(), subnet)
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    t.equal(await holes(), '')
  })

  await t.test('F63 that of another network goes, once there is a new one', async (t) => {
    await overlay.daemon(h1).stop()
    await overlay.start(h1, args)
    await overlay.ready(h1, 1)
    t.match(await holes(), subnet)
    await overlay.daemon(h1).stop()
    await overlay.configure({ Network: '10.6.0.0/16' })
    await overlay.start(h1, args)
    // The other host still holds its lease of before.
    const { lease } = await overlay.ready(h1, 1)
    t.match(lease.subnet, /^10\.6\./)
    t.match(await holes(), lease.subnet)
    t.notMatch(await holes(), subnet)
  })
})

t.test('what the firewall needs', { skip: skip || skipIptables }, async (t) => {
  const lab = await createEtcdLab(t, 1)
  const host = lab.host(1)
  const network = new EtcdNetwork(t, lab, 'needs')
  const hidden = ['unshare', '-m', 'sh', '-c', HIDE, 'sh']
  const nftOff = { Network: NETWORK, EnableNFTables: false }
  /** A folder with `ip` and what else is named, as the only one for programs. */
  const onlyPrograms = (...names: string[]) => {
    const folder = join(host.dir, ['bin', ...names].join('-'))
    mkdirSync(folder, { recursive: true })
    for (const name of ['ip', ...names]) {
      rmSync(join(folder, name), { force: true })
      symlinkSync(`/usr/sbin/${name}`, join(folder, name))
    }
    return { PATH: folder }
  }

  await t.test('F64 no br_netfilter: exit 1 with a remedy', async (t) => {
    await network.configure(nftOff)
    const daemon = await network.start(host, [], { wrapper: hidden })
    t.same(await daemon.exited, { code: 1, signal: null })
    t.match(
      daemon.stderr(),
      /^F.*Failed to check br_netfilter: .*bridge-nf-call-iptables is missing; load the module/m,
    )
    t.equal((await network.records()).size, 0, 'before it took a lease')
  })

  await t.test('F64 with nftables it does not matter', async (t) => {
    await network.configure({ Network: NETWORK, EnableNFTables: true })
    await network.start(host, [], { wrapper: hidden })
    await network.ready(host)
    await network.daemon(host).stop()
    t.pass('it starts')
  })

  await t.test('F58 no iptables: a warning with the remedy, and it runs', async (t) => {
    await network.configure(nftOff)
    const daemon = await network.start(host, ['--iptables-resync=1'], { env: onlyPrograms() })
    await network.ready(host)
    const said = /^W.*no FORWARD rules: iptables.*\(package iptables\).*forward-rules=false/gm
    t.equal(daemon.stderr().match(said)?.length, 1)
    t.match(readFileSync(network.subnetFile(host), 'utf8'), /^FLANNEL_IPMASQ=false$/m)
    await daemon.stop()
    t.notMatch(daemon.stderr(), /^E/m, 'and is not told again')
  })

  await t.test('F57 no iptables with --ip-masq: exit 1 with the remedy', async (t) => {
    const daemon = await network.start(host, ['--ip-masq'], { env: onlyPrograms() })
    t.same(await daemon.exited, { code: 1, signal: null })
    t.match(daemon.stderr(), /^F.*iptables.*not installed \(package iptables\)/m)
  })

  const hasLegacy = (await host.run('iptables-legacy', ['-S'])).code === 0
  const why = hasLegacy ? false : 'the legacy iptables, which alone has a lock, does not run here'
  await t.test('F57 the lock of iptables is held: it is waited for', { skip: why }, async (t) => {
    const lock = join(host.dir, 'xtables.lock')
    const env = { ...onlyPrograms(), XTABLES_LOCKFILE: lock }
    for (const name of ['iptables', 'iptables-save', 'iptables-restore']) {
      const legacy = name.replace('iptables', 'iptables-legacy')
      symlinkSync(`/usr/sbin/${legacy}`, join(env.PATH, name))
    }
    const holder = await host.spawn('flock', ['--no-fork', lock, 'sleep', '60'])
    await until('the lock is held', 5000, () => existsSync(lock))
    const daemon = await network.start(host, ['--ip-masq'], { env })
    await daemon.waitFor(/^W.*firewall: .*holding the xtables lock.*\(trying again\)/m, 20_000)
    await holder.stop()
    await network.ready(host)
    const { stdout } = await host.run('iptables-legacy-save', ['-t', 'nat'])
    t.equal(stdout.match(/^-A .*flanneld masq/gm)?.length, 7)
    await daemon.stop()
  })

  await t.test('F61 nftables mode without iptables, and without nft', async (t) => {
    await network.configure({ Network: NETWORK, EnableNFTables: true })
    const daemon = await network.start(host, ['--ip-masq'], { env: onlyPrograms('nft') })
    await network.ready(host)
    t.notMatch(daemon.stderr(), /^[WE]/m, 'nothing of iptables can be left')
    await daemon.stop()
    const without = await network.start(host, ['--ip-masq'], { env: onlyPrograms() })
    t.same(await without.exited, { code: 1, signal: null })
    t.match(without.stderr(), /^F.*nft.*not installed \(package nftables\)/m)
  })
})
