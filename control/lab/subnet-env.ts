/**
 * subnet.env as a container runtime reads it: what a bridge and its pods are configured from.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'

export interface SubnetEnv {
  /** FLANNEL_NETWORK, such as `10.5.0.0/16`; empty in a network of IPv6 alone. */
  readonly network: string
  /** FLANNEL_SUBNET's address: the bridge's; empty in a network of IPv6 alone. */
  readonly gateway: string
  /** FLANNEL_SUBNET's prefix length. */
  readonly prefixLen: number
  /** The same of FLANNEL_IPV6_SUBNET; empty, or left out, in a network of IPv4 alone. */
  readonly gateway6?: string
  readonly prefixLen6?: number
  /** FLANNEL_MTU, bytes. */
  readonly mtu: number
}

const SUBNET4 = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/
const SUBNET6 = /^([\da-f:]+)\/(\d+)$/
const NONE = ['', '', '0']

/**
 * @throws HeddleError HEDDLE_CONFIG when a line is missing or makes no sense
 */
export function parseSubnetEnv(text: string): SubnetEnv {
  const value = (name: string): string => {
    const match = new RegExp(`^${name}=(.+)$`, 'm').exec(text)
    if (match?.[1] === undefined) throw new HeddleError('HEDDLE_CONFIG', `subnet.env lacks ${name}`)
    return match[1]
  }
  const has6 = text.includes('FLANNEL_IPV6_SUBNET=')
  const has4 = !has6 || text.includes('FLANNEL_SUBNET=')
  const subnet = has4 ? SUBNET4.exec(value('FLANNEL_SUBNET')) : NONE
  const subnet6 = has6 ? SUBNET6.exec(value('FLANNEL_IPV6_SUBNET')) : NONE
  const mtu = Number(value('FLANNEL_MTU'))
  if (subnet === null || subnet6 === null || !Number.isInteger(mtu)) {
    throw new HeddleError('HEDDLE_CONFIG', `subnet.env makes no sense:\n${text}`)
  }
  return {
    network: has4 ? value('FLANNEL_NETWORK') : '',
    gateway: subnet[1] ?? '',
    prefixLen: Number(subnet[2]),
    gateway6: subnet6[1] ?? '',
    prefixLen6: Number(subnet6[2]),
    mtu,
  }
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

/**
 * The n-th address after a gateway: pods are .2, .3 … where the bridge is .1, and ::2, ::3 … where it
 * is ::1. Empty after none.
 */
export function addressAfter(gateway: string, n: number): string {
  if (gateway === '') return ''
  if (gateway.includes(':')) return gateway.replace(/:1$/, `:${(1 + n).toString(16)}`)
  const bits = gateway.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) + n
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.')
}
