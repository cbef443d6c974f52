/**
 * From changes of leases to routes, and to what the status shows.
 */
import t from 'tap'
import type { PeerEndpoint, RoutePrefix } from '../dataplane/index.js'
import type { LeaseChanges } from './lease-watcher.js'
import { createBackend, type Backend } from './backend.js'
import { parseNetworkConfig } from './network-config.js'
import { Peers } from './peers.js'
import { formatPrefix4, formatPrefix6 } from './prefix.js'
import { leaseOf, recordedLog } from './scripted-store.js'
import { parseSubnetKey } from './subnet-key.js'

const OWN = parseSubnetKey('10.5.9.0-24')!
const A = leaseOf('10.5.1.0-24', '192.0.2.1')
const B = leaseOf('10.5.2.0-24', '192.0.2.2')

function changes(some: Partial<LeaseChanges>): LeaseChanges {
  return { added: [], changed: [], renewed: [], removed: [], own: null, ...some }
}

const UDP: Pick<Backend, 'reach'> = {
  reach: ({ publicIP }) => ({ address: publicIP, port: 8285 }),
}

function textOf({ addr, len }: RoutePrefix): string {
  return typeof addr === 'number' ? formatPrefix4({ addr, len }) : formatPrefix6({ addr, len })
}

function create(backend = UDP, own = OWN) {
  const calls: string[] = []
  const routes = new Set<string>()
  const dataplane = {
    setRoute(prefix: RoutePrefix, peer: PeerEndpoint | 'no-ipv6') {
      const to = peer === 'no-ipv6' ? peer : `${peer.address}:${peer.port}`
      calls.push(`set ${textOf(prefix)} ${to}`)
      routes.add(textOf(prefix))
    },
    removeRoute(prefix: RoutePrefix) {
      calls.push(`remove ${textOf(prefix)}`)
      return routes.delete(textOf(prefix))
    },
  }
  const { log, lines } = recordedLog()
  return { peers: new Peers(dataplane, own, backend, log), calls, lines }
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
  const config = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
  const external = {
    name: 'eth0',
    index: 2,
    mtu: 1500,
    ipv4: { local: '192.0.2.9', external: '192.0.2.9' },
    ipv6: null,
  }
  const backend = await createBackend(config, { ...external, notes: [] }, async () => [])
  const { peers, calls, lines } = create(backend)
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

const DUAL = parseSubnetKey('10.5.9.0-24&fd05:0:0:9::-64')!
const ONLY6 = parseSubnetKey('0.0.0.0-0&fd05:0:0:9::-64')!
/** Takes IPv6 of hosts with a PublicIPv6, as `vxlan` does. */
const BOTH: Pick<Backend, 'reach'> = {
  reach: ({ publicIP, publicIPv6 }, inner) => {
    if (inner === 'ipv4') return { address: publicIP, port: 8472 }
    return publicIPv6 === null ? { fault: 'no PublicIPv6' } : { address: publicIPv6, port: 8472 }
  },
}

function dual(publicIPv6: string | null, key = '10.5.1.0-24&fd05:0:0:1::-64', host = '192.0.2.1') {
  const lease = leaseOf(key, host)
  return { ...lease, attrs: { ...lease.attrs, publicIPv6 } }
}

t.test('F22 dual stack: both families, each by itself', async (t) => {
  const { peers, calls, lines } = create(BOTH, DUAL)
  peers.apply(changes({ added: [dual('fd30::1'), B] }))
  t.same(calls, [
    'set 10.5.1.0/24 192.0.2.1:8472',
    'set fd05:0:0:1::/64 fd30::1:8472',
    'set 10.5.2.0/24 192.0.2.2:8472',
  ])
  t.equal(peers.describe()[0]?.subnet, '10.5.1.0/24,fd05:0:0:1::/64')
  peers.apply(changes({ changed: [{ before: dual('fd30::1'), after: dual(null) }] }))
  t.same(calls.slice(3), ['set 10.5.1.0/24 192.0.2.1:8472', 'remove fd05:0:0:1::/64'])
  t.match(lines.at(-2), /ignoring lease fd05:0:0:1::\/64: no PublicIPv6/)
  t.equal(peers.describe().length, 2, 'IPv4 stays')
  peers.apply(changes({ removed: [dual(null)] }))
  t.same(calls.slice(5), ['remove 10.5.1.0/24', 'remove fd05:0:0:1::/64'])
})

t.test('an IPv4 network leaves the IPv6 part of a lease alone', async (t) => {
  const { peers, calls } = create(BOTH)
  peers.apply(changes({ added: [dual('fd30::1')] }))
  t.same(calls, ['set 10.5.1.0/24 192.0.2.1:8472'])
})

t.test('a peer that takes no IPv6 has a route that says so', async (t) => {
  const { peers, calls } = create({ ...UDP, reach: flannelUdp }, DUAL)
  peers.apply(changes({ added: [dual(null)] }))
  t.same(calls, ['set 10.5.1.0/24 192.0.2.1:8285', 'set fd05:0:0:1::/64 no-ipv6'])
})

const flannelUdp: Backend['reach'] = ({ publicIP }, inner) =>
  inner === 'ipv6' ? 'no-ipv6' : { address: publicIP, port: 8285 }

t.test('IPv6-only leases are peers in IPv6-only networks alone', async (t) => {
  const six = dual('fd30::1', '0.0.0.0-0&fd05:0:0:1::-64', '0.0.0.0')
  for (const [own, lease, says] of [
    [OWN, six, /ignoring lease fd05:0:0:1::\/64: it is of an IPv6-only network/],
    [DUAL, six, /it is of an IPv6-only network, and this one has IPv4/],
    [ONLY6, dual('fd30::1'), /it has IPv4, and this network is IPv6-only/],
    [ONLY6, A, /it has IPv4/],
  ] as const) {
    const { peers, calls, lines } = create(BOTH, own)
    peers.apply(changes({ added: [lease] }))
    peers.apply(changes({ renewed: [lease] }))
    t.notOk(calls.some((call) => call.startsWith('set')))
    t.match(lines, [says], 'one warning')
    t.same(peers.describe(), [])
  }
  const { peers, calls, lines } = create(BOTH, ONLY6)
  peers.apply(changes({ added: [six] }))
  t.same(calls, ['set fd05:0:0:1::/64 fd30::1:8472'])
  t.same(lines, ['I Subnet added: fd05:0:0:1::/64 via fd30::1'])
})

t.test('IPv6 addresses that nothing can be sent to', async (t) => {
  for (const address of ['::', '::1', 'fe80::1', 'ff02::1']) {
    const { peers, calls, lines } = create(BOTH, DUAL)
    peers.apply(changes({ added: [dual(address)] }))
    t.same(calls.slice(1), ['remove fd05:0:0:1::/64'], address)
    t.match(lines[0], /cannot be sent to/)
  }
  const { calls, lines, peers } = create(BOTH, DUAL)
  peers.apply(changes({ added: [dual('fd30::1', '10.5.1.0-24&fd05:0:0:8::-61')] }))
  t.same(calls, ['remove 10.5.1.0/24', 'remove fd05:0:0:8::/61'])
  t.match(lines, [/overlaps our own subnet fd05:0:0:9::\/64/])
})
