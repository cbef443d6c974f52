/**
 * What each backend opens and publishes for a configuration, and which options it refuses.
 */
import t from 'tap'
import { runCommand } from '../host/command.js'
import { parsePrefix4 } from '../prefix.js'
import { addressNeeds, createBackend, type PathEnd } from './backend.js'
import { refuseHolder, whyNotOurs } from './takeover.js'
import { parseNetworkConfig } from '../network-config.js'
import { formatLeaseAttrs, parseLeaseAttrs } from '../lease-json.js'

const EXTERNAL = {
  name: 'eth0',
  index: 2,
  mtu: 1500,
  address: '172.30.0.11',
  externalAddress: '198.51.100.1',
  address6: 'fd30::11',
  externalAddress6: 'fd30::11',
  notes: [],
}
const LEASE =
  '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"c6:d2:32:6f:8f:44"}}'

const ONLY4 = { ...EXTERNAL, address6: null, externalAddress6: null }

const configOf = (options: object, network: object = { Network: '10.5.0.0/16' }) =>
  parseNetworkConfig(JSON.stringify({ ...network, Backend: options }))

const create = (
  options: object,
  value = LEASE,
  network?: object,
  external: typeof EXTERNAL | typeof ONLY4 = ONLY4,
) =>
  createBackend(configOf(options, network), external, {
    published: async () => parseLeaseAttrs(value),
    whyNoVxlan: async () => null,
    runCommand,
  })

const first = async (options: object) => (await create(options)).tunnels[0]

t.test('udp', async (t) => {
  const backend = await create({ Type: 'udp' })
  t.match(backend.tunnels, [{ device: 'flannel%d', port: 8285, mtu: 1472, encap: { kind: 'udp' } }])
  t.match(backend, { port: 8285, mtu: 1472 })
  t.equal(formatLeaseAttrs(backend.attrs), '{"PublicIP":"198.51.100.1","PublicIPv6":null}')
})

t.test('F44 vxlan: defaults and options', async (t) => {
  t.match(await first({ Type: 'vxlan' }), { device: 'flannel.1', port: 8472, mtu: 1450 })
  t.match(
    await first({ Type: 'VXLAN', vni: 7, port: 4789, mtu: 1400, gbp: false, Learning: null }),
    { device: 'flannel.7', port: 4789, mtu: 1350, encap: { kind: 'vxlan', vni: 7 } },
  )
  t.match(await first({ Type: 'vxlan', Port: 0, VNI: 0 }), { device: 'flannel.0', port: 8472 })
  t.match(await first({ Type: 'vxlan', Dataplane: 'user' }), { device: 'flannel.1' })
})

t.test('F48 vxlan: the MAC of the own lease is kept, and published as flannel does', async (t) => {
  const backend = await create({ Type: 'vxlan', VNI: 7 })
  t.equal(formatLeaseAttrs(backend.attrs), LEASE)
  t.same(backend.tunnels[0]!.encap, {
    kind: 'vxlan',
    vni: 7,
    mac: { high: 0xc6d2, low: 0x326f8f44 },
  })
})

t.test('vxlan: without a usable MAC in the own lease one is made', async (t) => {
  for (const value of [
    '{"PublicIP":"198.51.100.1"}',
    LEASE.replace('"vxlan"', '"host-gw"'),
    LEASE.replace('c6:d2', 'c7:d2'),
    LEASE.replace('"VtepMAC"', '"Other"'),
  ]) {
    const { attrs } = await create({ Type: 'vxlan' }, value)
    const { VtepMAC: mac } = attrs.backendData as { VtepMAC: string }
    t.match(mac, /^.[26ae](:[0-9a-f]{2}){5}$/, 'locally administered, of one station')
    t.not(mac, 'c6:d2:32:6f:8f:44')
  }
})

t.test('F44 vxlan: what is refused, and why', async (t) => {
  const refused: readonly (readonly [object, RegExp])[] = [
    [{ GBP: true }, /Backend\.GBP is true, but packets have no kernel marks/],
    [{ Learning: true }, /Backend\.Learning is true, but peers are known from their leases/],
    [{ DirectRouting: 'yes' }, /Backend\.DirectRouting is "yes"; write true or false/],
    [{ Dataplane: 'xdp' }, /Dataplane is "xdp"; write "user", "kernel" or "auto"/],
    [{ GBP: 'true' }, /GBP is "true"; write true or false/],
    [{ VNI: '1' }, /VNI is "1"; write a number from 0 to 9999999/],
    [{ VNI: 16_777_215 }, /VNI is 16777215/],
    [{ VNI: -1 }, /VNI is -1/],
    [{ VNI: 1.5 }, /VNI is 1\.5/],
    [{ Port: 65536 }, /Port is 65536/],
    [{ MTU: 117 }, /MTU is 117; write a number from 118/],
    [{ MTU: '1500' }, /MTU is "1500"/],
  ]
  for (const [options, message] of refused) {
    await t.rejects(create({ Type: 'vxlan', ...options }), { code: 'HEDDLE_CONFIG', message })
  }
})

/** Both families; and IPv6 alone. */
const DUAL = { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd05::/48' }
const SIX = { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd05::/48' }
const LEASE6 = LEASE.replace('"PublicIPv6":null', '"PublicIPv6":"fd30::11"').replace(
  '}}',
  '},"BackendV6Data":{"VNI":7,"VtepMAC":"9a:01:02:03:04:05"}}',
)

/** Device, inner families, outer family and MTU of each tunnel. */
async function tunnelsOf(options: object, network: object): Promise<string[]> {
  const { tunnels } = await create(options, LEASE6, network, EXTERNAL)
  return tunnels.map(
    ({ device, ipv4, ipv6, outer, mtu }) =>
      `${device} ${ipv4 ? '4' : ''}${ipv6 ? '6' : ''} in ${outer}, ${mtu}`,
  )
}

t.test('which configuration selects which families', async (t) => {
  const cases: readonly (readonly [object, object, string[]])[] = [
    [{ Type: 'udp' }, DUAL, ['flannel%d 46 in 4, 1472']],
    [{ Type: 'udp', Underlay: 'ipv4' }, DUAL, ['flannel%d 46 in 4, 1472']],
    [{ Type: 'udp', Underlay: 'ipv6' }, DUAL, ['flannel%d 46 in 6, 1452']],
    [{ Type: 'udp' }, SIX, ['flannel%d 6 in 4, 1472']],
    [{ Type: 'udp', Underlay: 'ipv6' }, SIX, ['flannel%d 6 in 6, 1452']],
    [{ Type: 'udp', Underlay: 'ipv6' }, { Network: '10.5.0.0/16' }, ['flannel%d 4 in 6, 1452']],
    [{ Type: 'vxlan' }, DUAL, ['flannel.1 4 in 4, 1450', 'flannel-v6.1 6 in 6, 1430']],
    [{ Type: 'vxlan' }, SIX, ['flannel-v6.1 6 in 6, 1430']],
    [{ Type: 'vxlan', Underlay: 'ipv4' }, DUAL, ['flannel.1 46 in 4, 1450']],
    [{ Type: 'vxlan', Underlay: 'ipv6' }, DUAL, ['flannel.1 46 in 6, 1430']],
    [{ Type: 'vxlan', Underlay: 'ipv6' }, { Network: '10.5.0.0/16' }, ['flannel.1 4 in 6, 1430']],
    [{ Type: 'vxlan', MTU: 1300 }, DUAL, ['flannel.1 4 in 4, 1250', 'flannel-v6.1 6 in 6, 1280']],
    [{ Type: 'vxlan', MTU: 1300 }, { Network: '10.5.0.0/16' }, ['flannel.1 4 in 4, 1250']],
  ]
  for (const [options, network, want] of cases) {
    t.same(await tunnelsOf(options, network), want, JSON.stringify({ ...network, ...options }))
  }
})

t.test('which addresses the interface must have', async (t) => {
  const cases: readonly (readonly [object, object, string])[] = [
    [{ Type: 'udp' }, DUAL, 'required unused'],
    [{ Type: 'udp', Underlay: 'ipv6' }, DUAL, 'optional required'],
    [{ Type: 'udp', Underlay: 'ipv6' }, SIX, 'unused required'],
    [{ Type: 'udp' }, SIX, 'required unused'],
    [{ Type: 'ipip' }, { Network: '10.5.0.0/16' }, 'required unused'],
    [{ Type: 'vxlan' }, { Network: '10.5.0.0/16' }, 'required unused'],
    [{ Type: 'vxlan' }, DUAL, 'required required'],
    [{ Type: 'vxlan' }, SIX, 'unused required'],
    [{ Type: 'vxlan', Underlay: 'ipv4' }, DUAL, 'required unused'],
  ]
  for (const [options, network, want] of cases) {
    const { ipv4, ipv6 } = addressNeeds(configOf(options, network))
    t.equal(`${ipv4} ${ipv6}`, want, JSON.stringify({ ...network, ...options }))
  }
  const wrong = configOf({ Type: 'udp', Underlay: 'ip' })
  t.throws(() => addressNeeds(wrong), { message: /Underlay is "ip"; write "ipv4" or "ipv6"/ })
})

t.test('F22 what a host with both families publishes', async (t) => {
  const text = async (options: object, network: object) =>
    formatLeaseAttrs((await create(options, LEASE6, network, EXTERNAL)).attrs)
  t.equal(await text({ Type: 'vxlan', VNI: 7 }, DUAL), LEASE6, 'as flannel, both MACs kept')
  t.equal(
    await text({ Type: 'udp', Underlay: 'ipv6' }, DUAL),
    '{"PublicIP":"198.51.100.1","PublicIPv6":"fd30::11","BackendV6Data":{"IPv6":true}}',
  )
  t.match(
    (
      await create({ Type: 'vxlan' }, LEASE6, SIX, {
        ...EXTERNAL,
        externalAddress: null,
        address: null,
      } as never)
    ).attrs,
    { publicIP: '0.0.0.0', publicIPv6: 'fd30::11', backendType: 'vxlan' },
  )
  const [one] = (await create({ Type: 'udp' }, LEASE6, DUAL)).tunnels
  const attrs = (v6: unknown) => ({
    publicIP: '192.0.2.1',
    publicIPv6: null,
    backendType: '',
    backendV6Data: v6,
  })
  for (const [data, want] of [
    [{ IPv6: true }, true],
    [{ ipv6: true }, true],
    [{ IPv6: 'true' }, false],
    [undefined, false],
    [null, false],
  ] as const) {
    t.equal(one!.takesIpv6(attrs(data)), want, JSON.stringify(data))
  }
})

t.test('a VNI must fit the names of both devices', async (t) => {
  await t.rejects(create({ Type: 'vxlan', VNI: 10_000 }, LEASE6, DUAL, EXTERNAL), {
    message: /VNI is 10000; write a number from 0 to 9999/,
  })
  await create({ Type: 'vxlan', VNI: 10_000, Underlay: 'ipv6' }, LEASE6, DUAL, EXTERNAL)
})

t.test('addresses that cannot be sent to', async (t) => {
  const [six] = (await create({ Type: 'udp', Underlay: 'ipv6' }, LEASE6, DUAL, EXTERNAL)).tunnels
  const reach = (publicIPv6: string | null) =>
    six!.reach({ publicIP: '192.0.2.1', publicIPv6, backendType: '' })
  t.same(reach('fd30::12'), { address: 'fd30::12', port: 8285 })
  t.match(reach(null), { fault: /no PublicIPv6/ })
  for (const text of ['::', '::1', 'fe80::1', 'ff02::1']) {
    t.match(reach(text), { fault: /cannot be sent to/ }, text)
  }
})

t.test('F43 vxlan by the kernel: its device, and what it is told of peers', async (t) => {
  const backend = await create({ Type: 'vxlan', VNI: 7, Dataplane: 'kernel', Learning: true })
  t.same(backend.tunnels, [])
  t.equal(backend.mtu, 1450)
  t.equal(formatLeaseAttrs(backend.attrs), LEASE)
  const [path] = backend.kernel
  const peer = parseLeaseAttrs(LEASE.replace('198.51.100.1', '198.51.100.2'))
  const reach = path!.reach(peer)
  t.match(reach, { address: '198.51.100.2' })
  const state = path!.desired({ v4: parsePrefix4('10.5.2.0/24')!, v6: null }, [
    { ...(reach as PathEnd), destination: '10.5.1.0/24', base: '10.5.1.0' },
  ])
  const mac = 'c6:d2:32:6f:8f:44'
  const device = 'flannel.7'
  t.same(state, {
    links: [
      {
        name: device,
        mtu: 1450,
        isUp: true,
        mac,
        vxlan: {
          vni: 7,
          lower: 'eth0',
          local: '172.30.0.11',
          port: 8472,
          learning: true,
          gbp: false,
        },
      },
    ],
    addresses: [{ device, address: '10.5.2.0/32' }],
    routes: [{ destination: '10.5.1.0/24', device, via: '10.5.1.0', isOnlink: true }],
    neighbours: [{ device, address: '10.5.1.0', mac }],
    forwarding: [{ device, mac, host: '198.51.100.2' }],
    settings: [{ path: 'net/ipv6/conf/flannel.7/accept_ra', value: '0' }],
    networks: [],
  })
  const dual = await create({ Type: 'vxlan', Dataplane: 'kernel' }, LEASE6, DUAL, EXTERNAL)
  t.same(
    dual.kernel.map(({ device: d }) => d),
    [
      { name: 'flannel.1', mtu: 1450 },
      { name: 'flannel-v6.1', mtu: 1430 },
    ],
  )
  t.equal(dual.mtu, 1430)
})

t.test('vxlan: who carries the packets', async (t) => {
  const place = async (options: object, why: string | null) => {
    const { tunnels, kernel, notes } = await createBackend(
      configOf({ Type: 'vxlan', ...options }),
      ONLY4,
      { published: async () => null, whyNoVxlan: async () => why, runCommand },
    )
    return { user: tunnels.length, kernel: kernel.length, notes }
  }
  t.same(await place({}, null), { user: 1, kernel: 0, notes: [] })
  t.same(await place({ Dataplane: 'kernel' }, null), { user: 0, kernel: 1, notes: [] })
  t.match(await place({ Dataplane: 'auto' }, null), { kernel: 1, notes: [/by the kernel/] })
  t.match(await place({ Dataplane: 'auto' }, 'it cannot'), {
    user: 1,
    kernel: 0,
    notes: ['vxlan in user space: it cannot'],
  })
  t.match(await place({ Dataplane: 'auto', Underlay: 'ipv4' }, null), {
    user: 1,
    notes: [/Underlay/],
  })
  await t.rejects(place({ Dataplane: 'kernel' }, 'it cannot'), {
    code: 'HEDDLE_CONFIG',
    message: /Dataplane is "kernel", but it cannot; write "user", or load the module/,
  })
  await t.rejects(place({ Dataplane: 'kernel', Underlay: 'ipv4' }, null), { message: /leave one/ })
})

t.test('F50 host-gw: routes through peers', async (t) => {
  const own = { ...EXTERNAL, externalAddress: EXTERNAL.address }
  const { kernel, attrs, mtu, tunnels } = await create({ Type: 'host-gw' }, LEASE, DUAL, own)
  t.same([mtu, tunnels.length], [1500, 0])
  t.equal(
    formatLeaseAttrs(attrs),
    '{"PublicIP":"172.30.0.11","PublicIPv6":"fd30::11","BackendType":"host-gw"}',
  )
  const [v4, v6] = kernel
  const peer = { publicIP: '172.30.0.12', publicIPv6: 'fd30::12', backendType: 'host-gw' }
  t.same(v4!.reach(peer), { address: '172.30.0.12' })
  t.same(v6!.reach(peer), { address: 'fd30::12' })
  t.match(v4!.reach({ ...peer, backendType: 'vxlan' }), { fault: /backend type is "vxlan"/ })
  const subnet = { v4: parsePrefix4('10.5.2.0/24')!, v6: null }
  const reached = { address: '172.30.0.12', destination: '10.5.1.0/24', base: '10.5.1.0' }
  t.match(v4!.desired(subnet, [reached]), {
    links: [],
    routes: [{ destination: '10.5.1.0/24', device: 'eth0', via: '172.30.0.12' }],
  })
  await t.rejects(create({ Type: 'host-gw' }), {
    code: 'HEDDLE_CONFIG',
    message: /--public-ip 198\.51\.100\.1 is not the address 172\.30\.0\.11 of eth0/,
  })
})

t.test('F52 ipip: device, lease and peers', async (t) => {
  const backend = await create({ Type: 'ipip', DirectRouting: true })
  t.match(backend, { port: null, mtu: 1480, kernel: [], hooks: null, directRouting: true })
  const [tunnel] = backend.tunnels
  const wanted = { device: 'flannel.ipip', mtu: 1480, encap: { kind: 'ipip' }, outer: 4 }
  t.match(tunnel, { ...wanted, ipv4: true, ipv6: false })
  t.equal(
    formatLeaseAttrs(backend.attrs),
    '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"ipip"}',
  )
  const peer = { publicIP: '172.30.0.12', publicIPv6: null, backendType: 'ipip' }
  t.same(tunnel!.reach(peer), { address: '172.30.0.12', port: 0 })
  t.match(tunnel!.reach({ ...peer, backendType: '' }), { fault: /none, as of udp/ })
  await t.rejects(create({ Type: 'ipip' }, LEASE, DUAL), { message: /ipip" carries IPv4 only/ })
  await t.rejects(create({ Type: 'ipip', Underlay: 'ipv6' }), { message: /IPv4 in IPv4/ })
  await t.rejects(create({ Type: 'ipip', DirectRouting: 'yes' }), { message: /DirectRouting/ })
})

t.test('F52 ipip: devices of the kernel that are there already', async (t) => {
  const tunnel = { device: 'flannel.ipip', port: 0, encap: { kind: 'ipip' } } as const
  const linkOf = (kind: string) => ({ ifname: 'flannel.ipip', linkinfo: { info_kind: kind } })
  t.equal(whyNotOurs(linkOf('ipip'), tunnel), null, 'flanneld left it')
  t.equal(whyNotOurs(linkOf('vxlan'), tunnel), 'it is a vxlan device')
  const tunl0 = { ifname: 'tunl0', linkinfo: { info_kind: 'ipip' } }
  t.throws(
    () => {
      refuseHolder([{ ...tunl0, flags: ['NOARP', 'UP'] }], tunnel)
    },
    { code: 'HEDDLE_BUSY', message: /tunl0 down/ },
  )
  refuseHolder([{ ...tunl0, flags: ['NOARP'] }], tunnel)
})

t.test('F54 alloc: a lease and nothing else', async (t) => {
  const backend = await create({ Type: 'alloc' })
  t.match(backend, { mtu: 1500, tunnels: [], kernel: [], hooks: null })
  t.equal(formatLeaseAttrs(backend.attrs), '{"PublicIP":"198.51.100.1","PublicIPv6":null}')
})

t.test('F55 extension: what is published, and options that are none', async (t) => {
  const published = async (options: object) =>
    formatLeaseAttrs((await create({ Type: 'extension', ...options })).attrs)
  t.equal(
    await published({}),
    '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"extension"}',
  )
  t.match(await published({ PreStartupCommand: 'echo  key 1 ' }), /"BackendData":"key 1"}$/)
  await t.rejects(published({ PreStartupCommand: 'false' }), { code: 'HEDDLE_COMMAND' })
  await t.rejects(published({ SubnetAddCommand: ['true'] }), {
    code: 'HEDDLE_CONFIG',
    message: /SubnetAddCommand is \["true"\]; write a command as a string/,
  })
})
