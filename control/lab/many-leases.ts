/**
 * The leases of hosts that do not exist: thousands of them, each in a subnet of its own and behind an
 * address of its own, which changes from generation to generation.
 */
import { FIREWALL_MODE } from './firewall-mode.js'

/** Where flannel keeps its keys unless told otherwise. */
export const PREFIX = '/coreos.com/network'

export type Backend = 'udp' | 'vxlan' | 'kernel vxlan'

/** The network; real daemons lease below the subnets of {@link subnetOf}. */
export function configText(backend: Backend): string {
  const kernel = backend === 'kernel vxlan' ? { Dataplane: 'kernel' } : {}
  return JSON.stringify({
    Network: '10.0.0.0/8',
    SubnetLen: 24,
    SubnetMin: '10.1.0.0',
    SubnetMax: '10.1.255.0',
    ...FIREWALL_MODE,
    Backend: { Type: backend === 'udp' ? 'udp' : 'vxlan', ...kernel },
  })
}

/** @param i  0..35000 */
export function subnetOf(i: number): string {
  return `10.${String(100 + (i >> 8))}.${String(i & 255)}.0`
}

export function keyOf(i: number): string {
  return `${PREFIX}/subnets/${subnetOf(i)}-24`
}

/** Address of the host of a lease; another one in each of 16 generations. */
export function addressOf(i: number, generation: number): string {
  return `172.${String(64 + ((generation & 15) << 2) + (i >> 14))}.${String((i >> 8) & 63)}.${String(i & 255)}`
}

export function valueOf(i: number, generation: number, backend: Backend): string {
  const mac = `0e:01:00:${[16, 8, 0].map((shift) => ((i >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`
  const vtep = { BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } }
  return JSON.stringify({
    PublicIP: addressOf(i, generation),
    PublicIPv6: null,
    ...(backend === 'udp' ? {} : vtep),
  })
}
