/**
 * A backend as the agent runs it: the tunnels it opens, what it publishes, and what it asks of the
 * leases of others.
 */
import { randomBytes } from 'node:crypto'
import {
  createMac,
  formatMac,
  UDP_OVERHEAD,
  VXLAN_OVERHEAD,
  type EncapChoice,
  type PeerEndpoint,
} from '../dataplane/index.js'
import { parseUdpBackend, parseVxlanBackend, requireBackendType } from './backend-config.js'
import type { ChosenInterface } from './host/interface.js'
import type { Family } from './host/preferred-address.js'
import { fieldsOf } from './json-object.js'
import { hostOf, NO_PUBLIC_IP, type Lease, type LeaseAttrs } from './lease.js'
import type { NetworkConfig } from './network-config.js'
import { outerFamilies, parseUnderlay, type OuterFamilies } from './underlay.js'
import { previousMac, VXLAN_TYPE, vtepOf } from './vtep.js'

/** Where a lease's packets of one family go, that its host takes none, or why they cannot go there. */
export type Reach = PeerEndpoint | 'no-ipv6' | { readonly fault: string }

/** One TUN device and one outer family, with the inner families that they carry. */
export interface TunnelPlan {
  /** Name of the TUN device; `%d` is filled in by the kernel. */
  readonly device: string
  readonly carries: readonly Family[]
  readonly outer: Family
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly encap: EncapChoice
}

export interface Backend {
  /** UDP port at both ends. */
  readonly port: number
  /** Each inner family is carried by one of them. */
  readonly tunnels: readonly TunnelPlan[]
  /** What this host publishes. */
  readonly attrs: LeaseAttrs
  reach(attrs: LeaseAttrs, inner: Family): Reach
}

/** No link of IPv6's may carry less. Source: RFC 8200 §5 */
const MIN_IPV6_MTU = 1280

/**
 * The backend of a configuration on this host.
 * @param external    with the addresses of {@link addressNeeds}
 * @param readLeases  the leases that there are; `vxlan` finds its own MAC addresses of last time there
 * @throws HeddleError HEDDLE_CONFIG when this build cannot run it
 */
export async function createBackend(
  config: NetworkConfig,
  external: ChosenInterface,
  readLeases: () => Promise<readonly Lease[]>,
): Promise<Backend> {
  const outer = outerFamilies(config)
  return requireBackendType(config) === 'udp'
    ? createUdp(config, external, outer)
    : createVxlan(config, external, outer, await readLeases())
}

function createUdp(
  config: NetworkConfig,
  external: ChosenInterface,
  outer: OuterFamilies,
): Backend {
  const { port } = parseUdpBackend(config)
  const family = outer.ipv4 ?? outer.ipv6 ?? 'ipv4'
  const plan = { device: 'flannel%d', outer: family, carries: innerOf(outer, family) }
  const mtu = overlayMtu(external.mtu - UDP_OVERHEAD[digit(family)], plan.carries)
  return {
    port,
    tunnels: [{ ...plan, mtu, encap: { kind: 'udp' } }],
    attrs: {
      ...publicAddresses(external),
      backendType: '',
      ...(outer.ipv6 === null ? {} : { backendV6Data: { IPv6: true } }),
    },
    // flannel's takes every lease, whatever its type, and none of its hosts takes IPv6: its proxy
    // would lower a TTL in the middle of an address.
    reach: (attrs, inner) => {
      if (inner === 'ipv6' && fieldsOf(attrs.backendV6Data)?.get('ipv6') !== true) return 'no-ipv6'
      return endpoint(attrs, family, port)
    },
  }
}

function createVxlan(
  config: NetworkConfig,
  external: ChosenInterface,
  outer: OuterFamilies,
  leases: readonly Lease[],
): Backend {
  const { vni, port, mtu } = parseVxlanBackend(config)
  const addresses = publicAddresses(external)
  const host = hostOf({ ...addresses, backendType: VXLAN_TYPE })
  const tunnels = vxlanDevices(config, outer).map(({ name, outer: family, carries }) => {
    const macs = carries.flatMap((inner) => previousMac(leases, host, inner) ?? [])
    const mac = macs[0] ?? createMac(randomBytes(6))
    return {
      device: `${name}.${String(vni)}`,
      outer: family,
      carries,
      mtu: overlayMtu((mtu ?? external.mtu) - VXLAN_OVERHEAD[digit(family)], carries),
      encap: { kind: 'vxlan', vni, mac } as const,
    }
  })
  const dataOf = (inner: Family) => {
    const tunnel = tunnels.find(({ carries }) => carries.includes(inner))
    return tunnel && { VNI: vni, VtepMAC: formatMac(tunnel.encap.mac) }
  }
  const [backendData, backendV6Data] = [dataOf('ipv4'), dataOf('ipv6')]
  return {
    port,
    tunnels,
    attrs: {
      ...addresses,
      backendType: VXLAN_TYPE,
      ...(backendData && { backendData }),
      ...(backendV6Data && { backendV6Data }),
    },
    reach: (attrs, inner) => {
      const vtep = vtepOf(attrs, inner)
      const to = endpoint(attrs, outer[inner] ?? inner, port)
      if ('fault' in vtep) return vtep
      return 'fault' in to ? to : { ...to, mac: vtep.mac }
    },
  }
}

/** One device with Underlay; else flannel's, one for each family. */
function vxlanDevices(config: NetworkConfig, outer: OuterFamilies) {
  const inner = (['ipv4', 'ipv6'] as const).filter((family) => outer[family] !== null)
  const underlay = parseUnderlay(config)
  if (underlay !== null) return [{ name: 'flannel', outer: underlay, carries: inner }]
  return inner.map((family) => ({
    name: family === 'ipv4' ? 'flannel' : 'flannel-v6',
    outer: family,
    carries: [family],
  }))
}

function digit(family: Family): 4 | 6 {
  return family === 'ipv4' ? 4 : 6
}

/** The inner families that an outer one carries. */
function innerOf(outer: OuterFamilies, family: Family): Family[] {
  return (['ipv4', 'ipv6'] as const).filter((inner) => outer[inner] === family)
}

/** The MTU of a tunnel, held at what IPv6 needs: longer outer packets go in fragments then. */
function overlayMtu(mtu: number, carries: readonly Family[]): number {
  return carries.includes('ipv6') ? Math.max(mtu, MIN_IPV6_MTU) : mtu
}

function publicAddresses({ ipv4, ipv6 }: ChosenInterface) {
  return { publicIP: ipv4?.external ?? NO_PUBLIC_IP, publicIPv6: ipv6?.external ?? null }
}

/** Where a host's datagrams go in one outer family. */
function endpoint(
  { publicIP, publicIPv6 }: LeaseAttrs,
  outer: Family,
  port: number,
): PeerEndpoint | { readonly fault: string } {
  if (outer === 'ipv4') return { address: publicIP, port }
  return publicIPv6 === null
    ? { fault: 'its host has no PublicIPv6, which this underlay needs' }
    : { address: publicIPv6, port }
}
