/**
 * What each backend opens and publishes for a configuration, and which options it refuses.
 */
import t from 'tap'
import { createBackend } from './backend.js'
import { parseNetworkConfig } from './network-config.js'
import { formatLeaseAttrs, parseLeaseAttrs } from './lease-json.js'
import { leaseOf } from './scripted-store.js'

const EXTERNAL = {
  name: 'eth0',
  index: 2,
  mtu: 1500,
  ipv4: { local: '172.30.0.11', external: '198.51.100.1' },
  ipv6: null,
  notes: [],
}
const EXTERNAL6 = { ...EXTERNAL, ipv6: { local: 'fd30::11', external: '2001:db8::1' } }
const LEASE =
  '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"c6:d2:32:6f:8f:44"}}'
const DUAL_LEASE =
  '{"PublicIP":"198.51.100.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":7,"VtepMAC":"9a:01:02:03:04:05"}}'
const SIX = { EnableIPv6: true, IPv6Network: 'fd05::/48' }

const create = (options: object, value = LEASE, network: object = {}, external = EXTERNAL6) => {
  const config = { Network: '10.5.0.0/16', ...network, Backend: options }
  const isV6 = 'EnableIPv6' in network || 'Underlay' in options
  return createBackend(
    parseNetworkConfig(JSON.stringify(config)),
    isV6 ? external : EXTERNAL,
    async () => [
      leaseOf('10.5.1.0-24', '198.51.100.2'),
      leaseOf('10.5.2.0-24', '198.51.100.1', { attrs: parseLeaseAttrs(value) }),
    ],
  )
}

t.test('udp', async (t) => {
  const { port, tunnels, attrs } = await create({ Type: 'udp' })
  t.equal(port, 8285)
  t.same(tunnels, [
    { device: 'flannel%d', outer: 'ipv4', carries: ['ipv4'], mtu: 1472, encap: { kind: 'udp' } },
  ])
  t.equal(formatLeaseAttrs(attrs), '{"PublicIP":"198.51.100.1","PublicIPv6":null}')
})

t.test('F22 udp with IPv6: one tunnel, and the lease says so', async (t) => {
  const external = { ...EXTERNAL6, ipv6: null }
  const { tunnels, attrs, reach } = await create({ Type: 'udp' }, LEASE, SIX, external as never)
  t.match(tunnels, [{ outer: 'ipv4', carries: ['ipv4', 'ipv6'], mtu: 1472 }])
  t.equal(
    formatLeaseAttrs(attrs),
    '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendV6Data":{"IPv6":true}}',
  )
  const peer = leaseOf('10.5.1.0-24', '198.51.100.2').attrs
  const to = { address: '198.51.100.2', port: 8285 }
  t.same(reach(peer, 'ipv4'), to)
  t.equal(reach(peer, 'ipv6'), 'no-ipv6', 'of flannel')
  t.equal(reach({ ...peer, backendV6Data: { IPv6: 'true' } }, 'ipv6'), 'no-ipv6')
  t.same(reach({ ...peer, backendV6Data: { ipv6: true } }, 'ipv6'), to)
})

t.test('udp over IPv6', async (t) => {
  const { tunnels, attrs, reach } = await create({ Type: 'udp', Underlay: 'ipv6' }, LEASE, SIX)
  t.match(tunnels, [{ outer: 'ipv6', carries: ['ipv4', 'ipv6'], mtu: 1452 }])
  t.equal(
    formatLeaseAttrs(attrs),
    '{"PublicIP":"198.51.100.1","PublicIPv6":"2001:db8::1","BackendV6Data":{"IPv6":true}}',
  )
  t.same(reach({ ...attrs, publicIPv6: 'fd30::2' }, 'ipv4'), { address: 'fd30::2', port: 8285 })
  t.match(reach({ ...attrs, publicIPv6: null }, 'ipv4'), { fault: /no PublicIPv6/ })
})

t.test('IPv6 holds the MTU at 1280', async (t) => {
  const narrow = (mtu: number) => ({ ...EXTERNAL6, mtu })
  const mtus = async (options: object, network: object, mtu: number) =>
    (await create(options, LEASE, network, narrow(mtu))).tunnels.map((tunnel) => tunnel.mtu)
  t.same(await mtus({ Type: 'udp' }, SIX, 1280), [1280])
  t.same(await mtus({ Type: 'udp', Underlay: 'ipv6' }, SIX, 1327), [1280])
  t.same(await mtus({ Type: 'udp', Underlay: 'ipv6' }, SIX, 1329), [1281])
  t.same(
    await mtus({ Type: 'udp', Underlay: 'ipv6' }, {}, 1280),
    [1232],
    'IPv4 needs no such thing',
  )
  t.same(await mtus({ Type: 'vxlan' }, SIX, 1280), [1230, 1280])
  t.same(await mtus({ Type: 'vxlan', Underlay: 'ipv6' }, SIX, 1280), [1280])
})

t.test('F49 vxlan, dual stack: a device for each family, as flannel', async (t) => {
  const { tunnels, attrs } = await create({ Type: 'vxlan', VNI: 7 }, DUAL_LEASE, SIX)
  t.match(tunnels, [
    { device: 'flannel.7', outer: 'ipv4', carries: ['ipv4'], mtu: 1450 },
    { device: 'flannel-v6.7', outer: 'ipv6', carries: ['ipv6'], mtu: 1430 },
  ])
  t.equal(formatLeaseAttrs(attrs), DUAL_LEASE, 'both MACs are kept')
})

t.test('vxlan with Underlay: one device, one MAC', async (t) => {
  for (const [underlay, mtu] of [
    ['ipv4', 1450],
    ['ipv6', 1430],
  ] as const) {
    const options = { Type: 'vxlan', VNI: 7, Underlay: underlay }
    const { tunnels, attrs } = await create(options, DUAL_LEASE, SIX)
    t.match(tunnels, [{ device: 'flannel.7', outer: underlay, carries: ['ipv4', 'ipv6'], mtu }])
    t.same(attrs.backendData, { VNI: 7, VtepMAC: 'c6:d2:32:6f:8f:44' })
    t.same(attrs.backendV6Data, attrs.backendData)
  }
})

t.test('vxlan, IPv6-only: PublicIP is written, and 0.0.0.0', async (t) => {
  const external = { ...EXTERNAL6, ipv4: null } as never
  const network = { ...SIX, EnableIPv4: false }
  const { tunnels, attrs } = await create({ Type: 'vxlan' }, LEASE, network, external)
  t.match(tunnels, [{ device: 'flannel-v6.1', outer: 'ipv6', carries: ['ipv6'] }])
  t.match(
    formatLeaseAttrs(attrs),
    /^{"PublicIP":"0\.0\.0\.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"[0-9a-f:]{17}"}}$/,
  )
})

t.test('F44 vxlan: defaults and options', async (t) => {
  const cases: readonly (readonly [object, number, object])[] = [
    [{}, 8472, { device: 'flannel.1', mtu: 1450 }],
    [
      { vni: 7, port: 4789, mtu: 1400, gbp: false, Learning: null },
      4789,
      { device: 'flannel.7', mtu: 1350, encap: { kind: 'vxlan', vni: 7 } },
    ],
    [{ Port: 0, VNI: 0 }, 8472, { device: 'flannel.0' }],
    [{ Dataplane: 'user' }, 8472, { device: 'flannel.1' }],
  ]
  for (const [options, port, tunnel] of cases) {
    t.match(await create({ Type: 'VXLAN', ...options }), { port, tunnels: [tunnel] })
  }
})

t.test('F48 vxlan: the MAC of the own lease is kept, and published as flannel does', async (t) => {
  const backend = await create({ Type: 'vxlan', VNI: 7 })
  t.equal(formatLeaseAttrs(backend.attrs), LEASE)
  t.same(backend.tunnels[0]?.encap, {
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
    [{ DirectRouting: true }, /Backend\.DirectRouting is true, but .* not built yet/],
    [{ Dataplane: 'kernel' }, /Dataplane "kernel" is not built yet/],
    [{ Dataplane: 'xdp' }, /Dataplane is "xdp"; write "user"/],
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
