/**
 * What the backends share: how large packets may be, what a host publishes, and where a lease's packets go.
 */
import { LEAST_MTU_6 } from '../../dataplane/index.js'
import { isReachable6, type ChosenInterface } from '../host/interface.js'
import { NO_PUBLIC_IP, type LeaseAttrs } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import { formatPrefix4, formatPrefix6, parseAddr4, parseAddr6 } from '../prefix.js'
import type { Backend, Family, Fault } from './backend.js'

/** What most backends have not. */
export const PLAIN = {
  port: null,
  tunnels: [],
  kernel: [],
  directRouting: false,
  hooks: null,
  notes: [],
} as const satisfies Partial<Backend>

/** IPv6 needs a device of 1280 bytes (RFC 8200 §5): what does not fit the path then leaves in outer fragments. */
export function overlayMtu(mtu: number, hasIpv6: boolean): number {
  return hasIpv6 ? Math.max(mtu, LEAST_MTU_6) : mtu
}

export function publicAddresses(external: ChosenInterface) {
  return {
    publicIP: external.externalAddress ?? NO_PUBLIC_IP,
    publicIPv6: external.externalAddress6,
  }
}

/** The network of a family as text; none = the configuration has not that family. */
export function networkText({ ipv4, ipv6 }: NetworkConfig, family: Family): string[] {
  if (family === 4) return ipv4 === null ? [] : [formatPrefix4(ipv4.network)]
  return ipv6 === null ? [] : [formatPrefix6(ipv6.network)]
}

/** Why a lease of another backend is no peer's; null = it is of this one. */
export function wrongType({ backendType }: LeaseAttrs, wanted: string): Fault | null {
  if (backendType === wanted) return null
  const type = backendType === '' ? 'none, as of udp' : JSON.stringify(backendType)
  return { fault: `its backend type is ${type}, not "${wanted}"` }
}

/** The address of a lease's host that packets are sent to, or why they cannot be. */
export function toward(
  { publicIP, publicIPv6 }: LeaseAttrs,
  outer: Family,
): { readonly address: string } | Fault {
  if (outer === 4) {
    const top = (parseAddr4(publicIP) ?? 0) >>> 24
    return top === 0 || top === 127 || top >= 224
      ? { fault: `its public address ${publicIP} cannot be sent to` }
      : { address: publicIP }
  }
  if (publicIPv6 === null) return { fault: 'it has no PublicIPv6, and the underlay is IPv6' }
  return isReachable6(parseAddr6(publicIPv6) ?? 0n)
    ? { address: publicIPv6 }
    : { fault: `its public address ${publicIPv6} cannot be sent to` }
}
