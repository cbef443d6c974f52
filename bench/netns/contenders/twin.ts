/**
 * The C twin (twin.c): the same way of moving packets in plain C, without the table, checks and counters.
 * What it reaches is what this way can reach on the machine; the rest is what Heddle itself costs.
 */
import { join } from 'node:path'
import { must } from '../../../control/lab/process.js'
import { VXLAN_OVERHEAD } from '../../../dataplane/index.js'
import { packageFolder } from '../../lib/package.js'
import { type Contender, startTunnels, UNDERLAY_MTU } from '../contender.js'
import { C_TWIN, PARTS } from '../measurements.js'

const COMPILER = 'cc'
/** The ring is the addon's own: that file knows nothing of Node. */
const SOURCES = ['bench/netns/contenders/twin.c', 'dataplane/native/ring.c'].map((file) =>
  join(packageFolder(), file),
)
const DEVICE = 'twin0'
const PORT = '8472'

export const twin: Contender = {
  name: C_TWIN,
  note: 'the same offloads in plain C with VXLAN headers, without table, checks and counters',
  mtu: UNDERLAY_MTU - VXLAN_OVERHEAD[4],
  device: DEVICE,
  needs: [COMPILER],
  parts: PARTS,
  version: async () => (await must(COMPILER, ['-dumpfullversion'])).trim(),
  async start(bed) {
    const program = join(bed.dir, 'twin')
    await must(COMPILER, ['-std=gnu11', '-D_GNU_SOURCE', '-O3', '-o', program, ...SOURCES])
    return startTunnels(
      bed,
      this.mtu,
      () => DEVICE,
      (side, other) => side.place.spawn(program, [DEVICE, side.underlay, other.underlay, PORT]),
    )
  },
}
