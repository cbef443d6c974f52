/**
 * Taking over from flanneld: the device that it leaves in the kernel has the name of our TUN device. A VXLAN
 * device holds the port as well; where it is the one that this host's lease speaks of, it is removed, and
 * its MAC address, which peers know, goes on as ours. Whatever else stands there stays, and is named.
 */
import { formatMac } from '../../dataplane/index.js'
import type { Backend, Tunnel } from './backend.js'
import { HeddleError } from '../errors.js'
import { removeLink } from '../host/apply.js'
import { readLinks, type LinkInfo } from '../host/read.js'
import type { Logger } from '../log.js'

/**
 * Makes room for the devices of a backend: TUN devices of its tunnels, or those of the kernel.
 * @throws HEDDLE_BUSY when a device of somebody else is in the way, HEDDLE_APPLY when the kernel refuses
 */
export async function takeOver({ tunnels, kernel }: Backend, log: Logger): Promise<void> {
  const devices = kernel.flatMap(({ device }) => (device === null ? [] : [device.name]))
  if (devices.length === 0 && tunnels.every(({ encap }) => encap.kind === 'udp')) return
  const links = await readLinks()
  for (const name of devices) {
    const link = links.find(({ ifname }) => ifname === name)
    const kind = link === undefined ? 'vxlan' : kindOf(link)
    if (kind !== 'vxlan') throw isInTheWay(name, `it is a ${kind} device`)
  }
  for (const tunnel of tunnels) {
    const { device } = tunnel
    const link = links.find(({ ifname }) => ifname === device)
    if (link !== undefined && kindOf(link) !== 'tun') {
      const why = whyNotOurs(link, tunnel)
      if (why !== null) throw isInTheWay(device, why)
      await removeLink(device)
      const isVxlan = tunnel.encap.kind === 'vxlan'
      const [kind, stays] = isVxlan ? ['VXLAN', '; its MAC address stays'] : ['ipip', '']
      log.info(`took over from the kernel's ${kind} device ${device}, which is removed${stays}`)
    }
    refuseHolder(links, tunnel)
  }
}

function isInTheWay(device: string, why: string): HeddleError {
  return new HeddleError(
    'HEDDLE_BUSY',
    `${device} is there already, and ${why}; if nothing needs it, remove it: ip link del ${device}`,
  )
}

/** Why a device that has our name is not the one of this host's lease; null = it is. */
export function whyNotOurs(
  link: LinkInfo,
  { encap, port }: Pick<Tunnel, 'encap' | 'port'>,
): string | null {
  const kind = kindOf(link)
  if (encap.kind !== kind) return `it is a ${kind} device`
  if (encap.kind !== 'vxlan') return null
  const { id, port: itsPort } = link.linkinfo?.info_data ?? {}
  if (id !== encap.vni) return `its VNI is ${String(id)}, not ${String(encap.vni)}`
  if (itsPort !== port) return `its port is ${String(itsPort)}, not ${String(port)}`
  const mac = formatMac(encap.mac)
  if (link.address === mac) return null
  return `its MAC address ${String(link.address)} is not the one of this host's lease`
}

/**
 * A device of the kernel that gets our packets: a VXLAN device of another name that holds the port, or the
 * ipip device for any peer (ip-tunnel(8)), which delivers each of them once more.
 */
export function refuseHolder(
  links: readonly LinkInfo[],
  { device, port, encap }: Pick<Tunnel, 'device' | 'port' | 'encap'>,
): void {
  if (encap.kind === 'ipip') {
    const isTaking = links.some(({ ifname, flags }) => ifname === 'tunl0' && flags?.includes('UP'))
    if (!isTaking) return
    throw new HeddleError(
      'HEDDLE_BUSY',
      "the kernel's device tunl0 is up and takes every packet of protocol 4, so that pods would get each one twice; if nothing needs it: ip link set tunl0 down",
    )
  }
  const holder = links.find(
    (link) =>
      link.ifname !== device && kindOf(link) === 'vxlan' && link.linkinfo?.info_data?.port === port,
  )
  if (holder === undefined) return
  throw new HeddleError(
    'HEDDLE_BUSY',
    `UDP port ${String(port)} is held by the kernel's VXLAN device ${holder.ifname}; set another Backend.Port, or, if nothing needs the device, remove it: ip link del ${holder.ifname}`,
  )
}

function kindOf(link: LinkInfo): string {
  return link.linkinfo?.info_kind ?? 'physical'
}
