/**
 * `host-gw`: no tunnel, a route to each peer's subnet through the peer, which must be on the same network.
 */
import { HeddleError } from '../errors.js'
import type { ChosenInterface } from '../host/interface.js'
import { NOTHING } from '../host/state.js'
import type { NetworkConfig } from '../network-config.js'
import type { Backend, Family, KernelPath } from './backend.js'
import { PLAIN, publicAddresses, toward, wrongType } from './reach.js'

const HOST_GW_TYPE = 'host-gw'

/** @throws HeddleError HEDDLE_CONFIG where peers would be told an address that is not on the network */
export function createHostGw(config: NetworkConfig, external: ChosenInterface): Backend {
  const { address, externalAddress, address6, externalAddress6 } = external
  const given = [
    [address, externalAddress, '--public-ip'],
    [address6, externalAddress6, '--public-ipv6'],
  ] as const
  for (const [own, published, flag] of given) {
    if (own !== published) {
      throw new HeddleError(
        'HEDDLE_CONFIG',
        `backend host-gw: ${flag} ${String(published)} is not the address ${String(own)} of ${external.name}: peers could not use it as a gateway; leave ${flag} out, or use a backend with a tunnel`,
      )
    }
  }
  const createPath = (family: Family): KernelPath => ({
    ipv4: family === 4,
    ipv6: family === 6,
    device: null,
    reach: (attrs) => wrongType(attrs, HOST_GW_TYPE) ?? toward(attrs, family),
    desired: (_own, peers) => ({
      ...NOTHING,
      routes: peers.map(({ destination, address: via }) => ({
        destination,
        device: external.name,
        via,
      })),
    }),
  })
  return {
    ...PLAIN,
    mtu: external.mtu,
    kernel: [
      ...(config.ipv4 === null ? [] : [createPath(4)]),
      ...(config.ipv6 === null ? [] : [createPath(6)]),
    ],
    attrs: { ...publicAddresses(external), backendType: HOST_GW_TYPE },
  }
}
