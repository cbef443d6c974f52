/**
 * The Backend object of the network configuration, per backend type.
 */
import { VXLAN_OVERHEAD, VXLAN_PORT, VXLAN_VNI } from '../../dataplane/index.js'
import { HeddleError } from '../errors.js'
import { quoteValue } from '../json-object.js'
import type { NetworkConfig } from '../network-config.js'

/** Port of flannel's `udp` backend, on both ends. */
export const UDP_PORT = 8285

/** Backend types that this build can run. */
export const BACKENDS = ['udp', 'vxlan', 'host-gw', 'ipip', 'alloc', 'extension'] as const

export type BackendType = (typeof BACKENDS)[number]

/** Backend types that flannel knows, so that a message can tell a typing error from a gap. */
const FLANNEL_BACKENDS: readonly string[] =
  'alloc extension host-gw ipip ipsec tencent-vpc udp vxlan wireguard'.split(' ')

/**
 * The backend type that the configuration asks for.
 * @throws HeddleError HEDDLE_CONFIG, not retryable: flannel too stops at a type that it cannot run
 */
export function requireBackendType(config: NetworkConfig): BackendType {
  const { type } = config.backend
  const known = BACKENDS.find((name) => name === type)
  if (known !== undefined) return known
  const what = FLANNEL_BACKENDS.includes(type)
    ? `"${type}" is not built yet`
    : `${quoteValue(type)} is an unknown backend type`
  throw new HeddleError(
    'HEDDLE_CONFIG',
    `invalid network configuration: Backend.Type: ${what}; use ${BACKENDS.join(', ')}`,
  )
}

/**
 * Backend.Underlay, an option of Heddle's own: the IP version of the outer packets; null = not given.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseUnderlay(config: NetworkConfig): 4 | 6 | null {
  const value = config.backend.options.get('underlay') ?? null
  if (value === null) return null
  if (value === 'ipv4') return 4
  if (value === 'ipv6') return 6
  throw invalid(`Backend.Underlay is ${quoteValue(value)}; write "ipv4" or "ipv6", or leave it out`)
}

/**
 * Options of the `udp` backend.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseUdpBackend(config: NetworkConfig): { readonly port: number } {
  return { port: numberOf(config, 'Port', 1, 65535) ?? UDP_PORT }
}

export interface VxlanConfig {
  readonly vni: number
  readonly port: number
  /** MTU of the underlay, null = that of the interface. */
  readonly mtu: number | null
  /** Whether peers on the same network are reached past the tunnel. */
  readonly directRouting: boolean
  /** Where frames are made; `auto` = in the kernel if it can. */
  readonly dataplane: Dataplane
  /** Options of the kernel's device. */
  readonly gbp: boolean
  readonly learning: boolean
}

const DATAPLANES = ['user', 'kernel', 'auto'] as const
export type Dataplane = (typeof DATAPLANES)[number]

/** The longest VNIs whose device names, `flannel.<VNI>` and `flannel-v6.<VNI>`, have the 15 bytes that the kernel allows. */
const MAX_NAMED_VNI = 9_999_999
const MAX_NAMED_VNI_6 = 9999
/** The least underlay MTU whose overlay MTU is one that IPv4 works with (RFC 791 §3.2: 68). */
const MIN_MTU = VXLAN_OVERHEAD[4] + 68

/**
 * Options of the `vxlan` backend; a Port of 0 is the default one, as with flannel.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseVxlanBackend(config: NetworkConfig): VxlanConfig {
  const dataplane = parseDataplane(config)
  for (const [name, why] of KERNELS) {
    if (isSet(config, name) && dataplane !== 'kernel') {
      throw invalid(
        `Backend.${name} is true, but ${why}; leave it out, or write "Dataplane": "kernel"`,
        false,
      )
    }
  }
  const port = numberOf(config, 'Port', 0, 65535) ?? 0
  const hasDevice6 = config.ipv6 !== null && parseUnderlay(config) === null
  return {
    vni: numberOf(config, 'VNI', 0, hasDevice6 ? MAX_NAMED_VNI_6 : MAX_NAMED_VNI) ?? VXLAN_VNI,
    port: port === 0 ? VXLAN_PORT : port,
    mtu: numberOf(config, 'MTU', MIN_MTU, 65535),
    directRouting: isSet(config, 'DirectRouting'),
    dataplane,
    gbp: isSet(config, 'GBP'),
    learning: isSet(config, 'Learning'),
  }
}

function parseDataplane(config: NetworkConfig): Dataplane {
  const value = config.backend.options.get('dataplane') ?? 'user'
  const known = DATAPLANES.find((name) => name === value)
  if (known !== undefined) return known
  throw invalid(
    `Backend.Dataplane is ${quoteValue(value)}; write "user", "kernel" or "auto", or leave it out`,
  )
}

/**
 * Options of the `ipip` backend.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseIpipBackend(config: NetworkConfig): { readonly directRouting: boolean } {
  if (parseUnderlay(config) === 6) {
    throw invalid(
      'Backend.Underlay is "ipv6", and ipip is IPv4 in IPv4; leave it out, or use vxlan',
    )
  }
  return { directRouting: isSet(config, 'DirectRouting') }
}

/** Commands of the `extension` backend; null = not given. */
export interface ExtensionConfig {
  readonly preStartup: string | null
  readonly postStartup: string | null
  readonly subnetAdd: string | null
  readonly subnetRemove: string | null
}

/** @throws HeddleError HEDDLE_CONFIG */
export function parseExtensionBackend(config: NetworkConfig): ExtensionConfig {
  const commandOf = (name: string): string | null => {
    const value = config.backend.options.get(name.toLowerCase()) ?? ''
    if (typeof value === 'string') return value.trim() === '' ? null : value
    throw invalid(`Backend.${name} is ${quoteValue(value)}; write a command as a string`)
  }
  return {
    preStartup: commandOf('PreStartupCommand'),
    postStartup: commandOf('PostStartupCommand'),
    subnetAdd: commandOf('SubnetAddCommand'),
    subnetRemove: commandOf('SubnetRemoveCommand'),
  }
}

/** Switches of `vxlan` that only the kernel's device has, and the reason. */
const KERNELS = [
  ['GBP', 'packets have no kernel marks in user space, from which group policies are made'],
  ['Learning', 'peers are known from their leases and never learned from packets'],
] as const

function isSet(config: NetworkConfig, name: string): boolean {
  const value = config.backend.options.get(name.toLowerCase()) ?? false
  if (typeof value === 'boolean') return value
  throw invalid(`Backend.${name} is ${quoteValue(value)}; write true or false without quotes`)
}

/** A whole number, null = not given. */
function numberOf(config: NetworkConfig, name: string, min: number, max: number): number | null {
  const value = config.backend.options.get(name.toLowerCase()) ?? null
  if (value === null) return null
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) {
    return value
  }
  throw invalid(
    `Backend.${name} is ${quoteValue(value)}; write a number from ${String(min)} to ${String(max)} without quotes`,
  )
}

function invalid(what: string, retryable = true): HeddleError {
  return new HeddleError('HEDDLE_CONFIG', `invalid network configuration: ${what}`, { retryable })
}
