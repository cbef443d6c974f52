/**
 * Which pair of inner and outer family a configuration selects, and what it is refused for.
 */
import t from 'tap'
import { parseVxlanBackend } from './backend-config.js'
import { parseNetworkConfig } from './network-config.js'
import { addressNeeds, outerFamilies } from './underlay.js'

const FOUR = { Network: '10.5.0.0/16' }
const SIX = { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd05::/48' }
const BOTH = { ...FOUR, EnableIPv6: true, IPv6Network: 'fd05::/48' }

const configOf = (network: object, backend: object) =>
  parseNetworkConfig(JSON.stringify({ ...network, Backend: backend }))

const PAIRS = [
  // Network, type, Underlay; outer of IPv4 and IPv6; needs of IPv4 and IPv6.
  [FOUR, 'udp', undefined, 'ipv4', null, 'required', 'unused'],
  [FOUR, 'udp', 'ipv6', 'ipv6', null, 'optional', 'required'],
  [BOTH, 'udp', null, 'ipv4', 'ipv4', 'required', 'unused'],
  [BOTH, 'udp', 'ipv4', 'ipv4', 'ipv4', 'required', 'unused'],
  [BOTH, 'udp', 'ipv6', 'ipv6', 'ipv6', 'optional', 'required'],
  [SIX, 'udp', undefined, null, 'ipv6', 'unused', 'required'],
  [SIX, 'udp', 'ipv6', null, 'ipv6', 'unused', 'required'],
  [FOUR, 'vxlan', undefined, 'ipv4', null, 'required', 'unused'],
  [FOUR, 'vxlan', 'ipv6', 'ipv6', null, 'optional', 'required'],
  [BOTH, 'vxlan', undefined, 'ipv4', 'ipv6', 'required', 'required'],
  [BOTH, 'vxlan', 'ipv4', 'ipv4', 'ipv4', 'required', 'unused'],
  [BOTH, 'vxlan', 'ipv6', 'ipv6', 'ipv6', 'optional', 'required'],
  [SIX, 'vxlan', undefined, null, 'ipv6', 'unused', 'required'],
] as const

t.test('pairs of families', async (t) => {
  for (const [network, type, underlay, four, six, need4, need6] of PAIRS) {
    const config = configOf(network, { Type: type, Underlay: underlay })
    const name = `${Object.keys(network).join()} ${type} ${String(underlay)}`
    t.same(outerFamilies(config), { ipv4: four, ipv6: six }, name)
    t.same(addressNeeds(config), { ipv4: need4, ipv6: need6 }, `${name}: addresses`)
  }
})

t.test('what is refused, and why', async (t) => {
  for (const [network, underlay, message] of [
    [FOUR, 'ip6', /Backend\.Underlay is "ip6"; write "ipv4" or "ipv6"/],
    [BOTH, 6, /Backend\.Underlay is 6/],
    [SIX, 'ipv4', /Underlay is "ipv4", but EnableIPv4 is false/],
  ] as const) {
    for (const type of ['udp', 'vxlan']) {
      const config = configOf(network, { Type: type, Underlay: underlay })
      t.throws(() => outerFamilies(config), { code: 'HEDDLE_CONFIG', message })
    }
  }
  const long = configOf(BOTH, { Type: 'vxlan', VNI: 10_000 })
  t.throws(() => parseVxlanBackend(long), { message: /VNI is 10000; .* 0 to 9999/ }, 'flannel-v6.…')
  const one = configOf(BOTH, { Type: 'vxlan', VNI: 10_000, Underlay: 'ipv6' })
  t.equal(parseVxlanBackend(one).vni, 10_000)
  const narrow = configOf(FOUR, { Type: 'vxlan', MTU: 137, Underlay: 'ipv6' })
  t.throws(() => parseVxlanBackend(narrow), { message: /MTU is 137; write a number from 138/ })
})
