/**
 * Which peers are reached past the tunnel: tables of routes and peers.
 */
import t from 'tap'
import { directRoutes } from './direct.js'
import type { RouteInfo } from './interface.js'

const ROUTES: readonly RouteInfo[] = [
  { dst: 'default', gateway: '172.30.0.254', dev: 'eth0' },
  { dst: '172.30.0.0/24', dev: 'eth0' },
  { dst: '172.30.0.13', gateway: '172.30.0.254', dev: 'eth0' },
  { dst: '172.31.0.0/16', nexthops: [{ dev: 'eth0' }, { dev: 'eth1' }] },
  { dst: '10.5.0.0/16', dev: 'flannel.1' },
  { dst: 'fd99::/64', dev: 'lo', type: 'unreachable' },
  { dst: 'default', gateway: 'fd30::fe', dev: 'eth0' },
  { dst: 'fd30::/64', dev: 'eth1' },
]
const cases: readonly (readonly [name: string, address: string, device: string | null])[] = [
  ['on the same network', '172.30.0.12', 'eth0'],
  ['behind a gateway of its own', '172.30.0.13', null],
  ['behind the default gateway', '198.51.100.1', null],
  ['by several ways', '172.31.0.1', null],
  ['IPv6 on the same network', 'fd30::12', 'eth1'],
  ['IPv6 behind the default gateway', 'fd31::12', null],
  ['IPv6 that is declared unreachable', 'fd99::12', null],
]
for (const [name, address, device] of cases) {
  t.test(name, async (t) => {
    const destination = address.includes(':') ? 'fd05:0:0:2::/64' : '10.5.2.0/24'
    t.same(
      directRoutes([{ destination, address }], ROUTES),
      device === null ? [] : [{ destination, device, via: address }],
    )
  })
}

t.test('F45 without any route there is none past the tunnel', async (t) => {
  t.same(directRoutes([{ destination: '10.5.2.0/24', address: '172.30.0.12' }], []), [])
})
