/**
 * The names of flannel's annotations on a Node object, and what this host writes under them.
 */
import { HeddleError } from '../errors.js'
import { toGoJson } from '../lease-json.js'
import { NO_PUBLIC_IP, type LeaseAttrs } from '../lease.js'
import { parseAddr4, parseAddr6 } from '../prefix.js'

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

/** Backends with a member of IPv6 even where there are no data. */
const DATA_6 = ['host-gw', 'extension']
/** Backends that carry no IPv4 where there are no data of it. */
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

/** What a person wrote to be published, and is no address: it is not. @returns a sentence for each */
export function overwriteFaults(names: AnnotationNames, present: Annotations): string[] {
  return [
    [names.publicIPOverwrite, parseAddr4] as const,
    [names.publicIPv6Overwrite, parseAddr6] as const,
  ].flatMap(([name, parse]) => {
    const text = present.get(name) ?? ''
    if (text === '' || parse(text) !== null) return []
    return [
      `annotation ${name}=${text} is no address, the own one is published; correct or remove it`,
    ]
  })
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
  if (backendData !== undefined || !DATA_ONLY.includes(backendType)) {
    wanted.set(names.backendData, toGoJson(backendData ?? null))
  }
  if (backendV6Data !== undefined || (publicIPv6 !== null && DATA_6.includes(backendType))) {
    wanted.set(names.backendV6Data, toGoJson(backendV6Data ?? null))
  }
  if (publicIP !== NO_PUBLIC_IP) {
    const other = present.get(names.publicIPOverwrite) ?? ''
    wanted.set(names.publicIP, parseAddr4(other) === null ? publicIP : other)
  }
  if (publicIPv6 !== null) {
    const other = present.get(names.publicIPv6Overwrite) ?? ''
    wanted.set(names.publicIPv6, parseAddr6(other) === null ? publicIPv6 : other)
  }
  return wanted
}
