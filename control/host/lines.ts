/**
 * Changes as lines for the batch modes of iproute2. Pure.
 */
import type { Change } from './difference.js'
import { checked, type Program } from './iproute.js'
import { ROUTE_PROTOCOL } from './read.js'
import type { ForwardingState, LinkState, NeighbourState, RouteState, VxlanLink } from './state.js'

/** Any route to the same destination comes before a blackhole, a bridge's in particular. */
const BLACKHOLE_METRIC = '4294967295'

/** A line of a batch, and the program that reads it. */
export interface Line {
  readonly program: Program
  readonly text: string
}

export function lineOf(change: Exclude<Change, SettingChange>): Line {
  switch (change.kind) {
    case 'forwarding-set':
    case 'forwarding-remove':
      return { program: 'bridge', text: bridgeLine(change.kind, change.entry) }
    default:
      return { program: 'ip', text: ipLine(change) }
  }
}

function bridgeLine(
  kind: 'forwarding-set' | 'forwarding-remove',
  { mac, device, host }: ForwardingState,
): string {
  const end = `dev ${checked(device)} dst ${host} self`
  return kind === 'forwarding-set' ? `fdb replace ${mac} ${end} permanent` : `fdb del ${mac} ${end}`
}

type SettingChange = Extract<Change, { readonly kind: 'setting-write' }>
type IpChange = Exclude<
  Change,
  SettingChange | { readonly kind: 'forwarding-set' | 'forwarding-remove' }
>

/** One change, as a line or several for `ip -batch`. */
function ipLine(change: IpChange): string {
  switch (change.kind) {
    case 'link-create':
      return linkCreation(change.link, change.vxlan)
    case 'link-remove':
      return `link del dev ${checked(change.link.name)}`
    case 'neighbour-set':
      return `neighbour replace ${neighbourLine(change.neighbour)} lladdr ${change.neighbour.mac} nud permanent`
    case 'neighbour-remove':
      return `neighbour del ${neighbourLine(change.neighbour)}`
    case 'address-add':
      // Nobody else can have the address, on a link without neighbours: it need not be asked about.
      return `address add ${change.address.address} dev ${checked(change.address.device)}${isText6(change.address.address) ? ' nodad' : ''}`
    case 'address-remove':
      return `address del ${change.address.address} dev ${checked(change.address.device)}`
    case 'link-set':
      return linkLines(change.link)
    case 'route-add':
      if (change.route.isBlackhole === true) return `route add ${blackhole(change.route)}`
      return `route add ${change.route.destination} dev ${checked(change.route.device)}${isText6(change.route.destination) ? '' : ' scope global'}`
    case 'route-replace':
      return `route replace ${toPeer(change.route)}${change.route.isOnlink === true ? ' onlink' : ''} proto ${ROUTE_PROTOCOL}`
    case 'route-remove':
      if (change.route.isBlackhole === true) return `route del ${blackhole(change.route)}`
      return `route del ${toPeer(change.route)}`
  }
}

function toPeer({ destination, via, device }: RouteState): string {
  return `${destination}${via === undefined ? '' : ` via ${via}`} dev ${checked(device)}`
}

function blackhole({ destination }: RouteState): string {
  return `blackhole ${destination} proto ${ROUTE_PROTOCOL} metric ${BLACKHOLE_METRIC}`
}

function neighbourLine({ address, device }: NeighbourState): string {
  return `${address} dev ${checked(device)}`
}

/** As flannel makes it (flannel behaviour, backend/vxlan). */
function linkCreation({ name, mac, mtu }: LinkState, vxlan: VxlanLink): string {
  const { vni, lower, local, port, learning, gbp } = vxlan
  return `link add name ${checked(name)}${mac === undefined ? '' : ` address ${mac}`} mtu ${String(mtu)} txqueuelen 0 type vxlan id ${String(vni)} dev ${checked(lower)} local ${local} dstport ${String(port)} ${learning ? '' : 'no'}learning${gbp ? ' gbp' : ''}`
}

/** The MTU first: a device of less than 1280 bytes has no IPv6 that could be set. */
function linkLines({ name, mtu, isUp, hasLinkLocal, mac }: LinkState): string {
  const set = `link set dev ${checked(name)}`
  return [
    `${set} mtu ${String(mtu)}`,
    ...(mac === undefined ? [] : [`${set} address ${mac}`]),
    ...(hasLinkLocal === false ? [`${set} addrgenmode none`] : []),
    `${set} ${isUp ? 'up' : 'down'}`,
  ].join('\n')
}

/** Whether text is of an IPv6 address or prefix. */
export function isText6(text: string): boolean {
  return text.includes(':')
}
