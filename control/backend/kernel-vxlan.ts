/**
 * `vxlan` by the kernel's own device, told of the peers as flannel tells it: for each a permanent neighbour, the
 * subnet's base address with the MAC address of the VTEP; a forwarding entry, that MAC address behind
 * the host; and a route to the subnet through its base address.
 */
import { formatMac, type Mac } from '../../dataplane/index.js'
import { NOTHING, type HostState } from '../host/state.js'
import { hasIpv4, type LeaseSubnet } from '../lease.js'
import { formatPrefix4, formatPrefix6 } from '../prefix.js'
import type { Family, KernelPath, Reached } from './backend.js'
import type { VxlanConfig } from './config.js'
import { toward } from './reach.js'
import { vtepOf } from './vtep.js'

export interface KernelDevice {
  readonly name: string
  /** Both inside and outside. */
  readonly family: Family
  readonly mac: Mac
  readonly mtu: number
  /** Name of the underlay's interface, and the address on it. */
  readonly lower: string
  readonly local: string
}

export function createKernelPath(
  device: KernelDevice,
  { vni, port, learning, gbp }: VxlanConfig,
): KernelPath {
  const { name, family, mtu, lower, local } = device
  const link = {
    name,
    mtu,
    isUp: true,
    mac: formatMac(device.mac),
    vxlan: { vni, lower, local, port, learning, gbp },
  }
  return {
    ipv4: family === 4,
    ipv6: family === 6,
    device: { name, mtu },
    reach: (attrs) => {
      const vtep = vtepOf(attrs, family)
      if ('fault' in vtep) return vtep
      const to = toward(attrs, family)
      return 'fault' in to ? to : { ...to, mac: vtep.mac }
    },
    desired: (own, peers) => ({
      ...NOTHING,
      links: [link],
      addresses: ownAddress(own, family).map((address) => ({ device: name, address })),
      settings: [{ path: `net/ipv6/conf/${name}/accept_ra`, value: '0' }],
      ...entries(name, peers),
    }),
  }
}

/** The base address alone, so that no route comes with it. */
function ownAddress(own: LeaseSubnet, family: Family): string[] {
  if (family === 4) {
    return hasIpv4(own) ? [formatPrefix4({ addr: own.v4.addr, len: 32 })] : []
  }
  return own.v6 === null ? [] : [formatPrefix6({ addr: own.v6.addr, len: 128 })]
}

function entries(
  device: string,
  peers: readonly Reached[],
): Pick<HostState, 'neighbours' | 'forwarding' | 'routes'> {
  const known = peers.flatMap((peer) =>
    peer.mac === undefined ? [] : [{ ...peer, mac: formatMac(peer.mac) }],
  )
  return {
    neighbours: known.map(({ base, mac }) => ({ device, address: base, mac })),
    forwarding: known.map(({ address, mac }) => ({ device, mac, host: address })),
    routes: known.map(({ destination, base }) => ({
      destination,
      device,
      via: base,
      isOnlink: true,
    })),
  }
}
