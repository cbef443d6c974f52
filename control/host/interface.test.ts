import t from 'tap'
import { chooseInterface, type AddressInfo, type RouteInfo } from './interface.js'

function link(
  ifname: string,
  ifindex: number,
  addresses: readonly (string | AddressInfo['addr_info'][number])[],
  mtu = 1500,
): AddressInfo {
  return {
    ifname,
    ifindex,
    mtu,
    flags: ['UP'],
    addr_info: addresses.map((address) =>
      typeof address !== 'string'
        ? address
        : { family: address.includes(':') ? 'inet6' : 'inet', local: address, prefixlen: 24 },
    ),
  }
}

const LO = link('lo', 1, ['127.0.0.1', '::1'], 65536)
const ETH0 = link('eth0', 2, ['fe80::1', '192.0.2.1', '192.0.2.2'])
const ETH1 = link('eth1', 3, ['198.51.100.1', 'fd00::7'], 9000)
const BARE = link('bare', 4, ['fd00::9'])
const INTERFACES = [LO, ETH0, ETH1, BARE]
const ROUTES: readonly RouteInfo[] = [
  { dst: '192.0.2.0/24', dev: 'eth0' },
  { dst: 'default', dev: 'eth1' },
  { dst: 'default', dev: 'eth0' },
]

const ROUTES6: readonly RouteInfo[] = [
  { dst: 'default', dev: 'eth0' },
  { dst: 'default', dev: 'eth1' },
]
const FOUR = { ipv4: 'required', ipv6: 'unused' } as const
const SIX = { ipv4: 'unused', ipv6: 'required' } as const
const BOTH = { ipv4: 'required', ipv6: 'required' } as const
const MAYBE4 = { ipv4: 'optional', ipv6: 'required' } as const

function choose(over: Partial<Parameters<typeof chooseInterface>[0]>) {
  return chooseInterface({
    interfaces: INTERFACES,
    routes4: ROUTES,
    routes6: ROUTES6,
    needs: FOUR,
    ifaces: [],
    publicIP: null,
    publicIPv6: null,
    ...over,
  })
}

function text(over: Parameters<typeof choose>[0]): string {
  const { name, index, mtu, ipv4, ipv6 } = choose(over)
  const addresses = [ipv4, ipv6].map((has) => has && `${has.local} ${has.external}`)
  return [name, index, mtu, ...addresses.filter((has) => has !== null)].join(' ')
}

const CASES: readonly [string, Parameters<typeof choose>[0], string][] = [
  ['the first default route', {}, 'eth1 3 9000 198.51.100.1 198.51.100.1'],
  [
    'a default route as a prefix',
    { routes4: [{ dst: '0.0.0.0/0', dev: 'eth0' }] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  [
    'a multipath default route',
    { routes4: [{ dst: 'default', nexthops: [{}, { dev: 'eth0' }, { dev: 'eth1' }] }] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  [
    'a blackhole before it',
    { routes4: [{ dst: 'default' }, { dst: 'default', dev: 'eth0' }] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  ['--iface by name', { ifaces: ['eth0'] }, 'eth0 2 1500 192.0.2.1 192.0.2.1'],
  ['--iface by address', { ifaces: ['192.0.2.2'] }, 'eth0 2 1500 192.0.2.2 192.0.2.2'],
  ['--iface by loopback address', { ifaces: ['127.0.0.1'] }, 'lo 1 65536 127.0.0.1 127.0.0.1'],
  [
    'the first --iface that fits',
    { ifaces: ['nope', '203.0.113.1', 'bare', 'lo', 'eth0', 'eth1'] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  ['--public-ip alone chooses', { publicIP: '192.0.2.2' }, 'eth0 2 1500 192.0.2.2 192.0.2.2'],
  [
    '--public-ip with --iface is published only',
    { publicIP: '203.0.113.5', ifaces: ['eth0'] },
    'eth0 2 1500 192.0.2.1 203.0.113.5',
  ],
  ['--public-ipv6 without use', { publicIPv6: 'fd00::9' }, 'eth1 3 9000 198.51.100.1 198.51.100.1'],
  [
    'IPv6: the first default route whose interface has an address',
    { needs: SIX, routes6: [{ dst: 'default', dev: 'eth1' }] },
    'eth1 3 9000 fd00::7 fd00::7',
  ],
  ['IPv6: --iface by name', { needs: SIX, ifaces: ['bare'] }, 'bare 4 1500 fd00::9 fd00::9'],
  [
    'IPv6: --iface by address',
    { needs: SIX, ifaces: ['fd00:0::9'] },
    'bare 4 1500 fd00::9 fd00::9',
  ],
  [
    'IPv6: --public-ipv6 alone chooses',
    { needs: SIX, publicIPv6: 'fd00::9' },
    'bare 4 1500 fd00::9 fd00::9',
  ],
  [
    'IPv6: --public-ipv6 with --iface is published only',
    { needs: SIX, publicIPv6: '2001:db8::9', ifaces: ['eth1'] },
    'eth1 3 9000 fd00::7 2001:db8::9',
  ],
  [
    'both: an interface with both default routes',
    { needs: BOTH },
    'eth1 3 9000 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    'both: --iface by IPv4 address takes the interface’s IPv6 address',
    { needs: BOTH, ifaces: ['198.51.100.1'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    'both: --iface by IPv6 address takes the interface’s IPv4 address',
    { needs: BOTH, ifaces: ['fd00::9', 'fd00::7'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    'both: both public addresses',
    { needs: BOTH, publicIP: '198.51.100.1', publicIPv6: 'fd00::7' },
    'eth1 3 9000 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    'IPv4 optional: there',
    { needs: MAYBE4, ifaces: ['eth1'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  ['IPv4 optional: not there', { needs: MAYBE4, ifaces: ['bare'] }, 'bare 4 1500 fd00::9 fd00::9'],
]

for (const [name, over, want] of CASES) {
  t.test(name, (t) => {
    t.equal(text(over), want)
    t.end()
  })
}

t.test('preference among the addresses of an interface', (t) => {
  const inet = (local: string, more: object = {}) => ({ family: 'inet', local, ...more })
  const cases: readonly [string, AddressInfo['addr_info'], string][] = [
    ['global before link-local', [inet('169.254.1.1'), inet('10.0.0.1')], '10.0.0.1'],
    ['link-local if there is no other', [inet('127.0.0.2'), inet('169.254.1.1')], '169.254.1.1'],
    [
      'permanent before dynamic',
      [inet('10.0.0.1', { dynamic: true }), inet('10.0.0.2')],
      '10.0.0.2',
    ],
    [
      'global dynamic before link-local permanent',
      [inet('169.254.1.1'), inet('10.0.0.1', { dynamic: true })],
      '10.0.0.1',
    ],
    [
      'primary before secondary',
      [inet('10.0.0.1', { secondary: true }), inet('10.0.0.2')],
      '10.0.0.2',
    ],
    [
      'secondary permanent before dynamic primary',
      [inet('10.0.0.1', { dynamic: true }), inet('10.0.0.2', { secondary: true })],
      '10.0.0.2',
    ],
    [
      'never deprecated',
      [inet('10.0.0.1', { deprecated: true }), inet('169.254.1.1')],
      '169.254.1.1',
    ],
    ['never multicast', [inet('224.0.0.1'), inet('10.0.0.1', { dynamic: true })], '10.0.0.1'],
    ['the first of equals', [inet('10.0.0.9'), inet('10.0.0.1')], '10.0.0.9'],
  ]
  for (const [name, addresses, want] of cases) {
    const interfaces = [link('eth0', 2, addresses)]
    t.equal(choose({ interfaces, ifaces: ['eth0'] }).ipv4?.local, want, name)
  }
  t.end()
})

t.test('preference among IPv6 addresses', (t) => {
  const inet6 = (local: string, more: object = {}) => ({ family: 'inet6', local, ...more })
  const cases: readonly [string, AddressInfo['addr_info'], string][] = [
    ['never link-local', [inet6('fe80::1'), inet6('fd00::1')], 'fd00::1'],
    ['never loopback or multicast', [inet6('::1'), inet6('ff02::1'), inet6('fd00::1')], 'fd00::1'],
    [
      'permanent before dynamic',
      [inet6('fd00::1', { dynamic: true }), inet6('fd00::2')],
      'fd00::2',
    ],
    [
      'lasting before temporary',
      [inet6('fd00::1', { dynamic: true, temporary: true }), inet6('fd00::2', { dynamic: true })],
      'fd00::2',
    ],
    ['never deprecated', [inet6('fd00::1', { deprecated: true }), inet6('fd00::2')], 'fd00::2'],
    ['no IPv4 address', [{ family: 'inet', local: '10.0.0.1' }, inet6('fd00::2')], 'fd00::2'],
  ]
  for (const [name, addresses, want] of cases) {
    const interfaces = [link('eth0', 2, addresses)]
    t.equal(choose({ interfaces, needs: SIX, ifaces: ['eth0'] }).ipv6?.local, want, name)
  }
  t.end()
})

t.test('notes for the log', (t) => {
  t.same(choose({}).notes, [
    'Determining IP address of default interface',
    'Using interface with name eth1 and address 198.51.100.1',
    'Defaulting external address to interface address (198.51.100.1)',
  ])
  t.same(choose({ ifaces: ['nope', 'eth0'], publicIP: '203.0.113.5' }).notes, [
    'Could not find a valid interface: there is no interface "nope"',
    'Using interface with name eth0 and address 192.0.2.1',
    'Using 203.0.113.5 as external address',
  ])
  t.end()
})

t.test('nothing fits: every reason, and what the host has', (t) => {
  const cases: readonly [Parameters<typeof choose>[0], RegExp][] = [
    [{ routes4: [] }, /no IPv4 default route; name the interface with --iface/],
    [{ routes4: [{ dst: 'default', dev: 'gone' }] }, /no IPv4 default route/],
    [{ publicIP: '203.0.113.5' }, /no interface has the address 203.0.113.5/],
    [{ publicIP: 'eth0' }, /--public-ip=eth0 is no IPv4 address/],
    [
      { ifaces: ['nope', '203.0.113.1', 'bare', 'fd00::9', 'lo'] },
      /"nope".*203\.0\.113\.1.*bare has no usable IPv4 address.*fd00::9 is an IPv6 address.*lo has no usable/,
    ],
    [{ interfaces: [link('eth0', 2, ['10.0.0.1'], 0)], ifaces: ['eth0'] }, /eth0 has MTU 0/],
    [{ needs: SIX, routes6: [] }, /no IPv6 default route; name the interface with --iface/],
    [
      { needs: SIX, ifaces: ['eth0', '192.0.2.1'] },
      /eth0 has no usable IPv6.*192\.0\.2\.1 is an IPv4/,
    ],
    [{ needs: BOTH, routes6: [] }, /no interface with both an IPv4 and an IPv6 default route/],
    [{ needs: BOTH, ifaces: ['fd00::9'] }, /bare has no usable IPv4 address/],
    [
      { needs: BOTH, publicIP: '192.0.2.1', publicIPv6: 'fd00::7' },
      /no interface has both addresses, 192\.0\.2\.1 and fd00::7/,
    ],
    [{ needs: SIX, publicIPv6: 'eth0' }, /--public-ipv6=eth0 is no IPv6 address/],
    [{ ifaces: ['nope'] }, /This host has: lo \(127\.0\.0\.1, ::1, MTU 65536\); eth0 \(/],
    [{ interfaces: [], ifaces: ['nope'] }, /This host has: no interface/],
    [{ interfaces: [link('x', 1, [])], ifaces: ['x'] }, /x \(no address, MTU 1500\)/],
  ]
  for (const [over, message] of cases) {
    t.throws(() => choose(over), { code: 'HEDDLE_INTERFACE', message }, String(message))
  }
  t.end()
})
