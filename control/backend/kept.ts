/**
 * TUN devices that a daemon with `--keep-device` left behind: the next one goes on with them, so that pods'
 * packets meet no unreachable network in between, whether it keeps them in turn or not.
 */
import { removeLink } from '../host/apply.js'
import { isText6 } from '../host/lines.js'
import { readLinks, readRoutes, type LinkInfo } from '../host/read.js'
import type { Logger } from '../log.js'
import type { Tunnel } from './backend.js'

/** Where a network is routed to. */
interface NetworkRoute {
  readonly dst: string
  readonly dev?: string
}

/**
 * The device of a tunnel that is there already, null = none.
 * @param networks  what is routed to such a device: a name with `%d` does not tell whose it is
 */
export function keptDevice(
  { device }: Pick<Tunnel, 'device'>,
  links: readonly LinkInfo[],
  routes: readonly NetworkRoute[],
  networks: readonly string[],
): LinkInfo | null {
  const name = device.includes('%d')
    ? routes.find(({ dst, dev }) => networks.includes(dst) && isNamedAs(device, dev ?? ''))?.dev
    : device
  const link = links.find(({ ifname }) => ifname === name)
  const { info_kind: kind, info_data: data } = link?.linkinfo ?? {}
  return link !== undefined && kind === 'tun' && data?.persist === true ? link : null
}

function isNamedAs(pattern: string, name: string): boolean {
  const [before = '', after = ''] = pattern.split('%d')
  const number = name.slice(before.length, name.length - after.length)
  return name === `${before}${number}${after}` && /^\d+$/.test(number)
}

/**
 * Looks for such devices. One whose kind of queues is not what is wanted now is removed.
 * @returns names by the tunnels' own
 * @throws  HEDDLE_APPLY when the kernel refuses
 */
export async function findKept(
  tunnels: readonly Tunnel[],
  networks: readonly string[],
  isMultiQueue: boolean,
  log: Logger,
): Promise<Map<string, string>> {
  const kept = new Map<string, string>()
  if (tunnels.length === 0) return kept
  const [links, routes4, routes6] = await Promise.all([
    readLinks(),
    readRoutes(4),
    // A kernel without IPv6 has no table of it to ask for.
    networks.some(isText6) ? readRoutes(6) : [],
  ])
  const routes = [...routes4, ...routes6]
  for (const tunnel of tunnels) {
    const link = keptDevice(tunnel, links, routes, networks)
    if (link === null) continue
    if (link.linkinfo?.info_data?.multi_queue === isMultiQueue) {
      kept.set(tunnel.device, link.ifname)
      log.info(`going on with ${link.ifname}, which was kept`)
    } else {
      await removeLink(link.ifname)
      log.info(`${link.ifname}, which was kept, has another kind of queues; it is made anew`)
    }
  }
  return kept
}
