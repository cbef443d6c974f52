/**
 * flannel's `udp`: packets as they are in UDP datagrams, by a TUN device.
 */
import { UDP_OVERHEAD } from '../../dataplane/index.js'
import type { ChosenInterface } from '../host/interface.js'
import { fieldsOf } from '../json-object.js'
import type { NetworkConfig } from '../network-config.js'
import type { Backend, Tunnel } from './backend.js'
import { parseUdpBackend, parseUnderlay } from './config.js'
import { overlayMtu, PLAIN, publicAddresses, toward } from './reach.js'

export function createUdp(config: NetworkConfig, external: ChosenInterface): Backend {
  const { port } = parseUdpBackend(config)
  const outer = parseUnderlay(config) ?? 4
  const hasIpv6 = config.ipv6 !== null
  const mtu = overlayMtu(external.mtu - UDP_OVERHEAD[outer], hasIpv6)
  const tunnel: Tunnel = {
    device: 'flannel%d',
    port,
    mtu,
    encap: { kind: 'udp' },
    outer,
    ipv4: config.ipv4 !== null,
    ipv6: hasIpv6,
    // flannel's takes every lease, whatever its type.
    reach: (attrs) => {
      const to = toward(attrs, outer)
      return 'fault' in to ? to : { ...to, port }
    },
    takesIpv6: (attrs) => fieldsOf(attrs.backendV6Data)?.get('ipv6') === true,
  }
  const attrs = {
    ...publicAddresses(external),
    backendType: '',
    // flannel's proxy reads IPv6 packets as IPv4 and would damage them; it ignores this member.
    ...(hasIpv6 ? { backendV6Data: { IPv6: true } } : {}),
  }
  return { ...PLAIN, port, mtu, tunnels: [tunnel], attrs }
}
