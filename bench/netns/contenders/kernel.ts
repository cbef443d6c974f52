/**
 * What the kernel does by itself: VXLAN as flannel's `vxlan` backend programs it, and plain routes.
 */
import { release } from 'node:os'
import { must } from '../../../control/lab/process.js'
import { type Contender, KERNEL_PARTS, UNDERLAY_MTU, otherSide } from '../contender.js'
import { KERNEL_VXLAN } from '../measurements.js'

/** Outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14. */
const VXLAN_OVERHEAD = 50
const VXLAN_DEVICE = 'flannel.1'
const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const

const version = (): Promise<string> => Promise.resolve(`Linux ${release()}`)

export const kernelVxlan: Contender = {
  name: KERNEL_VXLAN,
  note: 'in the kernel, as flannel’s vxlan backend sets it up',
  mtu: UNDERLAY_MTU - VXLAN_OVERHEAD,
  device: VXLAN_DEVICE,
  needs: ['bridge'],
  parts: KERNEL_PARTS,
  version,
  async start(bed) {
    for (const [i, side] of bed.hosts.entries()) {
      const other = otherSide(bed, i)
      const [mac = '', otherMac = ''] = i === 0 ? MACS : [...MACS].reverse()
      const link = `type vxlan id 1 dev ${side.device} local ${side.underlay} dstport 8472 nolearning`
      await side.place.ip(
        `link add ${VXLAN_DEVICE} address ${mac} mtu ${String(this.mtu)} ${link}`,
        `address add ${side.base}/32 dev ${VXLAN_DEVICE}`,
        `link set ${VXLAN_DEVICE} up`,
        `neigh replace ${other.base} lladdr ${otherMac} dev ${VXLAN_DEVICE} nud permanent`,
        `route add ${other.subnet} via ${other.base} dev ${VXLAN_DEVICE} onlink`,
      )
      const entry = ['fdb', 'replace', otherMac, 'dev', VXLAN_DEVICE, 'dst', other.underlay]
      await must('bridge', ['-n', side.place.netns, ...entry, 'self', 'permanent'])
    }
    return {
      addresses: [bed.hosts[0].base, bed.hosts[1].base],
      daemons: [],
      stop: async () => {
        for (const { place } of bed.hosts) await place.ip(`link del ${VXLAN_DEVICE}`)
      },
    }
  },
}

/** No overlay: the pods' subnets are routed over the link itself. */
export const bareLink: Contender = {
  name: 'bare link',
  note: 'no overlay at all: the ceiling',
  mtu: UNDERLAY_MTU,
  device: 'und0',
  needs: [],
  parts: KERNEL_PARTS,
  version,
  async start(bed) {
    for (const [i, { place, device }] of bed.hosts.entries()) {
      const other = otherSide(bed, i)
      await place.ip(`route add ${other.subnet} via ${other.underlay} dev ${device}`)
    }
    return {
      addresses: [bed.hosts[0].underlay, bed.hosts[1].underlay],
      daemons: [],
      stop: async () => {
        for (const [i, { place }] of bed.hosts.entries()) {
          await place.ip(`route del ${otherSide(bed, i).subnet}`)
        }
      },
    }
  },
}
