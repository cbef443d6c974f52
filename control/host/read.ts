/**
 * What the kernel holds, as iproute2 tells.
 */
import { readFileSync } from 'node:fs'
import { isHeddleError } from '../errors.js'
import type { AddressInfo, Reaching, RouteInfo } from './interface.js'
import { checked, readJson } from './iproute.js'
import type {
  ForwardingState,
  HostState,
  LinkState,
  NeighbourState,
  RouteState,
  SettingState,
  VxlanLink,
} from './state.js'

/**
 * Protocol of the routes that we make to peers and of blackholes, by which they are known again: a number that
 * nobody else has (iproute2, etc/iproute2/rt_protos), `H` as a byte.
 */
export const ROUTE_PROTOCOL = '72'

/** Where settings are. Source: proc_sys(5) */
export const SETTINGS = '/proc/sys'

/** Every interface with its addresses, as `ip -json address` tells. */
export function readAddresses(): Promise<AddressInfo[]> {
  return readJson<AddressInfo>(['address', 'show'])
}

/** The main routing table of one family, as `ip -json route` tells. */
export function readRoutes(family: 4 | 6): Promise<RouteInfo[]> {
  return readJson<RouteInfo>([family === 4 ? '-4' : '-6', 'route', 'show', 'table', 'main'])
}

/** How the kernel would send to an address. */
export async function readWay(address: string): Promise<Reaching['way']> {
  try {
    const [route] = await readJson<{ dev?: string; prefsrc?: string }>(['route', 'get', address])
    const { dev: device, prefsrc: source } = route ?? {}
    if (device === undefined || source === undefined) return { miss: 'the kernel names none' }
    return { device, source }
  } catch (error) {
    if (!isHeddleError(error)) throw error
    return { miss: error.message }
  }
}

/** A device as `ip -json -details link` tells: the members that are read here. */
export interface LinkInfo {
  readonly ifname: string
  /** `UP`, … */
  readonly flags?: readonly string[]
  /** MAC address. */
  readonly address?: string
  /** How its link-local IPv6 address is made; `none` = there is none. */
  readonly inet6_addr_gen_mode?: string
  readonly linkinfo?: {
    /** `vxlan`, `tun`, `bridge`, …; absent for a physical device. */
    readonly info_kind?: string
    readonly info_data?: {
      /** Of a TUN: whether it stays without a program that holds it, and its kind of queues. */
      readonly persist?: boolean
      readonly multi_queue?: boolean
      readonly id?: number
      readonly port?: number
      readonly link?: string
      readonly local?: string
      readonly local6?: string
      readonly learning?: boolean
      readonly gbp?: boolean
    }
  }
}

interface NeighbourInfo {
  readonly dst: string
  readonly lladdr?: string
}

interface ForwardingInfo {
  readonly mac: string
  readonly dst?: string
}

/** Every device with what is special about its kind. */
export function readLinks(): Promise<LinkInfo[]> {
  return readJson<LinkInfo>(['-details', 'link', 'show'])
}

/**
 * What the kernel holds of the kinds of state that we manage. It is asked one thing after the other: a look at
 * thousands of entries leaves room for whoever has something to do meanwhile.
 * @param hasIpv6  what is of IPv6 alone as well
 * @param devices  VXLAN devices whose neighbours and forwarding entries are asked for
 * @param settings paths of kernel settings
 */
export async function readHostState(
  hasIpv6: boolean,
  devices: ReadonlySet<string> = new Set(),
  settings: readonly string[] = [],
): Promise<HostState> {
  const interfaces = await readAddresses()
  const details = hasIpv6 || devices.size > 0 ? await readLinks() : []
  const detailsOf = new Map(details.map((link) => [link.ifname, link]))
  const routes4 = (await readRoutes(4)).map((route) => describeRoute(route, 4))
  const routes6 = hasIpv6 ? (await readRoutes(6)).map((route) => describeRoute(route, 6)) : []
  const neighbours: NeighbourState[][] = []
  const forwarding: ForwardingState[][] = []
  for (const device of devices) {
    // One that is not there, or no VXLAN device, has none.
    if (vxlanOf(detailsOf.get(device)) === undefined) continue
    neighbours.push(await readNeighbours(device))
    forwarding.push(await readForwarding(device))
  }
  return {
    links: interfaces.map((i) => ({
      name: i.ifname,
      mtu: i.mtu,
      isUp: i.flags.includes('UP'),
      ...(hasIpv6 ? { hasLinkLocal: detailsOf.get(i.ifname)?.inet6_addr_gen_mode !== 'none' } : {}),
      ...(devices.has(i.ifname) ? describeVxlanLink(detailsOf.get(i.ifname)) : {}),
    })),
    addresses: interfaces.flatMap((i) =>
      i.addr_info
        .filter((a) => a.local !== undefined && !a.local.startsWith('fe80:'))
        .map((a) => ({ device: i.ifname, address: `${String(a.local)}/${String(a.prefixlen)}` })),
    ),
    routes: [...routes4, ...routes6].filter((r) => r.device !== '' || r.isBlackhole === true),
    neighbours: neighbours.flat(),
    forwarding: forwarding.flat(),
    settings: settings.flatMap(readSetting),
    networks: [],
  }
}

function describeVxlanLink(link: LinkInfo | undefined): Pick<LinkState, 'mac' | 'vxlan'> {
  const vxlan = vxlanOf(link)
  return {
    ...(link?.address === undefined ? {} : { mac: link.address }),
    ...(vxlan === undefined ? {} : { vxlan }),
  }
}

/** Undefined = it is no VXLAN device. */
function vxlanOf(link: LinkInfo | undefined): VxlanLink | undefined {
  const { info_kind: kind, info_data: data } = link?.linkinfo ?? {}
  if (kind !== 'vxlan' || data === undefined) return undefined
  return {
    vni: data.id ?? 0,
    lower: data.link ?? '',
    local: data.local ?? data.local6 ?? '',
    port: data.port ?? 0,
    learning: data.learning ?? false,
    gbp: data.gbp ?? false,
  }
}

function readSetting(path: string): SettingState[] {
  try {
    return [{ path, value: readFileSync(`${SETTINGS}/${path}`, 'utf8').trim() }]
  } catch {
    return []
  }
}

async function readNeighbours(device: string): Promise<NeighbourState[]> {
  const args = ['neighbour', 'show', 'dev', checked(device), 'nud', 'permanent']
  return (await readJson<NeighbourInfo>(args)).map(({ dst, lladdr = '' }) => ({
    device,
    address: dst,
    mac: lladdr,
  }))
}

async function readForwarding(device: string): Promise<ForwardingState[]> {
  const args = ['fdb', 'show', 'dev', checked(device)]
  return (await readJson<ForwardingInfo>(args, 'bridge')).flatMap(({ mac, dst }) =>
    dst === undefined ? [] : [{ device, mac, host: dst }],
  )
}

function describeRoute(route: RouteInfo, family: 4 | 6): RouteState {
  const { dst, dev = '', gateway, protocol, type } = route
  return {
    destination: withLength(dst, family),
    ...(type === 'blackhole' ? { device: '', isBlackhole: true } : { device: dev }),
    ...(gateway === undefined ? {} : { via: gateway }),
    ...(isOurs({ protocol }) ? { isOurs: true } : {}),
    ...(protocol === 'kernel' ? { isKernels: true } : {}),
  }
}

/** Whether we made a route. */
export function isOurs({ protocol }: { readonly protocol?: string | undefined }): boolean {
  return protocol === ROUTE_PROTOCOL
}

/** `ip` writes a host route without its length and 0.0.0.0/0 and ::/0 as `default`. */
function withLength(destination: string, family: 4 | 6): string {
  if (destination === 'default') return family === 4 ? '0.0.0.0/0' : '::/0'
  return destination.includes('/') ? destination : `${destination}/${family === 4 ? '32' : '128'}`
}
