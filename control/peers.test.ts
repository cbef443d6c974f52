/**
 * From changes of leases to routes, and to what the status shows.
 */
import t from 'tap'
import type { LeaseChanges } from './lease-watcher.js'
import type { RoutePrefix } from '../dataplane/index.js'
import { createBackend } from './backend/backend.js'
import type { Hooks } from './backend/extension.js'
import { parseNetworkConfig } from './network-config.js'
import { Peers, reachedOf, type PeerTunnel } from './peers.js'
import { formatPrefix4, formatPrefix6 } from './prefix.js'
import { leaseOf, recordedLog } from './scripted-store.js'
import { parseSubnetKey } from './subnet-key.js'

const OWN = parseSubnetKey('10.5.9.0-24')!
const A = leaseOf('10.5.1.0-24', '192.0.2.1')
const B = leaseOf('10.5.2.0-24', '192.0.2.2')

function changes(some: Partial<LeaseChanges>): LeaseChanges {
  return { added: [], changed: [], renewed: [], removed: [], own: null, ...some }
}

type Tunnel = PeerTunnel['tunnel']

const external = {
  name: 'eth0',
  index: 2,
  mtu: 1500,
  address: '192.0.2.9',
  externalAddress: '192.0.2.9',
  address6: null,
  externalAddress6: null,
  notes: [],
}

const FACTS = {
  published: async () => null,
  whyNoVxlan: async () => null,
  runCommand: async () => '',
}

/** The only tunnel of a backend. */
async function tunnelOf(backend: object): Promise<Tunnel> {
  const config = parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', Backend: backend }))
  return (await createBackend(config, external, FACTS)).tunnels[0]!
}

const UDP = await tunnelOf({ Type: 'udp' })

const textOf = ({ addr, len }: RoutePrefix): string =>
  typeof addr === 'number' ? formatPrefix4({ addr, len }) : formatPrefix6({ addr, len })

function create(tunnel = UDP, own = OWN) {
  const calls: string[] = []
  const routes = new Set<string>()
  const dataplane: PeerTunnel['dataplane'] = {
    setRoute(prefix, peer) {
      const to = typeof peer === 'string' ? peer : `${peer.address}:${peer.port}`
      calls.push(`set ${textOf(prefix)} ${to}`)
      routes.add(textOf(prefix))
    },
    removeRoute(prefix) {
      calls.push(`remove ${textOf(prefix)}`)
      return routes.delete(textOf(prefix))
    },
  }
  const { log, lines } = recordedLog()
  return {
    peers: new Peers({ tunnels: [{ tunnel, dataplane }], kernel: [], hooks: null }, own, log),
    calls,
    lines,
  }
}

t.test('added, changed, removed', async (t) => {
  const { peers, calls, lines } = create()
  peers.apply(changes({ added: [B, A] }))
  t.same(calls, ['set 10.5.2.0/24 192.0.2.2:8285', 'set 10.5.1.0/24 192.0.2.1:8285'])
  t.match(
    peers.describe().map((peer) => `${peer.subnet} ${peer.publicIP}`),
    ['10.5.1.0/24 192.0.2.1', '10.5.2.0/24 192.0.2.2'],
    'in the order of their subnets',
  )
  const moved = leaseOf('10.5.1.0-24', '192.0.2.77')
  peers.apply(changes({ changed: [{ before: A, after: moved }] }))
  t.equal(calls[2], 'set 10.5.1.0/24 192.0.2.77:8285')
  peers.apply(changes({ removed: [moved] }))
  t.equal(calls[3], 'remove 10.5.1.0/24')
  t.same(
    peers.describe().map((peer) => peer.subnet),
    ['10.5.2.0/24'],
  )
  t.same(lines, [
    'I Subnet added: 10.5.2.0/24 via 192.0.2.2',
    'I Subnet added: 10.5.1.0/24 via 192.0.2.1',
    'I Subnet added: 10.5.1.0/24 via 192.0.2.77',
    'I Subnet removed: 10.5.1.0/24',
  ])
})

t.test('what goes is gone before what comes is there', async (t) => {
  const { peers, calls } = create()
  peers.apply(changes({ added: [A] }))
  peers.apply(changes({ added: [leaseOf('10.5.0.0-16', '192.0.2.3')], removed: [A] }))
  t.match(calls.slice(1), [/^remove 10\.5\.1\.0/, /^remove 10\.5\.0\.0/])
})

t.test('renewed: another expiry, the same age, no route touched', async (t) => {
  const { peers, calls, lines } = create()
  peers.apply(changes({ added: [A] }))
  await new Promise((resolve) => setTimeout(resolve, 30))
  const expiresAt = Date.now() + 86_400_000
  peers.apply(changes({ renewed: [{ ...A, expiresAt }, B] }))
  const [only, ...others] = peers.describe()
  t.equal(only?.expiresAt, new Date(expiresAt).toISOString())
  t.ok(only!.ageSeconds >= 0.029, `${only!.ageSeconds} s`)
  t.same(others, [], 'one that was not taken as a peer does not become one')
  t.equal(calls.length, 1)
  t.equal(lines.length, 1)
  peers.apply(changes({ renewed: [{ ...A, expiresAt: null }] }))
  t.equal(peers.describe()[0]?.expiresAt, null, 'a reservation by now')
})

t.test('leases that cannot be a peer’s', async (t) => {
  for (const [key, publicIP, says] of [
    ['10.5.9.128-25', '192.0.2.1', /overlaps our own subnet 10\.5\.9\.0\/24/],
    ['10.5.8.0-23', '192.0.2.1', /overlaps our own subnet/],
    ['10.5.1.0-24', '0.0.0.0', /0\.0\.0\.0 cannot be sent to/],
    ['10.5.1.0-24', '127.0.0.1', /cannot be sent to/],
    ['10.5.1.0-24', '224.0.0.1', /cannot be sent to/],
    ['10.5.1.0-24', '255.255.255.255', /cannot be sent to/],
  ] as const) {
    const { peers, calls, lines } = create()
    peers.apply(changes({ added: [leaseOf(key, publicIP)] }))
    t.notOk(
      calls.some((call) => call.startsWith('set')),
      `${key} ${publicIP}`,
    )
    t.same(peers.describe(), [])
    t.match(lines, [says])
  }
  const { peers, calls } = create()
  peers.apply(changes({ added: [A] }))
  peers.apply(changes({ changed: [{ before: A, after: leaseOf('10.5.1.0-24', '127.0.0.1') }] }))
  t.same(calls.at(-1), 'remove 10.5.1.0/24', 'a peer that becomes one loses its route')
  t.same(peers.describe(), [])
})

t.test('F56 a lease of another backend is a peer, as for flannel’s udp', async (t) => {
  const { peers, calls } = create()
  const attrs = { ...A.attrs, backendType: 'vxlan', backendData: { VNI: 1 } }
  peers.apply(changes({ added: [{ ...A, attrs }] }))
  t.same(calls, ['set 10.5.1.0/24 192.0.2.1:8285'])
})

t.test('F56 with vxlan a lease of another backend, or without a VtepMAC, is no peer', async (t) => {
  const { peers, calls, lines } = create(await tunnelOf({ Type: 'vxlan' }))
  const vxlan = (backendData: unknown) => ({
    ...A,
    attrs: { ...A.attrs, backendType: 'vxlan', backendData },
  })
  peers.apply(changes({ added: [vxlan({ VtepMAC: 'c6:d2:32:6f:8f:44' })] }))
  t.same(calls, ['set 10.5.1.0/24 192.0.2.1:8472'])
  const refused: readonly (readonly [ReturnType<typeof vxlan>, RegExp])[] = [
    [
      { ...A, attrs: { ...A.attrs, backendData: undefined } },
      /its backend type is none, as of udp/,
    ],
    [{ ...A, attrs: { ...vxlan({}).attrs, backendType: 'host-gw' } }, /type is "host-gw"/],
    [vxlan({ VNI: 1 }), /no VtepMAC/],
    [vxlan(null), /no VtepMAC/],
    [vxlan({ VtepMAC: 'ff:ff:ff:ff:ff:ff' }), /no MAC address of a host/],
    [vxlan({ VtepMAC: 'c6:d2' }), /VtepMAC "c6:d2" is no MAC address/],
  ]
  for (const [lease, why] of refused) {
    peers.apply(changes({ changed: [{ before: A, after: lease }] }))
    t.equal(calls.at(-1), 'remove 10.5.1.0/24')
    t.ok(
      lines.some((line) => why.test(line)),
      String(why),
    )
    t.same(peers.describe(), [])
  }
})

t.test('IPv6: both subnets of a lease, and peers that take none', async (t) => {
  const dual = { ...UDP, ipv6: true, takesIpv6: (attrs: object) => 'backendV6Data' in attrs }
  const { peers, calls, lines } = create(dual, parseSubnetKey('10.5.9.0-24&fd05:0:0:9::-64')!)
  const lease = leaseOf('10.5.1.0-24&fd05:0:0:1::-64', '192.0.2.1')
  const declared = { ...lease, attrs: { ...lease.attrs, backendV6Data: { IPv6: true } } }
  peers.apply(changes({ added: [lease] }))
  t.same(calls.splice(0), ['set 10.5.1.0/24 192.0.2.1:8285', 'set fd05:0:0:1::/64 no-ipv6'])
  peers.apply(changes({ changed: [{ before: lease, after: declared }] }))
  t.same(calls.splice(0), ['set 10.5.1.0/24 192.0.2.1:8285', 'set fd05:0:0:1::/64 192.0.2.1:8285'])
  peers.apply(changes({ removed: [declared] }))
  t.same(calls.splice(0), ['remove 10.5.1.0/24', 'remove fd05:0:0:1::/64'])
  t.match(lines.at(-1), 'Subnet removed: 10.5.1.0/24,fd05:0:0:1::/64')
  peers.apply(changes({ added: [leaseOf('10.5.1.0-24&fd05:0:0:9::-65', '192.0.2.1')] }))
  t.match(lines.at(-1), 'it overlaps our own subnet fd05:0:0:9::/64')
})

t.test('leases of IPv6 alone are peers in networks of IPv6 alone, and nowhere else', async (t) => {
  const [dual, only6] = ['10.5.9.0-24&fd05:0:0:9::-64', '0.0.0.0-0&fd05:0:0:9::-64']
  const both = { ...UDP, ipv6: true, takesIpv6: () => true }
  const six = leaseOf('0.0.0.0-0&fd05:0:0:1::-64', '192.0.2.1')
  for (const [own, tunnel, lease, says] of [
    ['10.5.9.0-24', UDP, six, /ignoring lease fd05:0:0:1::\/64: it is of an IPv6-only network/],
    [dual, both, six, /it is of an IPv6-only network, and this one has IPv4/],
    [only6, { ...both, ipv4: false }, A, /it has IPv4, and this network is IPv6-only/],
    [only6, { ...both, ipv4: false }, leaseOf(dual.replaceAll('9', '8'), '192.0.2.1'), /has IPv4/],
  ] as const) {
    const { peers, calls, lines } = create(tunnel, parseSubnetKey(own)!)
    peers.apply(changes({ added: [lease] }))
    peers.apply(changes({ renewed: [lease] }))
    t.notOk(
      calls.some((call) => call.startsWith('set')),
      `${own}: no route`,
    )
    t.match(lines, [says], 'one warning')
  }
  const { peers, calls } = create({ ...both, ipv4: false }, parseSubnetKey(only6)!)
  peers.apply(changes({ added: [six] }))
  t.same(calls, ['set fd05:0:0:1::/64 192.0.2.1:8285'])
})

t.test('the kernel and the hooks are told of the same peers, in their order', async (t) => {
  const { log } = recordedLog()
  const config = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}')
  const { kernel } = await createBackend(config, external, FACTS)
  const told: string[] = []
  const hooks: Hooks = {
    path: kernel[0]!,
    leased: async () => undefined,
    added: async (lease) => void told.push(`added ${lease.attrs.publicIP}`),
    removed: async (lease) => void told.push(`removed ${lease.attrs.publicIP}`),
  }
  const peers = new Peers({ tunnels: [], kernel, hooks }, OWN, log)
  const of = (key: string, publicIP: string, backendType = 'host-gw') =>
    leaseOf(key, publicIP, { attrs: { publicIP, publicIPv6: null, backendType } })
  const [a, b] = [of('10.5.1.0-24', '192.0.2.1'), of('10.5.2.0-24', '192.0.2.2')]
  peers.apply(changes({ added: [a, b, of('10.5.3.0-24', '192.0.2.3', 'vxlan')] }))
  t.same(reachedOf(peers.leases(), kernel), [
    { address: '192.0.2.1', destination: '10.5.1.0/24', base: '10.5.1.0' },
    { address: '192.0.2.2', destination: '10.5.2.0/24', base: '10.5.2.0' },
  ])
  const moved = of('10.5.1.0-24', '192.0.2.9')
  const alien = of('10.5.2.0-24', '192.0.2.2', 'vxlan')
  peers.apply(
    changes({
      changed: [
        { before: a, after: moved },
        { before: b, after: alien },
      ],
    }),
  )
  peers.apply(changes({ removed: [moved, alien] }))
  t.same(reachedOf(peers.leases(), kernel), [])
  t.same(told, [
    'added 192.0.2.1',
    'added 192.0.2.2',
    'added 192.0.2.9',
    'removed 192.0.2.2',
    'removed 192.0.2.9',
  ])
})

t.test('with alloc, which has no paths, peers are known all the same', async (t) => {
  const { log, lines } = recordedLog()
  const peers = new Peers({ tunnels: [], kernel: [], hooks: null }, OWN, log)
  peers.apply(changes({ added: [A] }))
  t.equal(peers.describe().length, 1)
  peers.apply(changes({ removed: [A] }))
  t.same(lines, ['I Subnet added: 10.5.1.0/24 via 192.0.2.1', 'I Subnet removed: 10.5.1.0/24'])
})
