/**
 * A backend as the agent runs it: the paths by which packets leave for peers, what this host publishes, and
 * what is asked of the leases of others.
 *
 * A path is a tunnel of ours, that is one TUN device with one socket, or something that the kernel does
 * once it is told of the peers. Which of them carries what:
 *
 *     udp                    a tunnel, IPv4 and IPv6 inside; outside IPv4, or as Underlay says
 *     vxlan                  as flannel: `flannel.<VNI>`, IPv4 in IPv4; `flannel-v6.<VNI>`, IPv6 in IPv6;
 *                            tunnels, or devices of the kernel
 *     vxlan with Underlay    a tunnel, `flannel.<VNI>`, IPv4 and IPv6 inside, outside as Underlay says
 *     host-gw                routes, IPv4 and IPv6 each for itself
 *     ipip                   a tunnel, IPv4 in IPv4
 *     extension              whatever the commands do
 *     alloc                  none
 */
import type { EncapChoice, Mac, PeerEndpoint } from '../../dataplane/index.js'
import type { AddressNeeds, ChosenInterface } from '../host/interface.js'
import type { HostState } from '../host/state.js'
import type { LeaseAttrs, LeaseSubnet } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import { createAlloc } from './alloc.js'
import { parseUnderlay, requireBackendType } from './config.js'
import { createExtension, type Hooks } from './extension.js'
import { createHostGw } from './host-gw.js'
import { createIpip } from './ipip.js'
import { createUdp } from './udp.js'
import { createVxlan } from './vxlan.js'

/** IP version. */
export type Family = 4 | 6

/** The host that a lease's packets go to. */
export interface PathEnd {
  /** Its address on the underlay. */
  readonly address: string
  /** MAC address of its VTEP, where there are VTEPs. */
  readonly mac?: Mac
}

export interface Fault {
  readonly fault: string
}

/** A way to peers, and what it carries. */
export interface Path {
  readonly ipv4: boolean
  readonly ipv6: boolean
  /** Where the packets of a lease go, or why they cannot go there. */
  reach(attrs: LeaseAttrs): PathEnd | Fault
}

/** A TUN device with a socket. */
export interface Tunnel extends Path {
  /** Name of the TUN device; `%d` is filled in by the kernel. */
  readonly device: string
  /** UDP port at both ends; 0 = there are no ports. */
  readonly port: number
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly encap: EncapChoice
  /** IP version of the outer packets. */
  readonly outer: Family
  reach(attrs: LeaseAttrs): PeerEndpoint | Fault
  /** Whether the host of a lease takes IPv6 packets from this tunnel. */
  takesIpv6(attrs: LeaseAttrs): boolean
}

/** A subnet of a peer, and the host behind which it is. */
export interface Reached extends PathEnd {
  /** Prefix as text, and its base address. */
  readonly destination: string
  readonly base: string
}

/** The kernel carries the packets. */
export interface KernelPath extends Path {
  /** Name and MTU of its device, for the status; null = it has none of its own. */
  readonly device: { readonly name: string; readonly mtu: number } | null
  /** What the kernel should hold for these peers. */
  desired(own: LeaseSubnet, peers: readonly Reached[]): HostState
}

export interface Backend {
  /** UDP port of all paths; null = there is none. */
  readonly port: number | null
  /** MTU for pods: the least of the paths'. */
  readonly mtu: number
  readonly tunnels: readonly Tunnel[]
  readonly kernel: readonly KernelPath[]
  /** What this host publishes. */
  readonly attrs: LeaseAttrs
  /** Whether peers on the same network are reached past the tunnel. */
  readonly directRouting: boolean
  /** Told of the own lease and of peers; null = nobody wants to know. */
  readonly hooks: Hooks | null
  /** What was decided, for the log. */
  readonly notes: readonly string[]
}

/** What backends ask of the store and of the host. */
export interface Facts {
  /** What the host of these addresses published last time, null = nothing; asked for only where it tells something. */
  published(own: Pick<LeaseAttrs, 'publicIP' | 'publicIPv6'>): Promise<LeaseAttrs | null>
  /** Why the kernel makes no VXLAN devices; null = it does. */
  whyNoVxlan(): Promise<string | null>
  /** Runs a command of the `extension` backend. @see runCommand */
  runCommand(
    command: string,
    variables: Readonly<Record<string, string>>,
    input: string,
  ): Promise<string>
}

/**
 * The addresses that a configuration asks of this host's interface.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function addressNeeds(config: NetworkConfig): AddressNeeds {
  const type = requireBackendType(config)
  const underlay = parseUnderlay(config)
  // By its IPv4 address a host is known to flannel; on an IPv6 underlay there may be none.
  if (underlay === 6)
    return { ipv4: config.ipv4 === null ? 'unused' : 'optional', ipv6: 'required' }
  if (underlay === 4 || type === 'udp' || type === 'ipip')
    return { ipv4: 'required', ipv6: 'unused' }
  return {
    ipv4: config.ipv4 === null ? 'unused' : 'required',
    ipv6: config.ipv6 === null ? 'unused' : 'required',
  }
}

/**
 * The backend of a configuration on this host.
 * @throws HeddleError HEDDLE_CONFIG for an option that is none, HEDDLE_STORE when the store fails
 */
export async function createBackend(
  config: NetworkConfig,
  external: ChosenInterface,
  facts: Facts,
): Promise<Backend> {
  switch (requireBackendType(config)) {
    case 'udp':
      return createUdp(config, external)
    case 'vxlan':
      return createVxlan(config, external, facts)
    case 'host-gw':
      return createHostGw(config, external)
    case 'ipip':
      return createIpip(config, external)
    case 'alloc':
      return createAlloc(external)
    case 'extension':
      return createExtension(config, external, facts)
  }
}
