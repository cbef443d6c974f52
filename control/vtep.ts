/**
 * What a `vxlan` lease says of its host's tunnel endpoint (VTEP): `{"VNI":1,"VtepMAC":"c6:d2:…"}`,
 * in BackendData for IPv4 and in BackendV6Data for IPv6.
 * Readers use the MAC address alone, since daemons before 0.14 wrote no VNI (flannel behaviour,
 * backend/vxlan).
 */
import { isStation, parseMac, type Mac } from '../dataplane/index.js'
import type { Family } from './host/preferred-address.js'
import { fieldsOf } from './json-object.js'
import { hostOf, type Lease, type LeaseAttrs } from './lease.js'

/** BackendType of `vxlan` leases. */
export const VXLAN_TYPE = 'vxlan'

/** The MAC address of a lease's VTEP for an inner family, or why it has none that frames can be sent to. */
export function vtepOf(
  attrs: LeaseAttrs,
  inner: Family,
): { readonly mac: Mac } | { readonly fault: string } {
  if (attrs.backendType !== VXLAN_TYPE) {
    const type = attrs.backendType === '' ? 'none, as of udp' : JSON.stringify(attrs.backendType)
    return { fault: `its backend type is ${type}, not "${VXLAN_TYPE}"` }
  }
  const [name, data] =
    inner === 'ipv4' ? ['BackendData', attrs.backendData] : ['BackendV6Data', attrs.backendV6Data]
  const text = fieldsOf(data)?.get('vtepmac')
  if (typeof text !== 'string') return { fault: `its ${name} have no VtepMAC` }
  const mac = parseMac(text)
  return mac !== null && isStation(mac)
    ? { mac }
    : { fault: `its VtepMAC ${JSON.stringify(text)} is no MAC address of a host` }
}

/**
 * The MAC address that this host published last time for an inner family: its peers still know it.
 * @param host  as {@link hostOf} names it
 * @returns     null = none
 */
export function previousMac(leases: readonly Lease[], host: string, inner: Family): Mac | null {
  const own = leases.find(({ attrs }) => hostOf(attrs) === host)
  if (own === undefined) return null
  const vtep = vtepOf(own.attrs, inner)
  return 'mac' in vtep ? vtep.mac : null
}
