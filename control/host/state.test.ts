/**
 * Desired kernel state and its difference from what is there: tables of both.
 */
import t from 'tap'
import { parsePrefix4, parsePrefix6 } from '../prefix.js'
import { difference, type Change } from './difference.js'
import { NO_IPV4 } from '../lease.js'
import {
  blackholes,
  desiredForTun,
  NOTHING,
  together,
  type HostState,
  type RouteState,
} from './state.js'

const desired = desiredForTun(
  'flannel0',
  1472,
  { network: parsePrefix4('10.5.0.0/16')!, subnet: parsePrefix4('10.5.72.0/24')! },
  null,
)

t.same(desired, {
  ...NOTHING,
  networks: ['10.5.0.0/16'],
  links: [{ name: 'flannel0', mtu: 1472, isUp: true }],
  addresses: [{ device: 'flannel0', address: '10.5.72.0/32' }],
  routes: [{ destination: '10.5.0.0/16', device: 'flannel0' }],
})

/** The host's other state, which must never be touched. */
const others: HostState = {
  ...NOTHING,
  links: [
    { name: 'lo', mtu: 65536, isUp: true },
    { name: 'eth0', mtu: 1500, isUp: true },
  ],
  addresses: [{ device: 'eth0', address: '172.30.0.11/24' }],
  routes: [
    { destination: '0.0.0.0/0', device: 'eth0' },
    { destination: '172.30.0.0/24', device: 'eth0' },
  ],
}

function withOthers(state: Partial<HostState>): HostState {
  return {
    ...NOTHING,
    ...state,
    links: [...others.links, ...(state.links ?? [])],
    addresses: [...others.addresses, ...(state.addresses ?? [])],
    routes: [...others.routes, ...(state.routes ?? [])],
  }
}

const add: Change = {
  kind: 'address-add',
  address: { device: 'flannel0', address: '10.5.72.0/32' },
}
const set: Change = { kind: 'link-set', link: { name: 'flannel0', mtu: 1472, isUp: true } }
const route: Change = {
  kind: 'route-add',
  route: { destination: '10.5.0.0/16', device: 'flannel0' },
}

const cases: readonly { name: string; actual: HostState; want: readonly Change[] }[] = [
  { name: 'everything is there', actual: withOthers(desired), want: [] },
  {
    name: 'a fresh device: link, address, route, in this order',
    actual: withOthers({ links: [{ name: 'flannel0', mtu: 1500, isUp: false }] }),
    want: [set, add, route],
  },
  {
    name: 'the link was set down',
    actual: withOthers({ ...desired, links: [{ name: 'flannel0', mtu: 1472, isUp: false }] }),
    want: [set],
  },
  {
    name: 'the MTU was changed',
    actual: withOthers({ ...desired, links: [{ name: 'flannel0', mtu: 1400, isUp: true }] }),
    want: [set],
  },
  { name: 'the address is gone', actual: withOthers({ ...desired, addresses: [] }), want: [add] },
  { name: 'the route is gone', actual: withOthers({ ...desired, routes: [] }), want: [route] },
  {
    name: 'a stranger address on our device goes',
    actual: withOthers({
      ...desired,
      addresses: [...desired.addresses, { device: 'flannel0', address: '10.5.9.0/32' }],
    }),
    want: [{ kind: 'address-remove', address: { device: 'flannel0', address: '10.5.9.0/32' } }],
  },
]
for (const { name, actual, want } of cases) {
  t.test(name, async (t) => {
    t.same(difference(desired, actual), { changes: want, conflicts: [] })
  })
}

t.test("somebody else's route for the network is a conflict, not a change", async (t) => {
  const found = { destination: '10.5.0.0/16', device: 'eth0' }
  t.same(difference(desired, withOthers({ ...desired, routes: [found] })), {
    changes: [],
    conflicts: [{ wanted: desired.routes[0], found }],
  })
})

t.test(
  'IPv6 beside IPv4: a device without a link-local address, both addresses, both routes',
  async (t) => {
    const both = desiredForTun(
      'flannel0',
      1472,
      { network: parsePrefix4('10.5.0.0/16')!, subnet: parsePrefix4('10.5.72.0/24')! },
      { network: parsePrefix6('fd05::/48')!, subnet: parsePrefix6('fd05:0:0:7::/64')! },
    )
    t.same(both, {
      ...NOTHING,
      networks: ['10.5.0.0/16', 'fd05::/48'],
      links: [{ name: 'flannel0', mtu: 1472, isUp: true, hasLinkLocal: false }],
      addresses: [
        { device: 'flannel0', address: '10.5.72.0/32' },
        { device: 'flannel0', address: 'fd05:0:0:7::/128' },
      ],
      routes: [
        { destination: '10.5.0.0/16', device: 'flannel0' },
        { destination: 'fd05::/48', device: 'flannel0' },
      ],
    })
    const links = [{ name: 'flannel0', mtu: 1472, isUp: true, hasLinkLocal: true }]
    t.same(difference(both, withOthers({ ...both, links })).changes, [
      { kind: 'link-set', link: both.links[0] },
    ])
    const four = { ...desired, links: [{ ...desired.links[0]!, hasLinkLocal: true }] }
    t.same(
      difference(desired, withOthers(four)).changes,
      [],
      'where there is no IPv6 it does not matter',
    )
    const six = desiredForTun('flannel-v6.1', 1430, null, {
      network: parsePrefix6('fd05::/48')!,
      subnet: parsePrefix6('fd05:0:0:7::/64')!,
    })
    t.same(difference(together([desired, six]), withOthers(together([desired, six]))).changes, [])
  },
)

t.test('a blackhole stands beside a route to the same subnet', async (t) => {
  const subnet = { v4: parsePrefix4('10.5.72.0/24')!, v6: parsePrefix6('fd05:0:0:7::/64') }
  const [hole, hole6] = blackholes(subnet) as [RouteState, RouteState]
  t.same(hole, { destination: '10.5.72.0/24', device: '', isBlackhole: true })
  t.equal(hole6.destination, 'fd05:0:0:7::/64')
  t.same(blackholes({ v4: NO_IPV4, v6: subnet.v6 }), [hole6])
  const wanted = together([desired, { ...NOTHING, routes: [hole] }])
  const is = (...routes: RouteState[]) =>
    withOthers({ ...desired, routes: [...desired.routes, ...routes] })
  const bridge = { destination: hole.destination, device: 'cni0' }
  const ours: RouteState = { ...hole, isOurs: true }
  const add = { changes: [{ kind: 'route-add', route: hole }], conflicts: [] }
  const none = { changes: [], conflicts: [] }
  t.same(difference(wanted, is()), add)
  t.same(difference(wanted, is(bridge)), add)
  t.same(difference(wanted, is(bridge, ours)), none)
  t.same(difference(wanted, is(hole)), none, 'flannel has made it')
  const remove = { changes: [{ kind: 'route-remove', route: ours }], conflicts: [] }
  t.same(difference(desired, is(bridge, ours)), remove)
  t.same(difference(desired, is(bridge, hole)), none, 'that of somebody else stays')
})

t.test(
  'routes past the tunnel: made, corrected, removed with their peer; those of others stay',
  async (t) => {
    const direct = { destination: '10.5.2.0/24', device: 'eth0', via: '172.30.0.12' }
    const wanted = together([desired, { ...NOTHING, routes: [direct] }])
    const changes = (...routes: RouteState[]) =>
      difference(wanted, withOthers({ ...desired, routes: [...desired.routes, ...routes] })).changes
    const replace = [{ kind: 'route-replace', route: direct }]
    t.same(changes(), replace)
    t.same(changes({ ...direct, isOurs: true }), [])
    t.same(changes(direct), replace, 'flannel has made it: it is ours from now on')
    t.same(changes({ ...direct, via: '172.30.0.13', isOurs: true }), replace)
    t.same(changes({ destination: '10.5.2.0/24', device: 'flannel.1' }), replace)
    const there = { ...direct, isOurs: true }
    const gone = { destination: '10.5.3.0/24', device: 'eth0', via: '172.30.0.13', isOurs: true }
    t.same(changes(there, gone), [{ kind: 'route-remove', route: gone }])
    t.same(
      difference(
        wanted,
        withOthers({ ...desired, routes: [...desired.routes, there, gone] }),
        false,
      ).changes,
      [],
      'while not all peers are known it stays',
    )
    t.same(changes(there, { ...gone, isOurs: false }), [])
    t.same(changes(there, { ...gone, destination: '10.6.3.0/24' }), [], 'of another network')
  },
)

t.test(
  'two leases with one MAC address, as of a host that moved: the last one counts',
  async (t) => {
    const device = 'flannel.1'
    const vxlan = {
      vni: 1,
      lower: 'eth0',
      local: '172.30.0.11',
      port: 8472,
      learning: false,
      gbp: false,
    }
    const link = { name: device, mtu: 1450, isUp: true, mac: '0e:00:00:00:00:01', vxlan }
    const entry = (host: string) => ({ device, mac: '0e:00:00:00:00:02', host })
    const [old, now] = [entry('172.30.0.12'), entry('172.30.0.99')]
    const wanted = { ...NOTHING, links: [link], forwarding: [old, now] }
    const changes = (...forwarding: (typeof old)[]) =>
      difference(wanted, { ...NOTHING, links: [link], forwarding }).changes
    t.same(changes(), [{ kind: 'forwarding-set', entry: now }])
    t.same(changes(old), [{ kind: 'forwarding-set', entry: now }])
    t.same(changes(now), [], 'and stays')
  },
)
