/**
 * @parallel Which interface carries the underlay, and which address is published: the default route,
 * `--iface` by name and address, `--iface-regex`, `--iface-can-reach`, `--public-ip` and `--public-ipv6` with and without it.
 */
import t from 'tap'
import { createEtcdLab, EtcdNetwork } from './etcd-network.js'
import { createOverlay, PREFIX, skip } from './overlay.js'

t.setTimeout(90_000)

interface Case {
  readonly name: string
  readonly args: readonly string[]
  /** Address that the socket must be bound to, and the one that the lease must show. */
  readonly gives?: { readonly bound: string; readonly published: string }
  /** What the daemon must say when it cannot go on. */
  readonly says?: RegExp
}

const ETH0 = '172.30.0.11'
const NAT = '203.0.113.7'

const CASES: readonly Case[] = [
  {
    name: 'F31 the default route decides, not the order of interfaces',
    args: [],
    gives: { bound: '198.18.0.1', published: '198.18.0.1' },
  },
  {
    name: 'F32 --iface by name, the first that fits',
    args: ['--iface=eth7', '--iface=eth1', '--iface=eth0'],
    gives: { bound: '198.18.0.1', published: '198.18.0.1' },
  },
  {
    name: 'F32 --iface by address, a second one of the interface',
    args: ['--iface=198.18.0.99', '--iface=198.18.0.2'],
    gives: { bound: '198.18.0.2', published: '198.18.0.2' },
  },
  {
    name: 'F32 no --iface fits: exit 1 with what there is',
    args: ['--iface=eth7', '--iface=198.18.0.99'],
    says: /^F.*"eth7".*198\.18\.0\.99.*eth0.*172\.30\.0\.11/m,
  },
  {
    name: 'F33 --iface-regex matches a second address of an interface',
    args: ['--iface-regex=198\\.18\\.0\\.2$'],
    gives: { bound: '198.18.0.2', published: '198.18.0.2' },
  },
  {
    name: 'F33 --iface-regex matches a name, after all of --iface have failed',
    args: ['--iface-regex=^(eth0|wlan.)$', '--iface=eth7'],
    gives: { bound: ETH0, published: ETH0 },
  },
  {
    name: 'F34 --iface-can-reach: the source address of the route there',
    args: ['--iface-can-reach=198.19.0.7'],
    gives: { bound: '198.18.0.2', published: '198.18.0.2' },
  },
  {
    name: 'F34 --iface-can-reach, when --iface and --iface-regex have failed',
    args: ['--iface=eth7', '--iface-regex=wlan', '--iface-can-reach=172.30.0.254'],
    gives: { bound: ETH0, published: ETH0 },
  },
  {
    name: 'F34 --iface-can-reach without a route: exit 1 with what there is',
    args: ['--iface-can-reach=198.20.0.1'],
    says: /^F.*there is no way to 198\.20\.0\.1.*eth0.*172\.30\.0\.11/m,
  },
  {
    name: 'F35 --public-ip beside --iface is only published',
    args: ['--iface=eth0', `--public-ip=${NAT}`],
    gives: { bound: ETH0, published: NAT },
  },
  {
    name: 'F35 --public-ip alone chooses the interface',
    args: ['--public-ip=198.18.0.2'],
    gives: { bound: '198.18.0.2', published: '198.18.0.2' },
  },
  {
    name: 'F35 --public-ip alone must be an address of this host',
    args: [`--public-ip=${NAT}`],
    says: /^F.*203\.0\.113\.7.*172\.30\.0\.11/m,
  },
]

t.test('the interface', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 1)
  const host = lab.host(1)
  await host.ip(
    'link add eth1 type bridge',
    'address add 198.18.0.1/24 dev eth1',
    'address add 198.18.0.2/24 dev eth1',
    'link set eth1 up',
    // The underlay needs no default route, so it may lead to the later of the two interfaces.
    'route replace default via 198.18.0.254 dev eth1',
    'route add 198.19.0.0/16 via 198.18.0.254 dev eth1 src 198.18.0.2',
    'route add unreachable 198.20.0.0/16',
  )
  for (const [i, { name, args, gives, says }] of CASES.entries()) {
    await t.test(name, async (t) => {
      const network = new EtcdNetwork(t, lab, `interface-${i}`)
      await network.configure({ Network: '10.5.0.0/16' })
      const daemon = await network.start(host, args, { iface: [] })
      if (says !== undefined) {
        t.same(await daemon.exited, { code: 1, signal: null })
        t.match(daemon.stderr(), says)
        t.equal((await network.records()).size, 0)
      }
      if (gives === undefined) return
      const { lease } = await network.ready(host)
      t.equal(lease.publicIP, gives.published)
      t.equal((await network.record(lease.subnet)).value, network.value(gives.published))
      const sockets = (await host.run('ss', ['-lunH'])).stdout
      t.match(sockets, `${gives.bound}:8285`)
      t.notMatch(sockets, /(0\.0\.0\.0|\*):8285/, 'nowhere else')
    })
  }
})

interface Case6 {
  readonly name: string
  readonly args: readonly string[]
  /** Address that the IPv6 socket must be bound to, and what the lease must show. */
  readonly gives?: { readonly bound: string; readonly published: string }
  readonly says?: RegExp
  /** Exit code, when it cannot go on; default 1. */
  readonly code?: number
}

const NAT6 = '2001:db8::7'

const CASES6: readonly Case6[] = [
  {
    name: 'F35 --public-ipv6 beside --iface is only published',
    args: ['--iface=eth0', `--public-ipv6=${NAT6}`],
    gives: { bound: 'fd30::11', published: NAT6 },
  },
  {
    name: 'F35 --public-ipv6 alone chooses the interface, and its address',
    args: ['--public-ipv6=FD98:0::2'],
    gives: { bound: 'fd98::2', published: 'fd98::2' },
  },
  {
    name: 'F35 --public-ipv6 alone must be an address of this host',
    args: [`--public-ipv6=${NAT6}`],
    says: /^F.*2001:db8::7.*fd30::11/m,
  },
  {
    name: 'F35 --public-ipv6 must be an address',
    args: ['--iface=eth0', '--public-ipv6=172.30.0.11'],
    says: /^--public-ipv6=172\.30\.0\.11 is no IPv6 address/m,
    code: 2,
  },
]

t.test('the interface of an IPv6 underlay', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 1,
    daemons: 0,
    store: 'etcd',
    ipv6: true,
    network: { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Underlay: 'ipv6' },
  })
  const { etcd } = overlay.lab
  const host = overlay.host(1)
  await host.ip(
    'link add eth1 type bridge',
    'address add fd98::1/64 dev eth1 nodad',
    'address add fd98::2/64 dev eth1 nodad',
    'link set eth1 up',
  )
  for (const { name, args, gives, says, code = 1 } of CASES6) {
    await t.test(name, async (t) => {
      await etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`)
      const daemon = await overlay.start(host, args, [])
      const leases = () => etcd.list(`${PREFIX}/subnets/`)
      if (says !== undefined) {
        t.same(await daemon.exited, { code, signal: null })
        t.match(daemon.stderr(), says)
        t.equal((await leases()).size, 0)
      }
      if (gives === undefined) return
      const { lease } = await overlay.ready(host, 0)
      t.equal(lease.publicIPv6, gives.published)
      t.same(
        [...(await leases()).values()],
        [`{"PublicIP":"0.0.0.0","PublicIPv6":"${gives.published}","BackendV6Data":{"IPv6":true}}`],
      )
      const sockets = (await host.run('ss', ['-lunH'])).stdout
      t.match(sockets, `[${gives.bound}]:8285`)
      t.notMatch(sockets, /(\[::\]|\*):8285/, 'nowhere else')
      await daemon.stop()
    })
  }
})
