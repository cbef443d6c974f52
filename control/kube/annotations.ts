/**
 * The names of flannel's annotations on a Node object, and what this host writes under them.
 */
import { HeddleError } from '../errors.js'
import { toGoJson } from '../lease-json.js'
import { NO_PUBLIC_IP, type LeaseAttrs } from '../lease.js'

export interface AnnotationNames {
  /** `true` on nodes that take part; all others are no peers. */
  readonly managed: string
  readonly backendType: string
  /** JSON text. */
  readonly backendData: string
  readonly backendV6Data: string
  readonly publicIP: string
  readonly publicIPv6: string
  /** Written by people: published in place of what the host says of itself (a host behind a NAT). */
  readonly publicIPOverwrite: string
  readonly publicIPv6Overwrite: string
  /** Written by people: as `--public-ip` and `--public-ipv6`, at the start. */
  readonly nodePublicIP: string
  readonly nodePublicIPv6: string
}

/** A domain with a dot, a slash, and perhaps the beginning of a name with a dash at its end. */
const PREFIX = /^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9_-]+-)?$/

/**
 * The names under a prefix: `org.com` gives `org.com/public-ip`, `org.com/blue` gives `org.com/blue-public-ip`.
 * Source: flannel behaviour, Kubernetes annotations.
 * @throws HeddleError HEDDLE_USAGE for a prefix that Kubernetes would refuse
 */
export function annotationNames(given: string): AnnotationNames {
  const domain = given.includes('/') ? given : `${given}/`
  const prefix = /[/-]$/.test(domain) ? domain : `${domain}-`
  if (!PREFIX.test(prefix)) {
    throw new HeddleError(
      'HEDDLE_USAGE',
      `--kube-annotation-prefix=${given} is no prefix of annotations; write a lower-case domain such as flannel.alpha.coreos.com, or one with a name such as example.org/blue`,
    )
  }
  return {
    managed: `${prefix}kube-subnet-manager`,
    backendType: `${prefix}backend-type`,
    backendData: `${prefix}backend-data`,
    backendV6Data: `${prefix}backend-v6-data`,
    publicIP: `${prefix}public-ip`,
    publicIPv6: `${prefix}public-ipv6`,
    publicIPOverwrite: `${prefix}public-ip-overwrite`,
    publicIPv6Overwrite: `${prefix}public-ipv6-overwrite`,
    nodePublicIP: `${prefix}node-public-ip`,
    nodePublicIPv6: `${prefix}node-public-ipv6`,
  }
}

export type Annotations = ReadonlyMap<string, string>

/** Backends whose lease has a member of each family even where there are no data. */
const WITHOUT_DATA_6 = ['host-gw', 'extension']
/** Backends that are of IPv6 alone where there are no data of IPv4. */
const DATA_ONLY = ['vxlan', 'wireguard']

/**
 * What differs between a node's annotations and what this host publishes, as a merge patch has it: null = remove.
 * @param present  the node's annotations as they are
 */
export function annotationChanges(
  names: AnnotationNames,
  present: Annotations,
  attrs: LeaseAttrs,
): Record<string, string | null> {
  const wanted = publishedAnnotations(names, present, attrs)
  const ours = [
    names.managed,
    names.backendType,
    names.backendData,
    names.publicIP,
    names.backendV6Data,
    names.publicIPv6,
  ]
  const changes: Record<string, string | null> = {}
  for (const name of ours) {
    const value = wanted.get(name)
    if (value !== present.get(name)) changes[name] = value ?? null
  }
  return changes
}

function publishedAnnotations(
  names: AnnotationNames,
  present: Annotations,
  attrs: LeaseAttrs,
): Annotations {
  const { backendType, backendData, backendV6Data, publicIP, publicIPv6 } = attrs
  const wanted = new Map([
    [names.managed, 'true'],
    [names.backendType, backendType],
  ])
  const publish = (name: string, overwrite: string, own: string): void => {
    wanted.set(name, present.get(overwrite) || own)
  }
  if (backendData !== undefined || !DATA_ONLY.includes(backendType)) {
    wanted.set(names.backendData, toGoJson(backendData ?? null))
    if (publicIP !== NO_PUBLIC_IP) publish(names.publicIP, names.publicIPOverwrite, publicIP)
  }
  const isOf6 = publicIPv6 !== null && WITHOUT_DATA_6.includes(backendType)
  if (backendV6Data !== undefined || isOf6) {
    wanted.set(names.backendV6Data, toGoJson(backendV6Data ?? null))
    if (publicIPv6 !== null) publish(names.publicIPv6, names.publicIPv6Overwrite, publicIPv6)
  }
  return wanted
}
