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
  address: '172.30.0.11',
  externalAddress: '198.51.100.1',
  notes: [],
}
const LEASE =
  '{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"c6:d2:32:6f:8f:44"}}'

const create = (options: object, value = LEASE) =>
  createBackend(
    parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', Backend: options })),
    EXTERNAL,
    async () => [
      leaseOf('10.5.1.0-24', '198.51.100.2'),
      leaseOf('10.5.2.0-24', '198.51.100.1', { attrs: parseLeaseAttrs(value) }),
    ],
  )

t.test('udp', async (t) => {
  const backend = await create({ Type: 'udp' })
  t.match(backend, { device: 'flannel%d', port: 8285, mtu: 1472, encap: { kind: 'udp' } })
  t.equal(formatLeaseAttrs(backend.attrs), '{"PublicIP":"198.51.100.1","PublicIPv6":null}')
})

t.test('F44 vxlan: defaults and options', async (t) => {
  t.match(await create({ Type: 'vxlan' }), { device: 'flannel.1', port: 8472, mtu: 1450 })
  t.match(
    await create({ Type: 'VXLAN', vni: 7, port: 4789, mtu: 1400, gbp: false, Learning: null }),
    { device: 'flannel.7', port: 4789, mtu: 1350, encap: { kind: 'vxlan', vni: 7 } },
  )
  t.match(await create({ Type: 'vxlan', Port: 0, VNI: 0 }), { device: 'flannel.0', port: 8472 })
  t.match(await create({ Type: 'vxlan', Dataplane: 'user' }), { device: 'flannel.1' })
})

t.test('F48 vxlan: the MAC of the own lease is kept, and published as flannel does', async (t) => {
  const backend = await create({ Type: 'vxlan', VNI: 7 })
  t.equal(formatLeaseAttrs(backend.attrs), LEASE)
  t.same(backend.encap, { kind: 'vxlan', vni: 7, mac: { high: 0xc6d2, low: 0x326f8f44 } })
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
