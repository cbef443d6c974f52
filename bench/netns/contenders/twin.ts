/**
 * The C twin (twin.c): the same way of moving packets in plain C, without the table, checks and counters.
 * What it reaches is what this way can reach on the machine; the rest is what Heddle itself costs.
 */
import { join } from 'node:path'
import { type ManagedProcess, must } from '../../../control/lab/process.js'
import { VXLAN_OVERHEAD } from '../../../dataplane/index.js'
import { packageFolder } from '../../lib/package.js'
import { type Contender, UNDERLAY_MTU, otherSide, stopAll, untilDevice } from '../contender.js'
import { C_TWIN, PARTS } from '../measurements.js'

const COMPILER = 'cc'
const SOURCE = join(packageFolder(), 'bench/netns/contenders/twin.c')
const DEVICE = 'twin0'
const PORT = '8472'

export const twin: Contender = {
  name: C_TWIN,
  note: 'the same offloads in plain C with VXLAN headers, without table, checks and counters: a bound',
  mtu: UNDERLAY_MTU - VXLAN_OVERHEAD[4],
  device: DEVICE,
  needs: [COMPILER],
  parts: PARTS,
  version: async () => (await must(COMPILER, ['-dumpfullversion'])).trim(),
  async start(bed) {
    const program = join(bed.dir, 'twin')
    await must(COMPILER, ['-std=gnu11', '-O3', '-o', program, SOURCE])
    const daemons: ManagedProcess[] = []
    for (const [i, side] of bed.hosts.entries()) {
      const other = otherSide(bed, i)
      daemons.push(await side.place.spawn(program, [DEVICE, side.underlay, other.underlay, PORT]))
      await untilDevice(side, DEVICE)
      await side.place.ip(
        `link set ${DEVICE} mtu ${String(this.mtu)} up`,
        `address add ${side.base}/32 dev ${DEVICE}`,
        `route add ${other.subnet} dev ${DEVICE}`,
      )
    }
    return {
      addresses: [bed.hosts[0].base, bed.hosts[1].base],
      daemons,
      stop: () => stopAll(daemons),
    }
  },
}
