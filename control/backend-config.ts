/**
 * The Backend object of the network configuration, per backend type.
 */
import { HeddleError } from './errors.js'
import { quoteValue } from './json-object.js'
import type { NetworkConfig } from './network-config.js'

/** Port of flannel's `udp` backend, on both ends. */
export const UDP_PORT = 8285

/** Backend types that this build can run. */
export const BACKENDS = ['udp'] as const

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
  if (known !== undefined && config.ipv6 !== null) {
    throw new HeddleError(
      'HEDDLE_CONFIG',
      'invalid network configuration: EnableIPv6 is not built yet; leave it out, IPv4 works without it',
    )
  }
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
 * Options of the `udp` backend.
 * @throws HeddleError HEDDLE_CONFIG
 */
export function parseUdpBackend(config: NetworkConfig): { readonly port: number } {
  const port = config.backend.options.get('port') ?? UDP_PORT
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65535) {
    return { port }
  }
  throw new HeddleError(
    'HEDDLE_CONFIG',
    `invalid network configuration: Backend.Port is ${quoteValue(port)}; write a number from 1 to 65535 without quotes`,
    { retryable: true },
  )
}
