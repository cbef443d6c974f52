/**
 * Firewall rules as data, the same for iptables and nftables, and the ones that a network needs.
 *
 * Pure. Order matters: the first rule that matches decides.
 * Source: flannel, pkg/trafficmngr (behaviour)
 */
import {
  formatPrefix4,
  formatPrefix6,
  overlaps4,
  overlaps6,
  parsePrefix4,
  parsePrefix6,
} from '../prefix.js'

export type Family = 4 | 6
export const FAMILIES: readonly Family[] = [4, 6]

export interface AddressMatch {
  /** Prefix as canonical text. */
  readonly prefix: string
  /** Whether addresses outside of it match. */
  readonly isNot?: true
}

export interface MarkMatch {
  readonly value: number
  readonly mask: number
}

export interface Rule {
  readonly mark?: MarkMatch
  readonly source?: AddressMatch
  readonly destination?: AddressMatch
  readonly verdict: 'return' | 'accept' | 'masquerade' | 'masquerade-random'
}

/** What one chain is for. */
export type Purpose = 'masquerade' | 'forward'
export const PURPOSES: readonly Purpose[] = ['masquerade', 'forward']

/** Prefixes of one family, as canonical text. */
export interface Carried {
  readonly family: Family
  readonly network: string
  /** The part of the network that is this host's. */
  readonly subnet: string
}

/** The bit by which kube-proxy says that it masquerades a packet itself. */
const KUBE_MARK: MarkMatch = { value: 0x4000, mask: 0x4000 }
const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' }

/**
 * Which traffic of the network leaves with an address of this host: what goes out of the network, and
 * what comes into it from outside of it, except to our own pods.
 * @param isRandom  whether source ports are chosen at random
 */
export function masqueradeRules(carried: Carried, isRandom: boolean): Rule[] {
  const network = { prefix: carried.network }
  const subnet = { prefix: carried.subnet }
  const outside = { ...network, isNot: true } as const
  const multicast = { prefix: MULTICAST[carried.family], isNot: true } as const
  const verdict = isRandom ? 'masquerade-random' : 'masquerade'
  return [
    { mark: KUBE_MARK, verdict: 'return' },
    { source: subnet, destination: network, verdict: 'return' },
    { source: network, destination: subnet, verdict: 'return' },
    { source: outside, destination: subnet, verdict: 'return' },
    { source: network, destination: multicast, verdict },
    { source: outside, destination: network, verdict },
  ]
}

/** Forwarded traffic of the network is accepted. */
export function forwardRules({ network }: Carried): Rule[] {
  return [
    { source: { prefix: network }, verdict: 'accept' },
    { destination: { prefix: network }, verdict: 'accept' },
  ]
}

/** A rule as text; equal rules have equal texts. */
export function describeRule({ mark, source, destination, verdict }: Rule): string {
  const side = (name: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [`${name} ${match.isNot === true ? '!= ' : ''}${match.prefix}`]
  return [
    ...(mark === undefined ? [] : [`mark ${hex(mark.value)}/${hex(mark.mask)}`]),
    ...side('from', source),
    ...side('to', destination),
    verdict,
  ].join(' ')
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`
}

/** Canonical text of a prefix, or of an address as the prefix of it alone; null for anything else. */
export function canonicalPrefix(text: string): string | null {
  const whole = text.includes('/') ? text : `${text}/${text.includes(':') ? '128' : '32'}`
  const v4 = parsePrefix4(whole)
  if (v4 !== null) return formatPrefix4(v4)
  const v6 = parsePrefix6(whole)
  return v6 === null ? null : formatPrefix6(v6)
}

/** Whether two prefixes, as text, have an address in common. */
function overlap(a: string, b: string): boolean {
  const [a4, b4] = [parsePrefix4(a), parsePrefix4(b)]
  if (a4 !== null && b4 !== null) return overlaps4(a4, b4)
  const [a6, b6] = [parsePrefix6(a), parsePrefix6(b)]
  return a6 !== null && b6 !== null && overlaps6(a6, b6)
}

/** Whether a rule speaks of addresses at all. */
export function hasPrefix({ source, destination }: Rule): boolean {
  return source !== undefined || destination !== undefined
}

/** Whether a rule speaks of one of these prefixes. */
export function concerns({ source, destination }: Rule, prefixes: readonly string[]): boolean {
  return [source, destination].some(
    (match) => match !== undefined && prefixes.some((prefix) => overlap(match.prefix, prefix)),
  )
}
