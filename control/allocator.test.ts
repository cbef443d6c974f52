import fc from 'fast-check'
import t from 'tap'
import { chooseSubnet, type SubnetChoice } from './allocator.js'
import { formatSubnet, type Lease, type LeaseAttrs } from './lease.js'
import { parseNetworkConfig } from './network-config.js'
import { overlaps4, prefix4, size4 } from './prefix.js'
import { parseSubnetKey } from './subnet-key.js'

const V4 = parseNetworkConfig('{"Network":"10.3.0.0/16"}')
const DUAL = parseNetworkConfig(
  '{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}',
)

function lease(key: string, publicIP: string, publicIPv6: string | null = null): Lease {
  return {
    subnet: parseSubnetKey(key)!,
    attrs: { publicIP, publicIPv6, backendType: '' },
    expiresAt: null,
    version: '1',
    storeLease: '',
  }
}

type Over = Partial<Omit<Parameters<typeof chooseSubnet>[0], 'attrs'>> & Partial<LeaseAttrs>

function choose({ publicIP = '1.1.1.1', publicIPv6 = null, ...over }: Over): SubnetChoice {
  const attrs = { publicIP, publicIPv6, backendType: '' }
  const request = { config: V4, leases: [], attrs, previous: null, random: () => 0 }
  return chooseSubnet({ ...request, ...over })
}

function text(choice: SubnetChoice): string {
  switch (choice.kind) {
    case 'create':
      return `${choice.isPrevious ? 'previous' : 'create'} ${formatSubnet(choice.subnet)}`
    case 'exhausted':
      return 'exhausted'
    case 'reuse':
    case 'incompatible':
    case 'foreign':
      return `${choice.kind} ${formatSubnet(choice.lease.subnet)}`
  }
}

const subnet = (key: string) => parseSubnetKey(key)
const OTHER = '2.2.2.2'
const OWN = '1.1.1.1'

const CASES: readonly {
  name: string
  over: Parameters<typeof choose>[0]
  want: string
}[] = [
  { name: 'first of an empty network', over: {}, want: 'create 10.3.1.0/24' },
  { name: 'last of the hundred', over: { random: () => 0.999999 }, want: 'create 10.3.100.0/24' },
  {
    name: 'own lease',
    over: { leases: [lease('10.3.4.0-24', OTHER), lease('10.3.7.0-24', OWN)] },
    want: 'reuse 10.3.7.0/24',
  },
  {
    name: 'own lease of another backend',
    over: {
      leases: [
        {
          ...lease('10.3.7.0-24', OWN),
          attrs: { publicIP: OWN, publicIPv6: null, backendType: 'vxlan' },
        },
      ],
    },
    want: 'reuse 10.3.7.0/24',
  },
  {
    name: 'own lease wins over the previous subnet',
    over: { leases: [lease('10.3.7.0-24', OWN)], previous: subnet('10.3.6.0-24') },
    want: 'reuse 10.3.7.0/24',
  },
  {
    name: 'own lease outside the network',
    over: { leases: [lease('10.9.7.0-24', OWN)] },
    want: 'incompatible 10.9.7.0/24',
  },
  {
    name: 'own lease of another length',
    over: { leases: [lease('10.3.8.0-25', OWN)] },
    want: 'incompatible 10.3.8.0/25',
  },
  {
    name: 'own lease below SubnetMin',
    over: { leases: [lease('10.3.0.0-24', OWN)] },
    want: 'incompatible 10.3.0.0/24',
  },
  {
    name: 'own dual-stack lease in an IPv4 network',
    over: { leases: [lease('10.3.7.0-24&fc00:0:0:7::-64', OWN)] },
    want: 'incompatible 10.3.7.0/24,fc00:0:0:7::/64',
  },
  {
    name: 'own IPv4 lease in a dual-stack network',
    over: { config: DUAL, leases: [lease('10.3.7.0-24', OWN)] },
    want: 'incompatible 10.3.7.0/24',
  },
  {
    name: 'own lease at SubnetMin',
    over: { leases: [lease('10.3.1.0-24', OWN)] },
    want: 'reuse 10.3.1.0/24',
  },
  {
    name: 'own lease at SubnetMax',
    over: { leases: [lease('10.3.255.0-24', OWN)] },
    want: 'reuse 10.3.255.0/24',
  },
  {
    name: 'previous dual-stack subnet beside an IPv4 lease',
    over: {
      config: DUAL,
      leases: [lease('10.3.7.0-24', OTHER)],
      previous: subnet('10.3.6.0-24&fc00:0:0:6::-64'),
    },
    want: 'previous 10.3.6.0/24,fc00:0:0:6::/64',
  },
  {
    name: 'previous dual-stack subnet whose IPv6 part is taken',
    over: {
      config: DUAL,
      leases: [lease('10.3.7.0-24&fc00:0:0:6::-64', OTHER)],
      previous: subnet('10.3.6.0-24&fc00:0:0:6::-64'),
    },
    want: 'create 10.3.1.0/24,fc00:0:0:1::/64',
  },
  {
    name: 'own dual-stack lease',
    over: { config: DUAL, leases: [lease('10.3.7.0-24&fc00:0:0:7::-64', OWN)] },
    want: 'reuse 10.3.7.0/24,fc00:0:0:7::/64',
  },
  {
    name: 'previous subnet',
    over: { previous: subnet('10.3.6.0-24') },
    want: 'previous 10.3.6.0/24',
  },
  {
    name: 'previous subnet outside',
    over: { previous: subnet('10.4.1.0-24') },
    want: 'create 10.3.1.0/24',
  },
  {
    name: 'previous subnet of another host',
    over: { previous: subnet('10.3.6.0-24'), leases: [lease('10.3.6.0-24', OTHER)] },
    want: 'create 10.3.1.0/24',
  },
  {
    name: 'previous subnet inside a larger lease',
    over: { previous: subnet('10.3.6.0-24'), leases: [lease('10.3.6.0-23', OTHER)] },
    want: 'create 10.3.1.0/24',
  },
  {
    name: 'previous dual-stack subnet in an IPv4 network',
    over: { previous: subnet('10.3.6.0-24&fc00:0:0:6::-64') },
    want: 'previous 10.3.6.0/24',
  },
  {
    name: 'previous IPv4 subnet in a dual-stack network',
    over: { config: DUAL, previous: subnet('10.3.6.0-24') },
    want: 'create 10.3.1.0/24,fc00:0:0:1::/64',
  },
  {
    name: 'around leases of other lengths',
    over: {
      leases: [
        lease('10.3.1.128-25', OTHER),
        lease('10.3.2.0-23', OTHER),
        lease('10.3.2.0-24', OTHER),
      ],
    },
    want: 'create 10.3.4.0/24',
  },
  {
    name: 'a lease over everything',
    over: { leases: [lease('10.0.0.0-8', OTHER)] },
    want: 'exhausted',
  },
  {
    name: 'IPv6 alone exhausted',
    over: { config: DUAL, leases: [lease('10.9.0.0-24&fc00::-32', OTHER)] },
    want: 'exhausted',
  },
]

for (const { name, over, want } of CASES) {
  t.test(name, (t) => {
    t.equal(text(choose(over)), want)
    t.end()
  })
}

t.test('a network of IPv6 alone', async (t) => {
  const config = parseNetworkConfig(
    '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}',
  )
  const own = { config, publicIP: '0.0.0.0', publicIPv6: 'fd00::1' }
  t.equal(text(choose(own)), 'create fc00:0:0:1::/64')
  const first = lease('0.0.0.0-0&fc00:0:0:1::-64', '0.0.0.0', 'fd00::2')
  t.equal(text(choose({ ...own, leases: [first] })), 'create fc00:0:0:2::/64')
  const mine = lease('0.0.0.0-0&fc00:0:0:7::-64', '0.0.0.0', 'fd00::1')
  t.equal(text(choose({ ...own, leases: [first, mine] })), 'reuse fc00:0:0:7::/64', 'known by IPv6')
  const previous = subnet('0.0.0.0-0&fc00:0:0:9::-64')
  t.equal(text(choose({ ...own, previous })), 'previous fc00:0:0:9::/64')
  const foreign = lease('10.3.4.0-24', OTHER)
  t.equal(text(choose({ ...own, leases: [first, foreign] })), 'foreign 10.3.4.0/24')
  t.equal(text(choose({ leases: [first] })), 'create 10.3.1.0/24', 'its keys take no IPv4 subnet')
})

t.test('four subnets, three hosts at most', (t) => {
  const config = parseNetworkConfig('{"Network":"10.3.0.0/28"}')
  const leases: Lease[] = []
  for (const host of ['9.0.0.1', '9.0.0.2', '9.0.0.3']) {
    const choice = choose({ config, leases, publicIP: host, random: Math.random })
    if (choice.kind !== 'create') throw new Error(text(choice))
    leases.push({ ...lease('10.3.0.0-24', host), subnet: choice.subnet })
  }
  t.same(leases.map((l) => formatSubnet(l.subnet)).sort(), [
    '10.3.0.12/30',
    '10.3.0.4/30',
    '10.3.0.8/30',
  ])
  t.equal(choose({ config, leases, publicIP: '9.0.0.4' }).kind, 'exhausted')
  t.end()
})

t.test('equals the walk over every candidate', (t) => {
  const config = parseNetworkConfig('{"Network":"10.3.0.0/20","SubnetLen":26}')
  const { subnetMin, subnetMax, subnetLen } = config.ipv4!
  const prefixes = fc
    .tuple(fc.integer({ min: 0x0a02fe00, max: 0x0a031200 }), fc.integer({ min: 21, max: 31 }))
    .map(([addr, len]) => prefix4(addr, len))
  fc.assert(
    fc.property(
      fc.array(prefixes, { maxLength: 40 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (leased, at) => {
        const free: number[] = []
        for (let base = subnetMin; base <= subnetMax; base += size4(subnetLen)) {
          const candidate = { addr: base, len: subnetLen }
          if (free.length < 100 && !leased.some((l) => overlaps4(l, candidate))) free.push(base)
        }
        const leases = leased.map((v4) => ({
          ...lease('10.3.0.0-24', OTHER),
          subnet: { v4, v6: null },
        }))
        const choice = choose({ config, leases, random: () => at })
        const want = free[Math.floor(at * free.length)]
        return want === undefined
          ? choice.kind === 'exhausted'
          : choice.kind === 'create' && choice.subnet.v4.addr === want
      },
    ),
    { numRuns: 500 },
  )
  t.pass('for all leases tried')
  t.end()
})

t.test('a large network, nearly full, is decided quickly', (t) => {
  const config = parseNetworkConfig('{"Network":"10.0.0.0/8"}')
  const leases = Array.from({ length: 60_000 }, (_, i) => ({
    ...lease('10.3.0.0-24', OTHER),
    subnet: { v4: { addr: 0x0a000100 + i * 256, len: 24 }, v6: null },
  }))
  const started = performance.now()
  const choice = choose({ config, leases })
  const took = performance.now() - started
  // Testing each lease against each candidate would be 3.6e9 comparisons: tens of seconds.
  t.ok(took < 3000, `took ${took.toFixed(0)} ms`)
  t.equal(text(choice), 'create 10.234.97.0/24')
  t.end()
})
