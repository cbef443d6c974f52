/**
 * A Node object of Kubernetes: what is read of it, and the lease that it stands for.
 */
import { quoteValue } from '../json-object.js'
import { NO_IPV4, NO_PUBLIC_IP, type Lease, type LeaseAttrs } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import {
  formatAddr6,
  parseAddr4,
  parseAddr6,
  parsePrefix4,
  parsePrefix6,
  type Prefix4,
  type Prefix6,
} from '../prefix.js'
import type { AnnotationNames, Annotations } from './annotations.js'
import { objectOf, textOf } from './json.js'

/** The members of a Node that are read here. Source: Kubernetes API, core/v1 Node */
export interface KubeNode {
  readonly name: string
  /** Another one after the node was deleted and registered again. */
  readonly uid: string
  readonly resourceVersion: string
  readonly annotations: Annotations
  /** spec.podCIDRs, else spec.podCIDR alone; empty = none assigned yet. */
  readonly podCIDRs: readonly string[]
}

export interface Fault {
  readonly fault: string
}

/** One of each family. */
const MAX_CIDRS = 2

/** Which families a network has. */
export type Families = Pick<NetworkConfig, 'ipv4' | 'ipv6'>

/** @returns null for anything that has no name */
export function readNode(value: unknown): KubeNode | null {
  const metadata = objectOf(objectOf(value)?.['metadata'])
  const spec = objectOf(objectOf(value)?.['spec'])
  const name = metadata?.['name']
  if (typeof name !== 'string' || name === '') return null
  const { podCIDR, podCIDRs } = spec ?? {}
  const list = Array.isArray(podCIDRs) && podCIDRs.length > 0 ? podCIDRs : [podCIDR]
  const annotations = Object.entries(objectOf(metadata?.['annotations']) ?? {})
  return {
    name,
    uid: textOf(metadata?.['uid']),
    resourceVersion: textOf(metadata?.['resourceVersion']),
    annotations: new Map(annotations.map(([key, text]) => [key, textOf(text)])),
    podCIDRs: list.map(textOf).filter((text) => text !== ''),
  }
}

export interface NodeSubnets {
  readonly v4: Prefix4 | null
  readonly v6: Prefix6 | null
}

/** The subnets that a node was given, of either family. */
export function subnetsOf({ podCIDRs }: KubeNode): NodeSubnets | Fault {
  if (podCIDRs.length > MAX_CIDRS) {
    return { fault: `it has more than two podCIDRs: ${quoteValue(podCIDRs)}` }
  }
  const first = <P>(parse: (text: string) => P | null): P | null =>
    podCIDRs.map(parse).find((prefix) => prefix !== null) ?? null
  return { v4: first(parsePrefix4), v6: first(parsePrefix6) }
}

/**
 * The lease of a node, null = it does not take part.
 * @param families  of the network: a subnet of another is not looked at
 */
export function leaseOfNode(
  node: KubeNode,
  names: AnnotationNames,
  families: Families,
): Lease | Fault | null {
  if (node.annotations.get(names.managed) !== 'true') return null
  const subnets = subnetsOf(node)
  if ('fault' in subnets) return subnets
  const { v4, v6 } = subnets
  const hasNone = families.ipv4 !== null ? v4 === null || v4.len === 0 : v6 === null
  if (hasNone) return { fault: `it has no subnet: its podCIDRs are ${quoteValue(node.podCIDRs)}` }
  const attrs = attrsOfNode(node, names)
  if ('fault' in attrs) return attrs
  return {
    subnet: {
      v4: families.ipv4 === null ? NO_IPV4 : (v4 ?? NO_IPV4),
      v6: families.ipv6 === null ? null : v6,
    },
    attrs,
    expiresAt: null,
    version: node.resourceVersion,
    storeLease: '',
  }
}

/** What the annotations of a node say of its host. */
export function attrsOfNode(node: KubeNode, names: AnnotationNames): LeaseAttrs | Fault {
  const textUnder = (name: string): string => node.annotations.get(name) ?? ''
  const publicIP = textUnder(names.publicIP)
  if (publicIP !== '' && parseAddr4(publicIP) === null) return wrong(names.publicIP, publicIP)
  const publicIPv6 = textUnder(names.publicIPv6)
  const addr6 = parseAddr6(publicIPv6)
  if (publicIPv6 !== '' && addr6 === null) return wrong(names.publicIPv6, publicIPv6)
  const data: { backendData?: unknown; backendV6Data?: unknown } = {}
  for (const member of ['backendData', 'backendV6Data'] as const) {
    try {
      // Absent and null say the same: the backend has none.
      const value: unknown = JSON.parse(textUnder(names[member]) || 'null')
      if (value !== null) data[member] = value
    } catch {
      return wrong(names[member], textUnder(names[member]))
    }
  }
  return {
    publicIP: publicIP || NO_PUBLIC_IP,
    publicIPv6: addr6 === null ? null : formatAddr6(addr6),
    backendType: textUnder(names.backendType),
    ...data,
  }
}

function wrong(name: string, value: string): Fault {
  return { fault: `annotation ${name} is ${quoteValue(value)}` }
}
