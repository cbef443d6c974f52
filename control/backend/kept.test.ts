/**
 * Which device counts as one that a daemon of ours left behind.
 */
import t from 'tap'
import { keptDevice } from './kept.js'

const link = (ifname: string, info_kind = 'tun', persist = true) => ({
  ifname,
  linkinfo: { info_kind, info_data: { persist } },
})
const NETWORKS = ['10.5.0.0/16', 'fd05::/48']
const route = (dst: string, dev: string) => ({ dst, dev })

const cases: readonly (readonly [
  name: string,
  device: string,
  links: readonly ReturnType<typeof link>[],
  routes: readonly ReturnType<typeof route>[],
  want: string | null,
])[] = [
  ['none', 'flannel%d', [], [], null],
  [
    'that of the network',
    'flannel%d',
    [link('flannel0')],
    [route('10.5.0.0/16', 'flannel0')],
    'flannel0',
  ],
  ['of IPv6 alone', 'flannel%d', [link('flannel3')], [route('fd05::/48', 'flannel3')], 'flannel3'],
  [
    'that of another network',
    'flannel%d',
    [link('flannel0')],
    [route('10.6.0.0/16', 'flannel0')],
    null,
  ],
  ['one nobody routes to', 'flannel%d', [link('flannel0')], [], null],
  [
    'one of a daemon that runs',
    'flannel%d',
    [link('flannel0', 'tun', false)],
    [route('10.5.0.0/16', 'flannel0')],
    null,
  ],
  ['another name', 'flannel%d', [link('flannel.1')], [route('10.5.0.0/16', 'flannel.1')], null],
  ['no TUN', 'flannel%d', [link('flannel0', 'bridge')], [route('10.5.0.0/16', 'flannel0')], null],
  ['by its name', 'flannel.1', [link('flannel.1')], [], 'flannel.1'],
  ['of flanneld', 'flannel.1', [link('flannel.1', 'vxlan')], [], null],
]
for (const [name, device, links, routes, want] of cases) {
  t.equal(keptDevice({ device }, links, routes, NETWORKS)?.ifname ?? null, want, name)
}
