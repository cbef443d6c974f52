/**
 * What each backend opens and publishes for a configuration, and which options it refuses.
 */
import t from 'tap'
import { addressNeeds, createBackend } from './backend.js'
import { parseNetworkConfig } from './network-config.js'
import { formatLeaseAttrs, parseLeaseAttrs } from './lease-json.js'
import { leaseOf } from './scripted-store.js'

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
  createBackend(configOf(options, network), external, async () => [
    leaseOf('10.5.1.0-24', '198.51.100.2'),
    leaseOf('10.5.2.0-24', '198.51.100.1', { attrs: parseLeaseAttrs(value) }),
  ])

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
  t.same(backend.tunnels[0].encap, {
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
    t.equal(one.takesIpv6(attrs(data)), want, JSON.stringify(data))
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
    six.reach({ publicIP: '192.0.2.1', publicIPv6, backendType: '' })
  t.same(reach('fd30::12'), { address: 'fd30::12', port: 8285 })
  t.match(reach(null), { fault: /no PublicIPv6/ })
  for (const text of ['::', '::1', 'fe80::1', 'ff02::1']) {
    t.match(reach(text), { fault: /cannot be sent to/ }, text)
  }
})
