/**
 * flannel's `ipip` in user space: IPv4 in IPv4, protocol 4, by a TUN device of flannel's name and a raw
 * socket. It needs no module of the kernel.
 */
import { IPIP_OVERHEAD } from '../../dataplane/index.js'
import { HeddleError } from '../errors.js'
import type { ChosenInterface } from '../host/interface.js'
import type { NetworkConfig } from '../network-config.js'
import type { Backend, Tunnel } from './backend.js'
import { parseIpipBackend } from './config.js'
import { PLAIN, publicAddresses, toward, wrongType } from './reach.js'

const IPIP_TYPE = 'ipip'

/** @throws HeddleError HEDDLE_CONFIG for an option that is none, and where there is IPv6 */
export function createIpip(config: NetworkConfig, external: ChosenInterface): Backend {
  const { directRouting } = parseIpipBackend(config)
  if (config.ipv6 !== null) {
    throw new HeddleError(
      'HEDDLE_CONFIG',
      'invalid network configuration: Backend.Type "ipip" carries IPv4 only; leave EnableIPv6 out, or use vxlan',
    )
  }
  const mtu = external.mtu - IPIP_OVERHEAD
  const tunnel: Tunnel = {
    device: 'flannel.ipip',
    port: 0,
    mtu,
    encap: { kind: 'ipip' },
    outer: 4,
    ipv4: true,
    ipv6: false,
    reach: (attrs) => {
      const to = wrongType(attrs, IPIP_TYPE) ?? toward(attrs, 4)
      return 'fault' in to ? to : { ...to, port: 0 }
    },
    takesIpv6: () => false,
  }
  const attrs = { ...publicAddresses(external), backendType: IPIP_TYPE }
  return { ...PLAIN, mtu, tunnels: [tunnel], attrs, directRouting }
}
