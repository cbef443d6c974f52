/**
 * A backend as the agent runs it: what it opens, publishes and asks of the leases of others.
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
import type { Lease, LeaseAttrs } from './lease.js'
import type { NetworkConfig } from './network-config.js'
import { previousMac, VXLAN_TYPE, vtepOf } from './vtep.js'

/** Where a lease's packets go, or why they cannot go there. */
export type Reach = PeerEndpoint | { readonly fault: string }

export interface Backend {
  /** Name of the TUN device; `%d` is filled in by the kernel. */
  readonly device: string
  /** UDP port at both ends. */
  readonly port: number
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly encap: EncapChoice
  /** What this host publishes. */
  readonly attrs: LeaseAttrs
  reach(attrs: LeaseAttrs): Reach
}

/**
 * The backend of a configuration on this host.
 * @param readLeases  the leases that there are; `vxlan` finds its own MAC address of last time there
 * @throws HeddleError HEDDLE_CONFIG when this build cannot run it
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
  return {
    device: 'flannel%d',
    port,
    mtu: external.mtu - UDP_OVERHEAD[4],
    encap: { kind: 'udp' },
    attrs: { publicIP: external.externalAddress, publicIPv6: null, backendType: '' },
    // flannel's takes every lease, whatever its type.
    reach: ({ publicIP }) => ({ address: publicIP, port }),
  }
}

function createVxlan(
  config: NetworkConfig,
  external: ChosenInterface,
  leases: readonly Lease[],
): Backend {
  const { vni, port, mtu } = parseVxlanBackend(config)
  const publicIP = external.externalAddress
  const mac = previousMac(leases, publicIP) ?? createMac(randomBytes(6))
  return {
    device: `flannel.${String(vni)}`,
    port,
    mtu: (mtu ?? external.mtu) - VXLAN_OVERHEAD[4],
    encap: { kind: 'vxlan', vni, mac },
    attrs: {
      publicIP,
      publicIPv6: null,
      backendType: VXLAN_TYPE,
      backendData: { VNI: vni, VtepMAC: formatMac(mac) },
    },
    reach: (attrs) => {
      const vtep = vtepOf(attrs)
      return 'fault' in vtep ? vtep : { address: attrs.publicIP, port, mac: vtep.mac }
    },
  }
}
