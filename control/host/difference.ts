/**
 * What must change for the kernel to hold what it should. Pure.
 */
import { contains4, contains6, parsePrefix4, parsePrefix6 } from '../prefix.js'
import type {
  AddressState,
  ForwardingState,
  HostState,
  LinkState,
  NeighbourState,
  RouteState,
  SettingState,
  VxlanLink,
} from './state.js'

export type Change =
  | { readonly kind: 'link-create'; readonly link: LinkState; readonly vxlan: VxlanLink }
  | { readonly kind: 'link-remove'; readonly link: LinkState }
  | { readonly kind: 'link-set'; readonly link: LinkState }
  | { readonly kind: 'address-add'; readonly address: AddressState }
  | { readonly kind: 'address-remove'; readonly address: AddressState }
  | { readonly kind: 'route-add'; readonly route: RouteState }
  | { readonly kind: 'route-replace'; readonly route: RouteState }
  | { readonly kind: 'route-remove'; readonly route: RouteState }
  | { readonly kind: 'neighbour-set' | 'neighbour-remove'; readonly neighbour: NeighbourState }
  | { readonly kind: 'forwarding-set' | 'forwarding-remove'; readonly entry: ForwardingState }
  | { readonly kind: 'setting-write'; readonly setting: SettingState }

/** What a change is about: changes of one entry have the same name. */
export function entryOf(change: Change): string {
  switch (change.kind) {
    case 'link-create':
    case 'link-remove':
    case 'link-set':
      return `link ${change.link.name}`
    case 'address-add':
    case 'address-remove':
      return `address ${change.address.device} ${change.address.address}`
    case 'route-add':
    case 'route-replace':
    case 'route-remove':
      return `route ${change.route.destination}`
    case 'neighbour-set':
    case 'neighbour-remove':
      return `neighbour ${change.neighbour.device} ${change.neighbour.address}`
    case 'forwarding-set':
    case 'forwarding-remove':
      return `forwarding ${change.entry.device} ${change.entry.mac}`
    case 'setting-write':
      return `setting ${change.setting.path}`
  }
}

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
 * What must change for `actual` to become `desired`, in the order in which the kernel accepts it: links,
 * addresses, neighbours, forwarding entries, routes. Only devices that `desired` names are touched, and
 * whatever else is on them goes, since a device of ours has nothing but ours.
 * @param isComplete  whether all peers are known. Until then what leads to others stays, so that a daemon that
 *   starts again cuts nobody off
 */
export function difference(desired: HostState, found: HostState, isComplete = true): Difference {
  const links = linkChanges(desired, found)
  const renamed = new Set(desired.links.filter((link) => hasOtherMac(link, found)).map(nameOf))
  const actual = without(found, new Set(links.flatMap(removedBy)), renamed)
  const ours = new Set(desired.links.map((link) => link.name))
  const { changes: routes, conflicts } = routeChanges(desired, actual)
  const changes: Change[] = [
    ...links,
    ...addressChanges(ours, desired, actual),
    ...settingChanges(desired, actual),
    ...neighbourChanges(desired, actual),
    ...forwardingChanges(desired, actual),
    ...routes,
  ]
  return { changes: isComplete ? changes : changes.filter((c) => !cutsOff(c)), conflicts }
}

/** Whether a change is one that is made when a peer goes. */
function cutsOff(change: Change): boolean {
  switch (change.kind) {
    case 'neighbour-remove':
    case 'forwarding-remove':
      return true
    case 'route-remove':
      return change.route.isBlackhole !== true
    default:
      return false
  }
}

function removedBy(change: Change): string[] {
  return change.kind === 'link-remove' ? [change.link.name] : []
}

const nameOf = ({ name }: LinkState): string => name

function hasOtherMac({ name, mac }: LinkState, found: HostState): boolean {
  return found.links.some((is) => is.name === name && is.mac !== mac)
}

/**
 * What is left when some devices go, all that is on them with them, and others get another MAC address: the
 * kernel then forgets their neighbours.
 */
function without(
  state: HostState,
  devices: ReadonlySet<string>,
  renamed: ReadonlySet<string>,
): HostState {
  const stays = ({ device }: { readonly device: string }) => !devices.has(device)
  return {
    ...state,
    addresses: state.addresses.filter(stays),
    routes: state.routes.filter(stays),
    neighbours: state.neighbours.filter((n) => stays(n) && !renamed.has(n.device)),
    forwarding: state.forwarding.filter(stays),
    settings: state.settings.filter(
      ({ path }) => !path.split('/').some((name) => devices.has(name)),
    ),
  }
}

/**
 * A link comes before its addresses, since it comes up without the one that the kernel would make, and
 * since one of less than 1280 bytes takes none of IPv6. What a VXLAN device is cannot be changed: it is made anew.
 */
function linkChanges(desired: HostState, actual: HostState): Change[] {
  return desired.links.flatMap((link): Change[] => {
    const is = actual.links.find(({ name }) => name === link.name)
    const { vxlan } = link
    if (vxlan === undefined) return is !== undefined && isAs(link, is) ? [] : [set(link)]
    const create: Change[] = [{ kind: 'link-create', link, vxlan }, set(link)]
    if (is === undefined) return create
    if (!isVxlanAs(vxlan, is.vxlan)) return [{ kind: 'link-remove', link: is }, ...create]
    return isAs(link, is) ? [] : [set(link)]
  })
}

const set = (link: LinkState): Change => ({ kind: 'link-set', link })

function isAs(wanted: LinkState, is: LinkState): boolean {
  const isLinkLocalAs = wanted.hasLinkLocal === undefined || wanted.hasLinkLocal === is.hasLinkLocal
  const isMacAs = wanted.mac === undefined || wanted.mac === is.mac
  return is.mtu === wanted.mtu && is.isUp === wanted.isUp && isLinkLocalAs && isMacAs
}

function isVxlanAs(wanted: VxlanLink, is: VxlanLink | undefined): boolean {
  return (
    is !== undefined &&
    is.vni === wanted.vni &&
    is.lower === wanted.lower &&
    is.local === wanted.local &&
    is.port === wanted.port &&
    is.learning === wanted.learning &&
    is.gbp === wanted.gbp
  )
}

function addressChanges(
  ours: ReadonlySet<string>,
  desired: HostState,
  actual: HostState,
): Change[] {
  const key = ({ device, address }: AddressState) => `${device} ${address}`
  const wanted = new Set(desired.addresses.map(key))
  const found = new Set(actual.addresses.map(key))
  return [
    ...actual.addresses
      .filter((address) => ours.has(address.device) && !wanted.has(key(address)))
      .map((address): Change => ({ kind: 'address-remove', address })),
    ...desired.addresses
      .filter((address) => !found.has(key(address)))
      .map((address): Change => ({ kind: 'address-add', address })),
  ]
}

function settingChanges(desired: HostState, actual: HostState): Change[] {
  const found = new Map(actual.settings.map(({ path, value }) => [path, value]))
  return desired.settings
    .filter(({ path, value }) => found.get(path) !== value)
    .map((setting): Change => ({ kind: 'setting-write', setting }))
}

/** The names of the kernel's devices among ours: they alone have neighbours and forwarding entries. */
export function vxlanDevices({ links }: HostState): Set<string> {
  return new Set(links.filter(({ vxlan }) => vxlan !== undefined).map(({ name }) => name))
}

function neighbourChanges(desired: HostState, actual: HostState): Change[] {
  const ours = vxlanDevices(desired)
  const key = ({ device, address }: NeighbourState) => `${device} ${address}`
  const found = new Map(actual.neighbours.map((n) => [key(n), n.mac]))
  const wanted = new Map(desired.neighbours.map((n) => [key(n), n]))
  return [
    ...actual.neighbours
      .filter((neighbour) => ours.has(neighbour.device) && !wanted.has(key(neighbour)))
      .map((neighbour): Change => ({ kind: 'neighbour-remove', neighbour })),
    ...[...wanted.values()]
      .filter((neighbour) => found.get(key(neighbour)) !== neighbour.mac)
      .map((neighbour): Change => ({ kind: 'neighbour-set', neighbour })),
  ]
}

/** A host that has changed its address may have a second lease with one MAC address: the last one counts. */
function forwardingChanges(desired: HostState, actual: HostState): Change[] {
  const ours = vxlanDevices(desired)
  const key = ({ device, mac }: ForwardingState) => `${device} ${mac}`
  const found = new Map(actual.forwarding.map((entry) => [key(entry), entry.host]))
  const wanted = new Map(desired.forwarding.map((entry) => [key(entry), entry]))
  return [
    ...actual.forwarding
      .filter((entry) => ours.has(entry.device) && !wanted.has(key(entry)))
      .map((entry): Change => ({ kind: 'forwarding-remove', entry })),
    ...[...wanted.values()]
      .filter((entry) => found.get(key(entry)) !== entry.host)
      .map((entry): Change => ({ kind: 'forwarding-set', entry })),
  ]
}

/**
 * A route to a peer takes the place of whatever leads to its subnet, as flannel has it; one of ours that is not
 * wanted any more goes, if it lies in a network of ours, and so does every one through a VXLAN device
 * of ours. The route of a tunnel does not replace somebody else's: that is a conflict.
 */
function routeChanges(desired: HostState, actual: HostState): Difference {
  const changes: Change[] = []
  const conflicts: Conflict[] = []
  const destinations = new Set(desired.routes.map(routeKey))
  const devices = vxlanDevices(desired)
  const routesTo = new Map<string, RouteState[]>()
  for (const route of actual.routes) {
    const key = routeKey(route)
    const same = routesTo.get(key)
    if (same === undefined) routesTo.set(key, [route])
    else same.push(route)
    if (destinations.has(key) || route.isKernels === true) continue
    const isLeft =
      route.isOurs === true &&
      desired.networks.some((network) => isWithin(route.destination, network))
    if (isLeft || devices.has(route.device)) changes.push({ kind: 'route-remove', route })
  }
  for (const route of desired.routes) {
    const same = routesTo.get(routeKey(route)) ?? []
    const isPeers = route.via !== undefined
    // One that flannel left is taken over, so that it is known as ours when its peer goes.
    const isThere = (r: RouteState) =>
      r.device === route.device && r.via === route.via && (!isPeers || r.isOurs === true)
    if (same.some((r) => route.isBlackhole === true || isThere(r))) continue
    const other = same[0]
    if (isPeers) changes.push({ kind: 'route-replace', route })
    else if (other === undefined) changes.push({ kind: 'route-add', route })
    else conflicts.push({ wanted: route, found: other })
  }
  return { changes, conflicts }
}

/** A blackhole stands beside the route to the same destination that leads somewhere. */
function routeKey({ destination, isBlackhole }: RouteState): string {
  return isBlackhole === true ? `blackhole ${destination}` : destination
}

/** Whether a prefix lies in another, as text. */
function isWithin(inner: string, outer: string): boolean {
  const [inner4, outer4] = [parsePrefix4(inner), parsePrefix4(outer)]
  if (inner4 !== null && outer4 !== null) return contains4(outer4, inner4.addr)
  const [inner6, outer6] = [parsePrefix6(inner), parsePrefix6(outer)]
  return inner6 !== null && outer6 !== null && contains6(outer6, inner6.addr)
}
