/**
 * socat between a TUN and UDP: one read and one send per packet, the way flannel's own proxy works.
 */
import { must } from '../../../control/lab/process.js'
import { type Contender, startTunnels, UNDERLAY_MTU } from '../contender.js'
import { PARTS, SOCAT } from '../measurements.js'

/** Outer IPv4 20, UDP 8. */
const OVERHEAD = 28
const DEVICE = 'sct0'
const PORT = 9999

export const socat: Contender = {
  name: SOCAT,
  note: 'TUN to UDP, one packet per system call: a stand-in for flannel’s udp proxy',
  mtu: UNDERLAY_MTU - OVERHEAD,
  device: DEVICE,
  needs: ['socat'],
  parts: PARTS,
  version: async () =>
    /socat version (\S+)/.exec(await must('socat', ['-V']))?.[1] ?? 'version unknown',
  start(bed) {
    return startTunnels(
      bed,
      this.mtu,
      () => DEVICE,
      (side, other) => {
        const to = `UDP4-DATAGRAM:${other.underlay}:${String(PORT)}`
        return side.place.spawn('socat', [
          '-b',
          '65535',
          `TUN,tun-name=${DEVICE},iff-no-pi,iff-up`,
          `${to},bind=${side.underlay}:${String(PORT)}`,
        ])
      },
    )
  },
}
