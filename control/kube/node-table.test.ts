import * as fc from 'fast-check'
import t from 'tap'
import { LeaseWatcher } from '../lease-watcher.js'
import { parseNetworkConfig } from '../network-config.js'
import { formatSubnetKey, parseSubnetKey } from '../subnet-key.js'
import { annotationNames } from './annotations.js'
import { leaseOfNode, readNode, type KubeNode } from './node.js'
import { NodeTable } from './node-table.js'

const NAMES = annotationNames('f.io')
const IPV4 = parseNetworkConfig('{"Network":"10.244.0.0/16"}', 'assigned')
const DUAL = parseNetworkConfig(
  '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}',
  'assigned',
)
const IPV6 = parseNetworkConfig(
  '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}',
  'assigned',
)

const nodeOf = (
  podCIDRs: readonly string[],
  more: Readonly<Record<string, string>> = {},
  name = 'n',
): KubeNode => ({
  name,
  uid: 'u',
  resourceVersion: '7',
  podCIDRs,
  annotations: new Map(
    Object.entries({ 'kube-subnet-manager': 'true', 'public-ip': '192.0.2.1', ...more }).map(
      ([key, value]) => [`f.io/${key}`, value],
    ),
  ),
})

t.test('a node is read from whatever the server says', (t) => {
  const spec = { podCIDR: '10.244.1.0/24' }
  const metadata = { name: 'n', uid: 'u', resourceVersion: '7', annotations: { a: 'b' } }
  const plain = { name: 'n', uid: 'u', resourceVersion: '7', annotations: new Map([['a', 'b']]) }
  t.same(readNode({ metadata, spec }), { ...plain, podCIDRs: ['10.244.1.0/24'] })
  const both = { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00::/64'] }
  t.same(readNode({ metadata, spec: both })?.podCIDRs, ['10.244.1.0/24', 'fd00::/64'])
  t.same(readNode({ metadata: { name: 'n' } })?.podCIDRs, [])
  fc.assert(
    fc.property(fc.anything(), (value) => {
      const node = readNode(value)
      return node === null || typeof node.name === 'string'
    }),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('the lease of a node', (t) => {
  const key = (node: KubeNode, config = IPV4): string => {
    const lease = leaseOfNode(node, NAMES, config)
    if (lease === null) return 'none'
    return 'fault' in lease ? lease.fault : formatSubnetKey(lease.subnet)
  }
  const dual = ['10.244.1.0/24', 'fd00:0:0:1::/64']
  t.equal(key(nodeOf(dual)), '10.244.1.0-24', 'of IPv4 what the network has')
  t.equal(key(nodeOf(dual), DUAL), '10.244.1.0-24&fd00:0:0:1::-64')
  t.equal(key(nodeOf([...dual].reverse()), DUAL), '10.244.1.0-24&fd00:0:0:1::-64')
  t.equal(key(nodeOf(dual), IPV6), '0.0.0.0-0&fd00:0:0:1::-64')
  t.equal(key(nodeOf(['10.244.1.0/24']), DUAL), '10.244.1.0-24', 'a peer of IPv4 alone')
  t.equal(key(nodeOf(dual, { 'kube-subnet-manager': 'false' })), 'none')
  t.match(key(nodeOf([])), /no subnet/)
  t.match(key(nodeOf(['x'])), /podCIDRs are \["x"\]/)
  t.match(key(nodeOf(['0.0.0.0/0'])), /no subnet/)
  t.match(key(nodeOf([...dual, '10.244.2.0/24'])), /more than two podCIDRs/)
  t.match(key(nodeOf(['10.244.1.0/24']), IPV6), /no subnet/)
  t.match(key(nodeOf(dual, { 'public-ip': '<nil>' })), /public-ip is "<nil>"/)
  t.match(key(nodeOf(dual, { 'public-ipv6': '1.2.3.4' })), /public-ipv6 is/)
  t.match(key(nodeOf(dual, { 'backend-data': '{' })), /backend-data is "{"/)
  t.match(
    leaseOfNode(
      nodeOf(dual, { 'backend-data': 'null', 'backend-v6-data': '{"a":1}' }),
      NAMES,
      DUAL,
    ),
    {
      attrs: { publicIP: '192.0.2.1', publicIPv6: null, backendType: '', backendV6Data: { a: 1 } },
      expiresAt: null,
    },
  )
  t.end()
})

const NAMES_OF_NODES = ['a', 'b', 'c', 'own'] as const
const OWN = '10.244.0.0-24'

const anyNode = fc
  .record({
    name: fc.constantFrom(...NAMES_OF_NODES),
    net: fc.integer({ min: 0, max: 3 }),
    ip: fc.constantFrom('192.0.2.1', '192.0.2.2', 'garbage'),
    managed: fc.constantFrom('true', 'true', 'true', 'false'),
  })
  .map(({ name, net, ip, managed }) =>
    nodeOf(
      [`10.244.${String(net)}.0/24`],
      { 'public-ip': ip, 'kube-subnet-manager': managed },
      name,
    ),
  )

type Step =
  | { readonly kind: 'put'; readonly node: KubeNode }
  | { readonly kind: 'remove'; readonly name: string }
  /** A list, after a node went unseen. */
  | { readonly kind: 'reset'; readonly lost: string | null }

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: anyNode.map((node): Step => ({ kind: 'put', node })) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(...NAMES_OF_NODES).map((name): Step => ({ kind: 'remove', name })),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(null, ...NAMES_OF_NODES)
      .map((lost): Step => ({ kind: 'reset', lost })),
  },
)

t.test('whatever nodes do, the events add up to what is there', (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40 }), (steps) => {
      const subnet = parseSubnetKey(OWN)!
      let seen: KubeNode | null = null
      const onSeen = (node: KubeNode | null) => {
        seen = node
      }
      const options = {
        names: NAMES,
        families: IPV4,
        own: { name: 'own', subnet, onSeen },
        observer: {},
      }
      const table = new NodeTable(options)
      const watcher = new LeaseWatcher(null)
      const nodes = new Map<string, KubeNode>()
      watcher.apply(table.reset([]))
      for (const step of steps) {
        if (step.kind === 'put') {
          nodes.set(step.node.name, step.node)
          for (const event of table.put(step.node)) watcher.apply(event)
        } else if (step.kind === 'remove') {
          nodes.delete(step.name)
          for (const event of table.remove(step.name)) watcher.apply(event)
        } else {
          if (step.lost !== null) nodes.delete(step.lost)
          watcher.apply(table.reset([...nodes.values()]))
        }
        // The slow twin: every subnet that some node claims has one of those nodes' addresses.
        const claims = new Map<string, string[]>()
        for (const node of nodes.values()) {
          const lease = leaseOfNode(node, NAMES, IPV4)
          if (lease === null || 'fault' in lease) continue
          const key = formatSubnetKey(lease.subnet)
          if (node.name === 'own' && key !== OWN) continue
          claims.set(key, [...(claims.get(key) ?? []), lease.attrs.publicIP])
        }
        const known = new Map(
          watcher.peers.map(({ subnet, attrs }) => [formatSubnetKey(subnet), attrs.publicIP]),
        )
        if (known.size !== claims.size) return false
        if (seen !== (nodes.get('own') ?? null)) return false
        // What is claimed by this host is this host's.
        const own = nodes.get('own')
        const ownLease = own === undefined ? null : leaseOfNode(own, NAMES, IPV4)
        if (
          ownLease !== null &&
          !('fault' in ownLease) &&
          formatSubnetKey(ownLease.subnet) === OWN
        ) {
          if (known.get(OWN) !== ownLease.attrs.publicIP) return false
        }
        for (const [key, ips] of claims) if (!ips.includes(known.get(key) ?? '')) return false
      }
      return true
    }),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('a subnet is of the node that had it first', (t) => {
  const told: string[] = []
  const table = new NodeTable({
    names: NAMES,
    families: IPV4,
    own: { name: 'own', subnet: parseSubnetKey(OWN)!, onSeen: () => undefined },
    observer: { onSkip: (what, why) => told.push(`${what}: ${why}`) },
  })
  const subnet = ['10.244.1.0/24']
  const [a, b] = [nodeOf(subnet, {}, 'a'), nodeOf(subnet, { 'public-ip': '192.0.2.2' }, 'b')]
  table.reset([])
  t.match(table.put(a), [{ type: 'put', lease: { attrs: { publicIP: '192.0.2.1' } } }])
  t.same(table.put(b), [])
  t.same(table.put(a), [], 'nothing new')
  t.same(told, ["node b: its subnet 10.244.1.0/24 is a's"])
  t.match(table.reset([b, a]), { leases: [{ attrs: { publicIP: '192.0.2.1' } }] }, 'kept')
  t.match(table.remove('a'), [{ type: 'put', lease: { attrs: { publicIP: '192.0.2.2' } } }])
  t.match(table.remove('b'), [{ type: 'delete' }])
  t.same(table.remove('b'), [])
  const thief = nodeOf(['10.244.0.0/24'], { 'public-ip': '192.0.2.9' }, 'thief')
  t.match(table.put(thief), [{ lease: { attrs: { publicIP: '192.0.2.9' } } }])
  const own = nodeOf(['10.244.0.0/24'], {}, 'own')
  t.match(
    table.put(own),
    [{ lease: { attrs: { publicIP: '192.0.2.1' } } }],
    'the own is nobody else’s',
  )
  t.equal(told.at(-1), "node thief: its subnet 10.244.0.0/24 is own's")
  t.match(table.reset([thief, own]), { leases: [{ attrs: { publicIP: '192.0.2.1' } }] })
  t.match(table.remove('own'), [{ type: 'put', lease: { attrs: { publicIP: '192.0.2.9' } } }])
  t.end()
})
