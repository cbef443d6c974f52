/**
 * Reading and changing the kernel's state, in a network namespace of its own: this file runs itself
 * again there, so that the functions under test meet a kernel that holds nothing of anybody's.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { readAddresses, readHostState, readRoutes, reconcile } from './apply.js'
import { blackholes, desiredForTun, together, type HostState } from './state.js'
import { parsePrefix4, parsePrefix6 } from '../prefix.js'

const INSIDE = 'in its own namespace'

function ip(...args: string[]): void {
  execFileSync('ip', args)
}

function inside(): void {
  ip('link', 'add', 'u0', 'type', 'bridge')
  ip('address', 'add', '192.0.2.1/24', 'dev', 'u0')
  ip('link', 'set', 'u0', 'up')
  ip('route', 'add', 'default', 'via', '192.0.2.254')
  ip('route', 'add', 'blackhole', '198.51.100.0/24')
  ip('route', 'add', '203.0.113.7/32', 'dev', 'u0')
  ip('link', 'add', 'flannel0', 'type', 'bridge')

  const network = parsePrefix4('10.5.0.0/16')!
  const ipv4 = { network, subnet: parsePrefix4('10.5.7.0/24')! }
  const ipv6 = {
    network: parsePrefix6('fd05::/48')!,
    subnet: parsePrefix6('fd05:0:0:7::/64')!,
  }
  const desired = desiredForTun('flannel0', 1472, ipv4, ipv6)

  t.test('what the kernel holds', async (t) => {
    const u0 = (await readAddresses()).find((link) => link.ifname === 'u0')
    t.ok(u0?.flags.includes('UP'))
    t.match(u0?.addr_info, [{ family: 'inet', local: '192.0.2.1', prefixlen: 24 }])
    t.ok((await readRoutes(4)).some((route) => route.dst === 'default' && route.dev === 'u0'))
    t.type(await readRoutes(6), Array)
    const { links, addresses, routes } = await readHostState(false)
    t.same(
      links.find((link) => link.name === 'flannel0'),
      { name: 'flannel0', mtu: 1500, isUp: false },
    )
    t.same(
      addresses.filter((address) => address.device === 'u0'),
      [{ device: 'u0', address: '192.0.2.1/24' }],
    )
    t.same(
      routes.map((r) => `${r.destination} ${r.isBlackhole ? 'blackhole' : r.device}`).sort(),
      ['0.0.0.0/0 u0', '192.0.2.0/24 u0', '198.51.100.0/24 blackhole', '203.0.113.7/32 u0'],
      'with their lengths',
    )
  })

  t.test('from nothing to what is wanted, and then nothing more', async (t) => {
    const first = await reconcile(desired)
    t.same(
      first.changes.map((change) => change.kind),
      ['link-set', 'address-add', 'address-add', 'route-add', 'route-add'],
    )
    t.same(first.conflicts, [])
    t.match(ours(await readHostState(true)), desired)
    t.same(await reconcile(desired), { changes: [], conflicts: [] })
  })

  const damages: readonly (readonly [name: string, commands: readonly string[]])[] = [
    ['route gone', ['route del 10.5.0.0/16 dev flannel0']],
    ['address gone', ['address del 10.5.7.0/32 dev flannel0']],
    ['address of somebody', ['address add 10.5.200.1/24 dev flannel0']],
    ['IPv6 address gone', ['address del fd05:0:0:7::/128 dev flannel0']],
    ['IPv6 route gone', ['-6 route del fd05::/48 dev flannel0']],
    ['a link-local address', ['link set flannel0 addrgenmode eui64']],
    ['MTU', ['link set flannel0 mtu 1300']],
    ['too small for IPv6', ['link set flannel0 mtu 1000']],
    ['down', ['link set flannel0 down']],
    [
      'all of it',
      [
        'address flush dev flannel0',
        'address add 10.9.9.9/16 dev flannel0',
        'link set flannel0 mtu 700 down',
      ],
    ],
  ]
  for (const [name, commands] of damages) {
    t.test(`repaired: ${name}`, async (t) => {
      for (const command of commands) ip(...command.split(' '))
      t.notSame(ours(await readHostState(true)), desired)
      await reconcile(desired)
      t.same(ours(await readHostState(true)), desired)
      t.same(await reconcile(desired), { changes: [], conflicts: [] })
    })
  }

  t.test('blackholes of both families, beside a route to the same subnet', async (t) => {
    ip('address', 'add', '10.5.7.1/24', 'dev', 'u0')
    const routes = blackholes({ v4: ipv4.subnet, v6: ipv6.subnet })
    const wanted = together([desired, { links: [], addresses: [], routes }])
    const { changes, conflicts } = await reconcile(wanted)
    t.same([changes.length, conflicts], [2, []])
    t.same(await reconcile(wanted), { changes: [], conflicts: [] })
    const way = (address: string) =>
      execFileSync('ip', ['-json', 'route', 'get', address], { encoding: 'utf8' })
    t.match(way('10.5.7.9'), '"dev":"u0"', 'the other route comes first')
    ip('address', 'del', '10.5.7.1/24', 'dev', 'u0')
    t.throws(() => way('10.5.7.9'), /Invalid argument/, 'it leads nowhere')
    t.equal((await reconcile(desired)).changes.length, 2)
    t.match(way('10.5.7.9'), '"dev":"flannel0"')
  })

  t.test('a route of somebody else stays and is told', async (t) => {
    ip('route', 'del', '10.5.0.0/16', 'dev', 'flannel0')
    ip('route', 'add', '10.5.0.0/16', 'via', '192.0.2.254', 'dev', 'u0')
    const { changes, conflicts } = await reconcile(desired)
    t.same(changes, [])
    t.same(conflicts, [
      {
        wanted: { destination: '10.5.0.0/16', device: 'flannel0' },
        found: { destination: '10.5.0.0/16', device: 'u0', via: '192.0.2.254' },
      },
    ])
    t.ok((await readRoutes(4)).some((route) => route.dst === '10.5.0.0/16' && route.dev === 'u0'))
    ip('route', 'del', '10.5.0.0/16')
  })

  t.test('what the kernel refuses', async (t) => {
    const missing = desiredForTun('flannel7', 1472, ipv4, null)
    await t.rejects(reconcile(missing), { code: 'HEDDLE_APPLY', message: /flannel7/ })
    for (const name of ['two words', 'a/b', 'sixteen-letters-', 'new\nline', '']) {
      await t.rejects(
        reconcile(desiredForTun(name, 1472, ipv4, null)),
        { code: 'HEDDLE_APPLY', message: /is no device name/ },
        JSON.stringify(name),
      )
    }
  })

  t.test('iproute2 is missing', async (t) => {
    const path = process.env['PATH']
    t.teardown(() => (process.env['PATH'] = path))
    process.env['PATH'] = '/nonexistent'
    await t.rejects(readAddresses(), {
      code: 'HEDDLE_APPLY',
      message: /not installed \(package iproute2\)/,
      retryable: false,
    })
  })
}

/** The part of a state that concerns the device under test. */
function ours({ links, addresses, routes }: HostState): HostState {
  return {
    links: links.filter((link) => link.name === 'flannel0'),
    addresses: addresses.filter((address) => address.device === 'flannel0'),
    // The kernel has routes of its own to each address of IPv6 and to the link.
    routes: routes.filter(
      ({ device, destination }) => device === 'flannel0' && !/\/128$|^fe80:/.test(destination),
    ),
  }
}

if (process.argv[2] === INSIDE) inside()
else {
  const skip = process.getuid?.() === 0 ? false : 'needs root for a network namespace'
  const args = ['-n', process.execPath, fileURLToPath(import.meta.url), INSIDE]
  t.spawn('unshare', args, { skip }, INSIDE)
}
