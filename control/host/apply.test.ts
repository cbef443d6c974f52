/**
 * Reading and changing the kernel's state, in a network namespace of its own: this file runs itself
 * again there, so that the functions under test meet a kernel that holds nothing of anybody's.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { carryOut, look, whyNoVxlan } from './apply.js'
import type { Difference } from './difference.js'
import { readAddresses, readHostState, readRoutes } from './read.js'
import { blackholes, desiredForTun, NOTHING, together, type HostState } from './state.js'
import { parsePrefix4, parsePrefix6 } from '../prefix.js'

/** A look, and what it asks for. */
async function reconcile(desired: HostState): Promise<Difference> {
  const found = await look(desired)
  await carryOut(found.changes)
  return found
}

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
    const wanted = together([desired, { ...NOTHING, routes }])
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

  t.test('a VXLAN device of the kernel with its neighbours, entries and routes', async (t) => {
    const peers = Array.from({ length: 300 }, (_, i) => ({
      base: `10.6.${String(i >> 8)}.${String(i & 0xff)}`,
      mac: `0e:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 0xff).toString(16).padStart(2, '0')}`,
    }))
    const device = 'flannel.7'
    const wanted: HostState = {
      ...NOTHING,
      links: [
        {
          name: device,
          mtu: 1450,
          isUp: true,
          mac: '0e:00:00:00:ff:01',
          vxlan: {
            vni: 7,
            lower: 'u0',
            local: '192.0.2.1',
            port: 8472,
            learning: false,
            gbp: false,
          },
        },
      ],
      addresses: [{ device, address: '10.6.200.0/32' }],
      settings: [{ path: `net/ipv6/conf/${device}/accept_ra`, value: '0' }],
      neighbours: peers.map(({ base, mac }) => ({ device, address: base, mac })),
      forwarding: peers.map(({ mac }) => ({ device, mac, host: '192.0.2.9' })),
      routes: peers.map(({ base }) => ({
        destination: `${base}/32`,
        device,
        via: base,
        isOnlink: true,
      })),
      networks: ['10.6.0.0/16'],
    }
    const none = { changes: [], conflicts: [] }
    t.equal((await reconcile(wanted)).changes.length, 2 + 1 + 1 + 3 * peers.length)
    t.same(await reconcile(wanted), none)

    const [first, second] = [peers[0]!, peers[1]!]
    const damages: readonly (readonly [name: string, changes: number, ...commands: string[]])[] = [
      ['a route gone', 1, `route del ${first.base}/32`],
      ['a neighbour gone', 1, `neighbour del ${first.base} dev ${device}`],
      [
        'another MAC',
        1,
        `neighbour replace ${first.base} lladdr ${second.mac} dev ${device} nud permanent`,
      ],
      [
        'an entry of nobody',
        1,
        `neighbour add 10.6.9.9 lladdr ${first.mac} dev ${device} nud permanent`,
      ],
      ['a route of nobody', 1, `route add 10.6.99.0/24 dev ${device}`],
      [
        'the MAC of the device: its neighbours go',
        1 + peers.length,
        `link set ${device} address 0e:00:00:00:ff:02`,
      ],
      ['down: neighbours and routes go with it', 1 + 2 * peers.length, `link set ${device} down`],
    ]
    for (const [name, changes, ...commands] of damages) {
      for (const command of commands) ip(...command.split(' '))
      t.equal((await reconcile(wanted)).changes.length, changes, name)
      t.same(await reconcile(wanted), none, name)
    }
    const entry = [
      'fdb',
      'replace',
      first.mac,
      'dev',
      device,
      'dst',
      '192.0.2.77',
      'self',
      'permanent',
    ]
    execFileSync('bridge', entry)
    t.match((await reconcile(wanted)).changes, [
      { kind: 'forwarding-set', entry: { mac: first.mac } },
    ])
    ip('link', 'del', device)
    t.equal((await reconcile(wanted)).changes.length, 4 + 3 * peers.length, 'made anew')
    t.same(await reconcile(wanted), none)

    const [link] = wanted.links
    const moved = { ...wanted, links: [{ ...link!, vxlan: { ...link!.vxlan!, port: 4789 } }] }
    t.match((await reconcile(moved)).changes, [{ kind: 'link-remove' }, { kind: 'link-create' }])
    t.same(await reconcile(moved), none, 'of another port')

    const fewer = {
      ...moved,
      neighbours: moved.neighbours.slice(1),
      forwarding: moved.forwarding.slice(1),
      routes: moved.routes.slice(1),
    }
    t.same(
      (await reconcile(fewer)).changes.map(({ kind }) => kind),
      ['neighbour-remove', 'forwarding-remove', 'route-remove'],
      'a peer that goes takes its own',
    )
    t.equal(await whyNoVxlan(), null)
  })

  t.test('one change that the kernel refuses does not hold up the others', async (t) => {
    const route = (n: number, via: string) => ({
      destination: `10.6.${String(n)}.0/24`,
      device: 'u0',
      via,
    })
    const wanted = {
      ...NOTHING,
      routes: [route(1, '192.0.2.2'), route(2, '198.51.100.9'), route(3, '192.0.2.3')],
    }
    await t.rejects(reconcile(wanted), { code: 'HEDDLE_APPLY', message: /gateway/ })
    const there = (await readHostState(false)).routes.map(({ destination }) => destination)
    t.ok(there.includes('10.6.1.0/24') && there.includes('10.6.3.0/24'))
    await reconcile({ ...NOTHING, networks: ['10.6.0.0/16'] })
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
    ...NOTHING,
    networks: ['10.5.0.0/16', 'fd05::/48'],
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
