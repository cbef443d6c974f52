/**
 * A backend as the agent runs it: its tunnels, what this host publishes, and what is asked of the leases
 * of others.
 *
 * A tunnel is one TUN device with one socket. Which of them carries what:
 *
 *     udp                    one, IPv4 and IPv6 inside; outside IPv4, or as Underlay says
 *     vxlan                  as flannel: `flannel.<VNI>`, IPv4 in IPv4; `flannel-v6.<VNI>`, IPv6 in IPv6
 *     vxlan with Underlay    one, `flannel.<VNI>`, IPv4 and IPv6 inside, outside as Underlay says
 */
import { randomBytes } from 'node:crypto'
import {
  createMac,
  formatMac,
  LEAST_MTU_6,
  UDP_OVERHEAD,
  VXLAN_OVERHEAD,
  type EncapChoice,
  type Mac,
  type PeerEndpoint,
} from '../dataplane/index.js'
import {
  parseUdpBackend,
  parseUnderlay,
  parseVxlanBackend,
  requireBackendType,
  type VxlanConfig,
} from './backend-config.js'
import { isReachable6, type AddressNeeds, type ChosenInterface } from './host/interface.js'
import { fieldsOf } from './json-object.js'
import { NO_PUBLIC_IP, type Lease, type LeaseAttrs } from './lease.js'
import type { NetworkConfig } from './network-config.js'
import { parseAddr4, parseAddr6 } from './prefix.js'
import { previousMac, VXLAN_TYPE, vtepOf } from './vtep.js'

/** IP version. */
export type Family = 4 | 6

/** Where a lease's packets go, or why they cannot go there. */
export type Reach = PeerEndpoint | { readonly fault: string }

export interface Tunnel {
  /** Name of the TUN device; `%d` is filled in by the kernel. */
  readonly device: string
  /** UDP port at both ends. */
  readonly port: number
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly encap: EncapChoice
  /** IP version of the outer packets. */
  readonly outer: Family
  /** What it carries. */
  readonly ipv4: boolean
  readonly ipv6: boolean
  reach(attrs: LeaseAttrs): Reach
  /** Whether the host of a lease takes IPv6 packets from this tunnel. */
  takesIpv6(attrs: LeaseAttrs): boolean
}

export interface Backend {
  /** UDP port of all tunnels. */
  readonly port: number
  /** MTU for pods: the least of the tunnels'. */
  readonly mtu: number
  readonly tunnels: readonly [Tunnel, ...Tunnel[]]
  /** What this host publishes. */
  readonly attrs: LeaseAttrs
  /** Whether peers on the same network are reached past the tunnel. */
  readonly directRouting: boolean
}

/**
 * The addresses that a configuration asks of this host's interface.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function addressNeeds(config: NetworkConfig): AddressNeeds {
  const isVxlan = requireBackendType(config) === 'vxlan'
  const underlay = parseUnderlay(config)
  // By its IPv4 address a host is known to flannel; on an IPv6 underlay there may be none.
  if (underlay === 6)
    return { ipv4: config.ipv4 === null ? 'unused' : 'optional', ipv6: 'required' }
  if (underlay === 4 || !isVxlan) return { ipv4: 'required', ipv6: 'unused' }
  return {
    ipv4: config.ipv4 === null ? 'unused' : 'required',
    ipv6: config.ipv6 === null ? 'unused' : 'required',
  }
}

/**
 * The backend of a configuration on this host.
 * @param readLeases  the leases of the network; asked for only where the own lease tells something
 * @throws HeddleError HEDDLE_CONFIG for an option that is none, HEDDLE_STORE when the store fails
 */
export async function createBackend(
  config: NetworkConfig,
  external: ChosenInterface,
  readLeases: () => Promise<readonly Lease[]>,
): Promise<Backend> {
  return requireBackendType(config) === 'udp'
    ? createUdp(config, external)
    : createVxlan(config, external, await readLeases())
}

function createUdp(config: NetworkConfig, external: ChosenInterface): Backend {
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
    reach: (attrs) => toward(attrs, outer, port),
    takesIpv6: (attrs) => fieldsOf(attrs.backendV6Data)?.get('ipv6') === true,
  }
  const attrs = {
    ...publicAddresses(external),
    backendType: '',
    // flannel's proxy reads IPv6 packets as IPv4 and would damage them; it ignores this member.
    ...(hasIpv6 ? { backendV6Data: { IPv6: true } } : {}),
  }
  return { port, mtu, tunnels: [tunnel], attrs, directRouting: false }
}

function createVxlan(
  config: NetworkConfig,
  external: ChosenInterface,
  leases: readonly Lease[],
): Backend {
  const vxlan = parseVxlanBackend(config)
  const { port, directRouting } = vxlan
  const underlay = parseUnderlay(config)
  const ipv4 = config.ipv4 !== null
  const ipv6 = config.ipv6 !== null
  const addresses = publicAddresses(external)
  const macOf = (family: Family): Mac =>
    previousMac(leases, addresses, family) ?? createMac(randomBytes(6))
  const own = vxlan.mtu === null ? external : { ...external, mtu: vxlan.mtu }
  const data = (mac: Mac) => ({ VNI: vxlan.vni, VtepMAC: formatMac(mac) })
  const publish = (mac4: Mac | null, mac6: Mac | null): LeaseAttrs => ({
    ...addresses,
    backendType: VXLAN_TYPE,
    ...(mac4 === null ? {} : { backendData: data(mac4) }),
    ...(mac6 === null ? {} : { backendV6Data: data(mac6) }),
  })
  const name = `flannel.${String(vxlan.vni)}`
  if (underlay !== null) {
    const mac = macOf(ipv4 ? 4 : 6)
    const tunnel = createVxlanTunnel(name, vxlan, own, mac, underlay, { ipv4, ipv6 })
    const attrs = publish(ipv4 ? mac : null, ipv6 ? mac : null)
    return { port, mtu: tunnel.mtu, tunnels: [tunnel], attrs, directRouting }
  }
  const mac4 = ipv4 ? macOf(4) : null
  const mac6 = ipv6 ? macOf(6) : null
  const tunnels: Tunnel[] = []
  if (mac4 !== null) {
    tunnels.push(createVxlanTunnel(name, vxlan, own, mac4, 4, { ipv4: true, ipv6: false }))
  }
  if (mac6 !== null) {
    const name6 = `flannel-v6.${String(vxlan.vni)}`
    tunnels.push(createVxlanTunnel(name6, vxlan, own, mac6, 6, { ipv4: false, ipv6: true }))
  }
  const [first, ...more] = tunnels
  if (first === undefined) throw new RangeError('a network has at least one family')
  const mtu = Math.min(...tunnels.map((tunnel) => tunnel.mtu))
  return { port, mtu, tunnels: [first, ...more], attrs: publish(mac4, mac6), directRouting }
}

function createVxlanTunnel(
  device: string,
  { vni, port }: VxlanConfig,
  { mtu }: { readonly mtu: number },
  mac: Mac,
  outer: Family,
  inner: { readonly ipv4: boolean; readonly ipv6: boolean },
): Tunnel {
  return {
    device,
    port,
    mtu: overlayMtu(mtu - VXLAN_OVERHEAD[outer], inner.ipv6),
    encap: { kind: 'vxlan', vni, mac },
    outer,
    ...inner,
    reach: (attrs) => {
      const vtep = vtepOf(attrs, inner.ipv4 ? 4 : 6)
      if ('fault' in vtep) return vtep
      const to = toward(attrs, outer, port)
      return 'fault' in to ? to : { ...to, mac: vtep.mac }
    },
    takesIpv6: () => true,
  }
}

/** IPv6 needs a device of 1280 bytes (RFC 8200 §5): what does not fit the path then leaves in outer fragments. */
function overlayMtu(mtu: number, hasIpv6: boolean): number {
  return hasIpv6 ? Math.max(mtu, LEAST_MTU_6) : mtu
}

function publicAddresses(external: ChosenInterface) {
  return {
    publicIP: external.externalAddress ?? NO_PUBLIC_IP,
    publicIPv6: external.externalAddress6,
  }
}

/** The address of a lease's host that a tunnel sends to, or why it cannot. */
function toward({ publicIP, publicIPv6 }: LeaseAttrs, outer: Family, port: number): Reach {
  if (outer === 4) {
    const top = (parseAddr4(publicIP) ?? 0) >>> 24
    return top === 0 || top === 127 || top >= 224
      ? { fault: `its public address ${publicIP} cannot be sent to` }
      : { address: publicIP, port }
  }
  if (publicIPv6 === null) return { fault: 'it has no PublicIPv6, and the underlay is IPv6' }
  return isReachable6(parseAddr6(publicIPv6) ?? 0n)
    ? { address: publicIPv6, port }
    : { fault: `its public address ${publicIPv6} cannot be sent to` }
}
