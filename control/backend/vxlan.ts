/**
 * `vxlan`: Ethernet frames in VXLAN (RFC 7348), by TUN devices in user space or by devices of the kernel.
 */
import { randomBytes } from 'node:crypto'
import { createMac, formatMac, VXLAN_OVERHEAD, type Mac } from '../../dataplane/index.js'
import { HeddleError } from '../errors.js'
import type { ChosenInterface } from '../host/interface.js'
import type { LeaseAttrs } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import type { Backend, Facts, Family, Tunnel } from './backend.js'
import { parseUnderlay, parseVxlanBackend, type VxlanConfig } from './config.js'
import { createKernelPath } from './kernel-vxlan.js'
import { overlayMtu, PLAIN, publicAddresses, toward } from './reach.js'
import { previousMac, VXLAN_TYPE, vtepOf } from './vtep.js'

/**
 * @throws HeddleError HEDDLE_CONFIG for an option that is none, or that this host cannot do;
 *   HEDDLE_STORE when the store fails
 */
export async function createVxlan(
  config: NetworkConfig,
  external: ChosenInterface,
  facts: Facts,
): Promise<Backend> {
  const vxlan = parseVxlanBackend(config)
  const { port, directRouting } = vxlan
  const underlay = parseUnderlay(config)
  const ipv4 = config.ipv4 !== null
  const ipv6 = config.ipv6 !== null
  const addresses = publicAddresses(external)
  const published = await facts.published(addresses)
  const macOf = (family: Family): Mac => previousMac(published, family) ?? createMac(randomBytes(6))
  const own = vxlan.mtu === null ? external : { ...external, mtu: vxlan.mtu }
  const data = (mac: Mac) => ({ VNI: vxlan.vni, VtepMAC: formatMac(mac) })
  const publish = (mac4: Mac | null, mac6: Mac | null): LeaseAttrs => ({
    ...addresses,
    backendType: VXLAN_TYPE,
    ...(mac4 === null ? {} : { backendData: data(mac4) }),
    ...(mac6 === null ? {} : { backendV6Data: data(mac6) }),
  })
  const { where, notes } = await placeOf(vxlan, underlay, facts)
  const name = `flannel.${String(vxlan.vni)}`
  if (underlay !== null) {
    const mac = macOf(ipv4 ? 4 : 6)
    const tunnel = createVxlanTunnel(name, vxlan, own, mac, underlay, { ipv4, ipv6 })
    const attrs = publish(ipv4 ? mac : null, ipv6 ? mac : null)
    return { ...PLAIN, port, mtu: tunnel.mtu, tunnels: [tunnel], attrs, directRouting, notes }
  }
  const devices: { name: string; family: Family; mac: Mac }[] = []
  if (ipv4) devices.push({ name, family: 4, mac: macOf(4) })
  if (ipv6) devices.push({ name: `flannel-v6.${String(vxlan.vni)}`, family: 6, mac: macOf(6) })
  const ownMac = (family: Family) => devices.find((d) => d.family === family)?.mac ?? null
  const common = {
    ...PLAIN,
    port,
    attrs: publish(ownMac(4), ownMac(6)),
    directRouting,
    notes,
  }
  if (where === 'kernel') {
    const kernel = devices.map((device) => ({
      ...device,
      mtu: overlayMtu(own.mtu - VXLAN_OVERHEAD[device.family], device.family === 6),
      lower: external.name,
      local: (device.family === 4 ? external.address : external.address6) ?? '',
    }))
    return {
      ...common,
      mtu: Math.min(...kernel.map(({ mtu }) => mtu)),
      kernel: kernel.map((device) => createKernelPath(device, vxlan)),
    }
  }
  const tunnels = devices.map((device) => {
    const inner = { ipv4: device.family === 4, ipv6: device.family === 6 }
    return createVxlanTunnel(device.name, vxlan, own, device.mac, device.family, inner)
  })
  return { ...common, mtu: Math.min(...tunnels.map(({ mtu }) => mtu)), tunnels }
}

/** Whether frames are made here or in the kernel. */
async function placeOf(
  { dataplane }: VxlanConfig,
  underlay: Family | null,
  facts: Facts,
): Promise<{ where: 'user' | 'kernel'; notes: string[] }> {
  if (dataplane === 'user') return { where: 'user', notes: [] }
  if (underlay !== null) {
    if (dataplane === 'auto') {
      return { where: 'user', notes: ['vxlan in user space: the kernel knows no Backend.Underlay'] }
    }
    throw new HeddleError(
      'HEDDLE_CONFIG',
      'invalid network configuration: Backend.Underlay is for "Dataplane": "user"; leave one of them out',
    )
  }
  const why = await facts.whyNoVxlan()
  if (why === null) {
    const note = 'vxlan by the kernel, which has VXLAN devices'
    return { where: 'kernel', notes: dataplane === 'auto' ? [note] : [] }
  }
  if (dataplane === 'auto') return { where: 'user', notes: [`vxlan in user space: ${why}`] }
  throw new HeddleError(
    'HEDDLE_CONFIG',
    `invalid network configuration: Backend.Dataplane is "kernel", but ${why}; write "user", or load the module vxlan`,
  )
}

function createVxlanTunnel(
  device: string,
  { vni, port }: VxlanConfig,
  { mtu }: { readonly mtu: number },
  mac: Mac,
  outer: Family,
  inner: { readonly ipv4: boolean; readonly ipv6: boolean },
): Tunnel {
  return {
    device,
    port,
    mtu: overlayMtu(mtu - VXLAN_OVERHEAD[outer], inner.ipv6),
    encap: { kind: 'vxlan', vni, mac },
    outer,
    ...inner,
    reach: (attrs) => {
      const vtep = vtepOf(attrs, inner.ipv4 ? 4 : 6)
      if ('fault' in vtep) return vtep
      const to = toward(attrs, outer)
      return 'fault' in to ? to : { ...to, port, mac: vtep.mac }
    },
    takesIpv6: () => true,
  }
}
