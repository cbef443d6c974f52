/**
 * Which family carries which: the inner families that a network has, and the outer family that their
 * packets travel in.
 *
 *     backend  Underlay        IPv4 inside    IPv6 inside
 *     udp      "ipv4"          in IPv4        in IPv4        the default, unless the network is IPv6-only
 *     udp      "ipv6"          in IPv6        in IPv6        the default of an IPv6-only network
 *     vxlan    not given       in IPv4        in IPv6        one device each, as flannel
 *     vxlan    "ipv4"          in IPv4        in IPv4        one device
 *     vxlan    "ipv6"          in IPv6        in IPv6        one device
 *
 * flannel has none of this: where Underlay is given, or `udp` carries IPv6, only peers that are Heddle
 * can take part.
 */
import { HeddleError } from './errors.js'
import type { InterfaceRequest } from './host/interface.js'
import type { Family } from './host/preferred-address.js'
import { quoteValue } from './json-object.js'
import type { NetworkConfig } from './network-config.js'

/** The outer family of each inner one, null = the network does not have it. */
export interface OuterFamilies {
  readonly ipv4: Family | null
  readonly ipv6: Family | null
}

/**
 * Backend.Underlay, null = not given.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseUnderlay(config: NetworkConfig): Family | null {
  const value = config.backend.options.get('underlay') ?? null
  if (value === null) return null
  if (value !== 'ipv4' && value !== 'ipv6') {
    throw invalid(`Backend.Underlay is ${quoteValue(value)}; write "ipv4" or "ipv6"`)
  }
  if (value === 'ipv4' && config.ipv4 === null) {
    throw invalid(
      'Backend.Underlay is "ipv4", but EnableIPv4 is false and leases without IPv4 name no IPv4 host; write "ipv6" or leave it out',
    )
  }
  return value
}

/** @throws HeddleError HEDDLE_CONFIG */
export function outerFamilies(config: NetworkConfig): OuterFamilies {
  const underlay = parseUnderlay(config)
  const byDefault = config.ipv4 === null ? 'ipv6' : 'ipv4'
  const [four, six]: [Family, Family] =
    config.backend.type === 'udp'
      ? [underlay ?? byDefault, underlay ?? byDefault]
      : [underlay ?? 'ipv4', underlay ?? 'ipv6']
  return { ipv4: config.ipv4 && four, ipv6: config.ipv6 && six }
}

/**
 * The addresses that the underlay's interface must have. An IPv4 address that carries nothing is
 * published all the same, since hosts are known by it.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function addressNeeds(config: NetworkConfig): InterfaceRequest['needs'] {
  const outer = outerFamilies(config)
  const carries = (family: Family) => outer.ipv4 === family || outer.ipv6 === family
  return {
    ipv4: carries('ipv4') ? 'required' : config.ipv4 === null ? 'unused' : 'optional',
    ipv6: carries('ipv6') ? 'required' : 'unused',
  }
}

function invalid(what: string): HeddleError {
  return new HeddleError('HEDDLE_CONFIG', `invalid network configuration: ${what}`)
}
