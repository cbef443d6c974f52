/**
 * subnet.env as a container runtime reads it: what a bridge and its pods are configured from.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'

export interface SubnetEnv {
  /** FLANNEL_NETWORK, such as `10.5.0.0/16`. */
  readonly network: string
  /** FLANNEL_SUBNET's address: the bridge's. */
  readonly gateway: string
  /** FLANNEL_SUBNET's prefix length. */
  readonly prefixLen: number
  /** FLANNEL_MTU, bytes. */
  readonly mtu: number
  /** The FLANNEL_IPV6_… lines, null = there are none. */
  readonly ipv6: {
    readonly network: string
    readonly gateway: string
    readonly prefixLen: number
  } | null
}

/**
 * @throws HeddleError HEDDLE_CONFIG when a line is missing or makes no sense
 */
export function parseSubnetEnv(text: string): SubnetEnv {
  const value = (name: string): string => {
    const match = new RegExp(`^${name}=(.+)$`, 'm').exec(text)
    if (match?.[1] === undefined) throw new HeddleError('HEDDLE_CONFIG', `subnet.env lacks ${name}`)
    return match[1]
  }
  const subnet = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(value('FLANNEL_SUBNET'))
  const mtu = Number(value('FLANNEL_MTU'))
  if (subnet?.[1] === undefined || !Number.isInteger(mtu)) {
    throw new HeddleError('HEDDLE_CONFIG', `subnet.env makes no sense:\n${text}`)
  }
  return {
    network: value('FLANNEL_NETWORK'),
    gateway: subnet[1],
    prefixLen: Number(subnet[2]),
    mtu,
    ipv6: parseIpv6(text),
  }
}

function parseIpv6(text: string): SubnetEnv['ipv6'] {
  const network = /^FLANNEL_IPV6_NETWORK=(.+)$/m.exec(text)?.[1]
  const subnet = /^FLANNEL_IPV6_SUBNET=([\da-f:]+)\/(\d+)$/m.exec(text)
  if (network === undefined || subnet?.[1] === undefined) return null
  return { network, gateway: subnet[1], prefixLen: Number(subnet[2]) }
}

/**
 * Waits until a daemon has written its subnet.env.
 * @throws HeddleError HEDDLE_ABORTED when the time is up or the signal fires
 */
export async function waitForSubnetEnv(
  file: string,
  timeoutMs = 15_000,
  signal?: AbortSignal,
): Promise<SubnetEnv> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const text = readIfThere(file)
    if (text !== null) return parseSubnetEnv(text)
    if (signal?.aborted === true || Date.now() > deadline) {
      throw new HeddleError('HEDDLE_ABORTED', `${file} was not written within ${timeoutMs} ms`)
    }
    await sleep(20)
  }
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

/** The n-th address after a gateway in dotted form: pods are .2, .3 … where the bridge is .1. */
export function addressAfter(gateway: string, n: number): string {
  const bits = gateway.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) + n
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.')
}

/** The n-th address after a gateway that ends in `::1`, up to `::9`. */
export function addressAfter6(gateway: string, n: number): string {
  if (!gateway.endsWith('::1') || n > 8) throw new RangeError(`${gateway} + ${n}`)
  return `${gateway.slice(0, -1)}${1 + n}`
}
