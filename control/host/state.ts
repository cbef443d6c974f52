/**
 * What the kernel should hold, as data; what it holds; and the difference.
 *
 * Pure: `desired…` says what a backend needs, `difference` what must change. Only apply.ts turns
 * changes into commands. The same three steps serve the start, a repair and a restart.
 */
import { formatPrefix4, type Prefix4 } from '../prefix.js'

export interface LinkState {
  readonly name: string
  readonly mtu: number
  readonly isUp: boolean
}

export interface AddressState {
  readonly device: string
  /** Address with prefix length, as text: `10.5.72.0/32`. */
  readonly address: string
}

export interface RouteState {
  /** Destination prefix as text, always with its length. */
  readonly destination: string
  readonly device: string
}

/** Links, addresses and routes, as wanted or as found. */
export interface HostState {
  readonly links: readonly LinkState[]
  readonly addresses: readonly AddressState[]
  readonly routes: readonly RouteState[]
}

export type Change =
  | { readonly kind: 'link-set'; readonly link: LinkState }
  | { readonly kind: 'address-add'; readonly address: AddressState }
  | { readonly kind: 'address-remove'; readonly address: AddressState }
  | { readonly kind: 'route-add'; readonly route: RouteState }

/** Something of somebody else's stands where ours should. */
export interface Conflict {
  readonly wanted: RouteState
  readonly found: RouteState
}

export interface Difference {
  readonly changes: readonly Change[]
  readonly conflicts: readonly Conflict[]
}

/**
 * What a backend on a TUN needs: `<subnet base>/32` on the device, its MTU, and the whole Network
 * routed to it (flannel behaviour, backend/udp; its `vxlan` routes subnet by subnet instead).
 */
export function desiredForTun(
  device: string,
  mtu: number,
  network: Prefix4,
  subnet: Prefix4,
): HostState {
  return {
    links: [{ name: device, mtu, isUp: true }],
    addresses: [{ device, address: formatPrefix4({ addr: subnet.addr, len: 32 }) }],
    routes: [{ destination: formatPrefix4(network), device }],
  }
}

/**
 * What must change for `actual` to become `desired`, in the order in which the kernel accepts it:
 * addresses, links, routes. Only devices that `desired` names are touched; other IPv4 addresses on
 * them go, since a device of ours has none but ours.
 */
export function difference(desired: HostState, actual: HostState): Difference {
  const changes: Change[] = []
  const ours = new Set(desired.links.map((link) => link.name))
  const wanted = new Set(desired.addresses.map(addressKey))
  const found = new Set(actual.addresses.map(addressKey))
  for (const address of actual.addresses) {
    if (ours.has(address.device) && !wanted.has(addressKey(address)))
      changes.push({ kind: 'address-remove', address })
  }
  for (const address of desired.addresses) {
    if (!found.has(addressKey(address))) changes.push({ kind: 'address-add', address })
  }
  for (const link of desired.links) {
    const is = actual.links.find((l) => l.name === link.name)
    if (is?.mtu !== link.mtu || is.isUp !== link.isUp) changes.push({ kind: 'link-set', link })
  }
  const conflicts: Conflict[] = []
  for (const route of desired.routes) {
    const same = actual.routes.filter((r) => r.destination === route.destination)
    if (same.some((r) => r.device === route.device)) continue
    const other = same[0]
    if (other === undefined) changes.push({ kind: 'route-add', route })
    else conflicts.push({ wanted: route, found: other })
  }
  return { changes, conflicts }
}

function addressKey(a: AddressState): string {
  return `${a.device} ${a.address}`
}
