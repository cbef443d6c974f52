/**
 * What a `vxlan` lease says of its host's tunnel endpoint (VTEP): `{"VNI":1,"VtepMAC":"c6:d2:…"}`.
 * Readers use the MAC address alone, since daemons before 0.14 wrote no VNI (flannel behaviour,
 * backend/vxlan).
 */
import { isStation, parseMac, type Mac } from '../../dataplane/index.js'
import { fieldsOf } from '../json-object.js'
import type { LeaseAttrs } from '../lease.js'
import { wrongType } from './reach.js'

/** BackendType of `vxlan` leases. */
export const VXLAN_TYPE = 'vxlan'

/**
 * The MAC address of a lease's VTEP, or why it has none that frames can be sent to.
 * @param family  IP version of what the tunnel carries: that of IPv6 has a VTEP of its own
 */
export function vtepOf(
  attrs: LeaseAttrs,
  family: 4 | 6,
): { readonly mac: Mac } | { readonly fault: string } {
  const fault = wrongType(attrs, VXLAN_TYPE)
  if (fault !== null) return fault
  const [data, name] =
    family === 4 ? [attrs.backendData, 'BackendData'] : [attrs.backendV6Data, 'BackendV6Data']
  const text = fieldsOf(data)?.get('vtepmac')
  if (typeof text !== 'string') return { fault: `its ${name} have no VtepMAC` }
  const mac = parseMac(text)
  return mac !== null && isStation(mac)
    ? { mac }
    : { fault: `its VtepMAC ${JSON.stringify(text)} is no MAC address of a host` }
}

/** The MAC address that this host published last time, null = none: its peers still know it. */
export function previousMac(published: LeaseAttrs | null, family: 4 | 6): Mac | null {
  if (published === null) return null
  const vtep = vtepOf(published, family)
  return 'mac' in vtep ? vtep.mac : null
}
