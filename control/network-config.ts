/**
 * The network configuration that all hosts share: one JSON object under `<prefix>/config`.
 *
 * Defaults and checks are flannel's, so that a mixed cluster agrees on every number: SubnetLen is
 * 24 in a /22 or larger and two bits longer than the network otherwise, the first subnet is left
 * out, the last is used. Field names match in any letter case, null means "not given".
 */
import { HeddleError } from './errors.js'
import { fieldsOf, quoteValue, type JsonFields } from './json-object.js'
import {
  contains4,
  contains6,
  formatAddr4,
  formatAddr6,
  formatPrefix4,
  formatPrefix6,
  parseAddr4,
  parseAddr6,
  parsePrefix4,
  parsePrefix6,
  size4,
  size6,
  type Prefix4,
  type Prefix6,
} from './prefix.js'

/** Where subnets of one family are taken from; `A` counts addresses, `P` is its prefix. */
export interface SubnetRange<A, P> {
  readonly network: P
  /** Where subnets are assigned, this and the next two are the network's own. */
  readonly subnetLen: number
  /** Base address of the first and the last subnet that may be leased. */
  readonly subnetMin: A
  readonly subnetMax: A
}

export interface NetworkConfig {
  /** Null unless EnableIPv4, the default. One of the two is there. */
  readonly ipv4: SubnetRange<number, Prefix4> | null
  /** Null unless EnableIPv6. */
  readonly ipv6: SubnetRange<bigint, Prefix6> | null
  readonly enableNFTables: boolean
  readonly backend: {
    /** Lower case; `udp` when the configuration has no Backend, empty when that has no Type. */
    readonly type: string
    /** All fields of Backend by lower-case name. */
    readonly options: JsonFields
  }
}

/** What the two families do not share. */
interface Family<A, P> {
  /** Goes before the field names: empty or `IPv6`. */
  readonly label: string
  readonly example: string
  /** Longest SubnetLen: leaves a tunnel and a bridge address. */
  readonly maxLen: number
  /** SubnetLen by default, wherever it fits four times. */
  readonly usualLen: number
  parsePrefix(text: string): P | null
  parseAddr(text: string): A | null
  formatPrefix(prefix: P): string
  formatAddr(addr: A): string
  contains(prefix: P, addr: A): boolean
  /** Base of the network, of its second and of its last subnet. */
  baseOf(network: P): A
  second(network: P, subnetLen: number): A
  last(network: P, subnetLen: number): A
  isBase(addr: A, subnetLen: number): boolean
  isZero(addr: A): boolean
}

const IPV4: Family<number, Prefix4> = {
  label: '',
  example: '10.5.0.0/16',
  maxLen: 30,
  usualLen: 24,
  parsePrefix: parsePrefix4,
  parseAddr: parseAddr4,
  formatPrefix: formatPrefix4,
  formatAddr: formatAddr4,
  contains: contains4,
  baseOf: (network) => network.addr,
  second: (network, len) => network.addr + size4(len),
  last: (network, len) => network.addr + size4(network.len) - size4(len),
  isBase: (addr, len) => addr % size4(len) === 0,
  isZero: (addr) => addr === 0,
}

const IPV6: Family<bigint, Prefix6> = {
  label: 'IPv6',
  example: 'fd00:10:5::/48',
  maxLen: 126,
  usualLen: 64,
  parsePrefix: parsePrefix6,
  parseAddr: parseAddr6,
  formatPrefix: formatPrefix6,
  formatAddr: formatAddr6,
  contains: contains6,
  baseOf: (network) => network.addr,
  second: (network, len) => network.addr + size6(len),
  last: (network, len) => network.addr + size6(network.len) - size6(len),
  isBase: (addr, len) => addr % size6(len) === 0n,
  isZero: (addr) => addr === 0n,
}

/** Who decides which host has which subnet: the hosts themselves, or somebody else for them. */
export type SubnetChoice = 'chosen' | 'assigned'

/**
 * Reads and checks a network configuration.
 * @param subnets  where they are assigned, the members that limit a choice are not looked at, as with flannel
 * @throws HeddleError HEDDLE_CONFIG, retryable: it names the field, its value and the remedy
 */
export function parseNetworkConfig(text: string, subnets: SubnetChoice = 'chosen'): NetworkConfig {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw invalid(`it is not valid JSON (${why}); write one object such as ${EXAMPLE}`, cause)
  }
  const fields = fieldsOf(value)
  if (fields === null) throw invalid(`${quoteValue(value)} is no object; write ${EXAMPLE}`)
  const hasIpv4 = flag(fields, 'EnableIPv4', true)
  const hasIpv6 = flag(fields, 'EnableIPv6', false)
  if (!hasIpv4 && !hasIpv6) {
    throw invalid(
      'EnableIPv4 is false and EnableIPv6 is not true; leave EnableIPv4 out, or set EnableIPv6 to true',
    )
  }
  return {
    ipv4: hasIpv4 ? parseRange(IPV4, fields, subnets) : null,
    ipv6: hasIpv6 ? parseRange(IPV6, fields, subnets) : null,
    enableNFTables: flag(fields, 'EnableNFTables', false),
    backend: parseBackend(fields),
  }
}

const EXAMPLE = '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}'

function invalid(what: string, cause?: unknown): HeddleError {
  return new HeddleError('HEDDLE_CONFIG', `invalid network configuration: ${what}`, {
    cause,
    retryable: true,
  })
}

function flag(fields: JsonFields, name: string, byDefault: boolean): boolean {
  const value = fields.get(name.toLowerCase()) ?? byDefault
  if (typeof value === 'boolean') return value
  throw invalid(`${name} is ${quoteValue(value)}; write true or false without quotes`)
}

function parseRange<A extends number | bigint, P extends { readonly len: number }>(
  family: Family<A, P>,
  fields: JsonFields,
  subnets: SubnetChoice,
): SubnetRange<A, P> {
  const network = parseNetwork(family, fields)
  if (subnets === 'assigned') {
    const base = family.baseOf(network)
    return { network, subnetLen: network.len, subnetMin: base, subnetMax: base }
  }
  const subnetLen = parseSubnetLen(family, fields, network)
  const subnetMin =
    parseBound(family, fields, 'SubnetMin', network, subnetLen) ?? family.second(network, subnetLen)
  const subnetMax =
    parseBound(family, fields, 'SubnetMax', network, subnetLen) ?? family.last(network, subnetLen)
  if (subnetMin > subnetMax) {
    throw invalid(
      `${family.label}SubnetMin ${family.formatAddr(subnetMin)} lies above ${family.label}SubnetMax ` +
        `${family.formatAddr(subnetMax)}; exchange them or leave them out`,
    )
  }
  return { network, subnetLen, subnetMin, subnetMax }
}

function parseNetwork<A, P extends { readonly len: number }>(
  family: Family<A, P>,
  fields: JsonFields,
): P {
  const name = `${family.label}Network`
  const value = fields.get(name.toLowerCase())
  const network = typeof value === 'string' ? family.parsePrefix(value) : null
  if (network !== null && network.len > 0) return network
  const what = value === undefined ? 'missing' : quoteValue(value)
  throw invalid(`${name} is ${what}; write a prefix such as "${family.example}"`)
}

function parseSubnetLen<A, P extends { readonly len: number }>(
  family: Family<A, P>,
  fields: JsonFields,
  network: P,
): number {
  const { label, maxLen, usualLen } = family
  const value = fields.get(`${label}subnetlen`.toLowerCase()) ?? 0
  const where = `${label}Network ${family.formatPrefix(network)}`
  const least = network.len + 2
  if (value === 0) {
    if (least <= maxLen) return Math.max(usualLen, least)
    throw invalid(`${where} is too small for four subnets; use a /${maxLen - 2} or larger`)
  }
  const isLength = typeof value === 'number' && Number.isInteger(value) && value > 0
  if (isLength && value >= least && value <= maxLen) return value
  const remedy =
    least <= maxLen
      ? `write a number from ${least} to ${maxLen}, so that ${where} holds four subnets`
      : `${where} is too small for four subnets, use a /${maxLen - 2} or larger`
  throw invalid(`${label}SubnetLen is ${quoteValue(value)}; ${remedy}`)
}

function parseBound<A, P extends { readonly len: number }>(
  family: Family<A, P>,
  fields: JsonFields,
  bound: string,
  network: P,
  subnetLen: number,
): A | null {
  const name = `${family.label}${bound}`
  const value = fields.get(name.toLowerCase()) ?? null
  if (value === null) return null
  const addr = typeof value === 'string' ? family.parseAddr(value) : null
  const first = family.formatAddr(family.second(network, subnetLen))
  const remedy = `write the base address of a /${subnetLen} inside ${family.formatPrefix(network)}, such as "${first}"`
  if (addr === null) throw invalid(`${name} is ${quoteValue(value)}; ${remedy}`)
  if (family.isZero(addr)) return null
  if (!family.contains(network, addr)) {
    throw invalid(`${name} is ${quoteValue(value)}, outside the network; ${remedy}`)
  }
  if (!family.isBase(addr, subnetLen)) {
    throw invalid(`${name} is ${quoteValue(value)}, not the first address of a subnet; ${remedy}`)
  }
  return addr
}

function parseBackend(fields: JsonFields): NetworkConfig['backend'] {
  if (!fields.has('backend')) return { type: 'udp', options: new Map() }
  const value = fields.get('backend')
  const options = value === null ? new Map<string, unknown>() : fieldsOf(value)
  if (options === null) {
    throw invalid(`Backend is ${quoteValue(value)}; write an object such as {"Type":"udp"}`)
  }
  const type = options.get('type') ?? ''
  if (typeof type === 'string') return { type: type.toLowerCase(), options }
  throw invalid(`Backend.Type is ${quoteValue(type)}; write a string such as "udp"`)
}

/** The networks of a configuration, as text. */
export function networksOf({ ipv4, ipv6 }: NetworkConfig): string[] {
  return [
    ...(ipv4 === null ? [] : [formatPrefix4(ipv4.network)]),
    ...(ipv6 === null ? [] : [formatPrefix6(ipv6.network)]),
  ]
}
