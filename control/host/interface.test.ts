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
  { dst: 'fd00::/64', dev: 'bare' },
  { dst: 'default', dev: 'bare' },
]

function choose(over: Partial<Parameters<typeof chooseInterface>[0]>) {
  return chooseInterface({
    interfaces: INTERFACES,
    routes: ROUTES,
    routes6: ROUTES6,
    needs: { ipv4: 'required', ipv6: 'unused' },
    ifaces: [],
    regexes: [],
    canReach: null,
    publicIP: null,
    publicIPv6: null,
    ...over,
  })
}

function text(over: Parameters<typeof choose>[0]): string {
  const { name, index, mtu, address, externalAddress } = choose(over)
  return `${name} ${index} ${mtu} ${address} ${externalAddress}`
}

const CASES: readonly [string, Parameters<typeof choose>[0], string][] = [
  ['the first default route', {}, 'eth1 3 9000 198.51.100.1 198.51.100.1'],
  [
    'a default route as a prefix',
    { routes: [{ dst: '0.0.0.0/0', dev: 'eth0' }] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  [
    'a multipath default route',
    { routes: [{ dst: 'default', nexthops: [{}, { dev: 'eth0' }, { dev: 'eth1' }] }] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  [
    'a blackhole before it',
    { routes: [{ dst: 'default' }, { dst: 'default', dev: 'eth0' }] },
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
  ['--iface-regex, a second address', { regexes: ['2\\.2$'] }, 'eth0 2 1500 192.0.2.2 192.0.2.2'],
  [
    '--iface-regex, by index and not by order',
    { regexes: ['^[0-9.]+$'], interfaces: [ETH1, ETH0] },
    'eth0 2 1500 192.0.2.1 192.0.2.1',
  ],
  [
    '--iface-regex: addresses of all before any name',
    { regexes: ['eth0|198'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1',
  ],
  ['--iface-regex, a name', { regexes: ['h0$'] }, 'eth0 2 1500 192.0.2.1 192.0.2.1'],
  ['--iface-regex, Go flags', { regexes: ['(?i)^ETH1$'] }, 'eth1 3 9000 198.51.100.1 198.51.100.1'],
  [
    '--iface-regex in order, a bad one is a miss',
    { regexes: ['(', 'wlan', 'eth1'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1',
  ],
  [
    '--iface before --iface-regex',
    { ifaces: ['nope', 'eth1'], regexes: ['eth0'] },
    'eth1 3 9000 198.51.100.1 198.51.100.1',
  ],
  [
    '--iface-can-reach gives the source',
    { canReach: { address: '203.0.113.9', way: { device: 'eth0', source: '192.0.2.2' } } },
    'eth0 2 1500 192.0.2.2 192.0.2.2',
  ],
  [
    '--iface-regex before --iface-can-reach',
    {
      regexes: ['wlan', 'eth1'],
      canReach: { address: '203.0.113.9', way: { device: 'eth0', source: '192.0.2.2' } },
    },
    'eth1 3 9000 198.51.100.1 198.51.100.1',
  ],
  ['--public-ip alone chooses', { publicIP: '192.0.2.2' }, 'eth0 2 1500 192.0.2.2 192.0.2.2'],
  [
    '--public-ip with --iface is published only',
    { publicIP: '203.0.113.5', ifaces: ['eth0'] },
    'eth0 2 1500 192.0.2.1 203.0.113.5',
  ],
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
    t.equal(choose({ interfaces, ifaces: ['eth0'] }).address, want, name)
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
    [{ routes: [] }, /no IPv4 default route; name the interface with --iface/],
    [{ routes: [{ dst: 'default', dev: 'gone' }] }, /no IPv4 default route/],
    [{ publicIP: '203.0.113.5' }, /no interface has the address 203.0.113.5/],
    [{ publicIP: 'eth0' }, /--public-ip=eth0 is no IPv4 address/],
    [
      { ifaces: ['nope', '203.0.113.1', 'bare', 'fd00::9', 'lo'] },
      /"nope".*203\.0\.113\.1.*bare has no usable IPv4 address.*fd00::9 is an IPv6 address.*lo has no usable/,
    ],
    [{ interfaces: [link('eth0', 2, ['10.0.0.1'], 0)], ifaces: ['eth0'] }, /eth0 has MTU 0/],
    [{ ifaces: ['nope'] }, /This host has: lo \(127\.0\.0\.1, ::1, MTU 65536\); eth0 \(/],
    [{ interfaces: [], ifaces: ['nope'] }, /This host has: no interface/],
    [{ interfaces: [link('x', 1, [])], ifaces: ['x'] }, /x \(no address, MTU 1500\)/],
  ]
  for (const [over, message] of cases) {
    t.throws(() => choose(over), { code: 'HEDDLE_INTERFACE', message }, String(message))
  }
  t.end()
})

/** Interface with the addresses of both families and the published ones. */
function text6(over: Parameters<typeof choose>[0]): string {
  const { name, address, externalAddress, address6, externalAddress6 } = choose(over)
  return [name, address, externalAddress, address6, externalAddress6].map((x) => x ?? '-').join(' ')
}

const SIX = { ipv4: 'unused', ipv6: 'required' } as const
const BOTH = { ipv4: 'required', ipv6: 'required' } as const
const SIX_CASES: readonly [string, Parameters<typeof choose>[0], string][] = [
  ['the IPv6 default route', { needs: SIX }, 'bare - - fd00::9 fd00::9'],
  [
    'both, of the IPv4 default route’s interface',
    { needs: BOTH },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    '--iface by IPv6 address, in another form',
    { needs: BOTH, ifaces: ['fd00:0::7'] },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    '--iface by IPv4 address',
    { needs: BOTH, ifaces: ['198.51.100.1'] },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    '--iface that lacks a family, then one that has both',
    { needs: BOTH, ifaces: ['bare', 'eth0', 'eth1'] },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    '--public-ipv6 is published',
    { needs: BOTH, ifaces: ['eth1'], publicIPv6: '2001:DB8::1' },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 2001:db8::1',
  ],
  ['--public-ipv6 chooses', { needs: SIX, publicIPv6: 'fd00::7' }, 'eth1 - - fd00::7 fd00::7'],
  [
    '--public-ip does not, where IPv4 is not needed',
    { needs: SIX, publicIP: '192.0.2.1' },
    'bare - - fd00::9 fd00::9',
  ],
  [
    'IPv4 where there is one',
    { needs: { ipv4: 'optional', ipv6: 'required' }, ifaces: ['eth1'] },
    'eth1 198.51.100.1 198.51.100.1 fd00::7 fd00::7',
  ],
  [
    'and where there is none',
    { needs: { ipv4: 'optional', ipv6: 'required' }, ifaces: ['bare'] },
    'bare - - fd00::9 fd00::9',
  ],
]
for (const [name, over, want] of SIX_CASES) {
  t.test(`F35 IPv6: ${name}`, async (t) => {
    t.equal(text6(over), want)
  })
}

t.test('F35 IPv6: the address that is preferred', async (t) => {
  const row = (local: string, more: object = {}) => ({ family: 'inet6', local, ...more })
  const rows = [
    row('fe80::5'),
    row('fd00::1', { deprecated: true }),
    row('fd00::2', { tentative: true }),
    row('fd00::3', { dynamic: true, temporary: true }),
    row('fd00::4', { dynamic: true }),
    row('fd00::5'),
    row('fd00::6'),
  ]
  const pick = (from: typeof rows) =>
    choose({ needs: SIX, ifaces: ['x'], interfaces: [link('x', 9, from)] })
  t.equal(pick(rows).address6, 'fd00::5', 'permanent, the first')
  t.equal(pick(rows.slice(0, 5)).address6, 'fd00::4', 'not a temporary one')
  t.throws(() => pick(rows.slice(0, 3)), /x has no usable IPv6 address/)
  t.match(pick(rows).notes, ['Using interface with name x and v6 address fd00::5'])
})

t.test('IPv6: misses name the family', async (t) => {
  t.throws(() => choose({ needs: BOTH, ifaces: ['eth0'] }), /eth0 has no usable IPv6 address/)
  t.throws(() => choose({ needs: SIX, routes6: [] }), /no IPv6 default route/)
  t.throws(() => choose({ needs: SIX, ifaces: ['192.0.2.1'] }), /needs an IPv6 address/)
  t.throws(
    () => choose({ needs: SIX, publicIPv6: 'fd00::1::2' }),
    /--public-ipv6=.* is no IPv6 address/,
  )
})

t.test('--iface-regex and --iface-can-reach: both families, and misses', async (t) => {
  const dual = { ipv4: 'required', ipv6: 'required' } as const
  const both = (over: Parameters<typeof choose>[0]) => {
    const { name, address, address6 } = choose({ needs: dual, ...over })
    return `${name} ${String(address)} ${String(address6)}`
  }
  t.equal(both({ regexes: ['^198|^fd'] }), 'eth1 198.51.100.1 fd00::7', 'both must match')
  t.equal(both({ regexes: ['eth1'] }), 'eth1 198.51.100.1 fd00::7', 'by name')
  const way = { device: 'eth1', source: 'fd00::7' }
  t.equal(both({ canReach: { address: '2001:db8::1', way } }), 'eth1 198.51.100.1 fd00::7')
  const six = { needs: { ipv4: 'unused', ipv6: 'required' }, regexes: ['9$'] } as const
  t.match(choose(six), { name: 'bare', address: null, address6: 'fd00::9' })
  const misses: readonly (readonly [Parameters<typeof choose>[0], RegExp])[] = [
    [{ regexes: ['('] }, /--iface-regex=\( is no regular expression.*This host has: lo .*eth0 \(/],
    [{ regexes: ['^wlan'] }, /no interface has an address or a name that matches \^wlan/],
    [
      { ifaces: ['eth9'], canReach: { address: '203.0.113.9', way: { miss: 'unreachable' } } },
      /no interface "eth9".*there is no way to 203\.0\.113\.9: unreachable/,
    ],
    [
      { canReach: { address: '203.0.113.9', way: { device: 'gone0', source: '192.0.2.2' } } },
      /gone0, which routes to 203\.0\.113\.9, is gone/,
    ],
    [{ needs: dual, regexes: ['^192'] }, /no interface has an address or a name/],
  ]
  for (const [over, message] of misses) {
    t.throws(() => choose(over), { code: 'HEDDLE_INTERFACE', message })
  }
})
