/**
 * DirectRouting of flannel's `vxlan`: a peer on a network that this host is attached to is reached past
 * the tunnel, by a route to its subnet through its own address. Pure: works on what `ip -json route` listed.
 */
import {
  contains4,
  contains6,
  parseAddr4,
  parseAddr6,
  parsePrefix4,
  parsePrefix6,
} from '../prefix.js'
import type { RouteInfo } from './interface.js'
import type { RouteState } from './state.js'

/** A subnet of a peer as text, and the address of its host. */
interface Reached {
  readonly destination: string
  readonly address: string
}

/** A route as far as it matters here: how long its prefix is, and which addresses lie in it. */
interface Candidate {
  readonly len: number
  contains(address: string): boolean
  readonly route: RouteInfo
}

/**
 * Routes past the tunnel.
 * @param peers   all peers
 * @param routes  the main tables of both families, without our own
 * @returns       one for each subnet whose host the longest matching route leads to without a gateway
 */
export function directRoutes(
  peers: readonly Reached[],
  routes: readonly RouteInfo[],
): RouteState[] {
  const candidates = routes.map(candidateOf).filter((candidate) => candidate !== null)
  candidates.sort((a, b) => b.len - a.len)
  return peers.flatMap(({ destination, address }) => {
    const route = candidates.find((candidate) => candidate.contains(address))?.route
    if (route?.dev === undefined || route.gateway !== undefined) return []
    if (route.type !== undefined && route.type !== 'unicast') return []
    return [{ destination, device: route.dev, via: address }]
  })
}

/** Null for what is no prefix, such as a default route that does not tell its family. */
function candidateOf(route: RouteInfo): Candidate | null {
  const { dst, gateway = '' } = route
  const text = dst === 'default' ? (gateway.includes(':') ? '::/0' : '0.0.0.0/0') : dst
  const host = text.includes('/') ? text : `${text}/${text.includes(':') ? '128' : '32'}`
  const v4 = parsePrefix4(host)
  if (v4 !== null) {
    const contains = (address: string) => {
      const addr = parseAddr4(address)
      return addr !== null && contains4(v4, addr)
    }
    return { len: v4.len, contains, route }
  }
  const v6 = parsePrefix6(host)
  if (v6 === null) return null
  const contains = (address: string) => {
    const addr = parseAddr6(address)
    return addr !== null && contains6(v6, addr)
  }
  return { len: v6.len, contains, route }
}
