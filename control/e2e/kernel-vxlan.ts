/**
 * A host whose overlay is the kernel's own VXLAN device, programmed as flannel programs it.
 */
import type { Host, Pod } from '../lab/host.js'
import { must } from '../lab/process.js'
import { overlayAddress, PREFIX, type Overlay } from './overlay.js'

/** The MAC address that a host's lease names. */
export async function publishedMac(overlay: Overlay, host: Host): Promise<string> {
  const keys = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
  const base = await overlayAddress(host)
  const value = [...keys].find(([key]) => key.endsWith(`/${base}-24`))?.[1] ?? ''
  const exact = new RegExp(
    `^{"PublicIP":"${host.address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"([0-9a-f:]{17})"}}$`,
  )
  return exact.exec(value)?.[1] ?? `not in ${value}`
}

export const KERNEL_MAC = '0e:00:00:00:00:0b'

const OWN = '10.5.250.0'

/**
 * Makes a host what flanneld would make of it: device, neighbour, forwarding entry, route.
 * @param more  options of the device beyond flannel's
 */
export async function programDevice(
  overlay: Overlay,
  host: Host,
  peer: Host,
  more = '',
): Promise<void> {
  const [base, mac] = [await overlayAddress(peer), await publishedMac(overlay, peer)]
  await host.ip(
    `link add flannel.1 address ${KERNEL_MAC} mtu 1450 type vxlan id 1 dev eth0 local ${host.address} dstport 8472 nolearning ${more}`,
    'link set flannel.1 up',
    `address add ${OWN}/32 dev flannel.1`,
    `neigh replace ${base} lladdr ${mac} dev flannel.1 nud permanent`,
    `route replace ${base}/24 via ${base} dev flannel.1 onlink`,
  )
  await must('bridge', [
    '-n',
    host.netns,
    'fdb',
    'add',
    mac,
    'dev',
    'flannel.1',
    'dst',
    peer.address,
    'self',
    'permanent',
  ])
}

/** A device that nobody tells of neighbours: it asks one peer, and learns. */
export async function programAsker(overlay: Overlay, host: Host, peer: Host): Promise<void> {
  const base = await overlayAddress(peer)
  await host.ip(
    `link add flannel.1 address ${KERNEL_MAC} mtu 1450 type vxlan id 1 dev eth0 local ${host.address} remote ${peer.address} dstport 8472`,
    'link set flannel.1 up',
    `address add ${OWN}/32 dev flannel.1`,
    `route replace ${base}/24 via ${base} dev flannel.1 onlink`,
  )
}

/** A device with a lease, a bridge and a pod. */
export async function programKernel(
  overlay: Overlay,
  host: Host,
  peer: Host,
  program: (overlay: Overlay, host: Host, peer: Host) => Promise<void> = programDevice,
): Promise<Pod> {
  await program(overlay, host, peer)
  await host.sysctl({ 'net/ipv4/ip_forward': 1 })
  await overlay.lab.etcd.put(
    `${PREFIX}/subnets/${OWN}-24`,
    `{"PublicIP":"${host.address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${KERNEL_MAC}"}}`,
  )
  await host.addBridge({ network: '10.5.0.0/16', gateway: '10.5.250.1', prefixLen: 24, mtu: 1450 })
  return host.addPod()
}
