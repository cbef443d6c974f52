/**
 * Heddle's own daemons over a directory of fixed leases, with the flags that a table gives them.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FIREWALL_MODE } from '../../../control/lab/firewall-mode.js'
import { HEDDLED } from '../../../control/lab/host.js'
import type { ManagedProcess } from '../../../control/lab/process.js'
import { readStatus } from '../../../control/control-socket.js'
import { VERSION } from '../../../control/version.js'
import { UDP_OVERHEAD, VXLAN_OVERHEAD } from '../../../dataplane/index.js'
import { type Bed, type Contender, UNDERLAY_MTU, stopAll, until } from '../contender.js'
import { HEDDLE, HEDDLE_10K, HEDDLE_VXLAN, PARTS, type Part } from '../measurements.js'

const OVERHEAD = { udp: UDP_OVERHEAD[4], vxlan: VXLAN_OVERHEAD[4] } as const
type Backend = keyof typeof OVERHEAD
/** Between two looks at the status. It names every peer: asking often would swell the memory measured. */
const READING_MS = 250

export interface HeddleVariant {
  readonly name: string
  /** Command line besides store, interface and subnet file; none = the defaults. */
  readonly flags: readonly string[]
  /** Default `udp`. */
  readonly backend?: Backend
  /** Subnets in the store, default the two of the bed; at most 51202. */
  readonly subnets?: number
  readonly parts?: readonly Part[]
  /** `main.js` of the daemon, default this build's. */
  readonly heddled?: string
  readonly version?: string
}

/** Every variant is a contender of its own. The first is what all others are compared with. */
export const HEDDLE_VARIANTS: readonly HeddleVariant[] = [
  { name: HEDDLE, flags: [] },
  {
    name: HEDDLE_VXLAN,
    flags: [],
    backend: 'vxlan',
    parts: PARTS.filter((part) => part !== 'memory'),
  },
  { name: HEDDLE_10K, flags: [], subnets: 10_000, parts: ['one-flow', 'memory'] },
]

function note({ flags, backend, subnets }: HeddleVariant): string {
  const how = flags.length === 0 ? 'its default flags' : flags.join(' ')
  const what = backend === undefined ? '' : `, backend ${backend} in user space`
  return `this project, with ${how}${what}${subnets === undefined ? '' : `; ${String(subnets)} subnets in its store`}`
}

/** Puts the configuration and all leases into a directory, as an operator would. */
function writeStore(bed: Bed, dir: string, subnets: number, backend: Backend): void {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(join(dir, 'subnets'), { recursive: true })
  const network = subnets > bed.hosts.length ? '10.0.0.0/8' : '10.5.0.0/16'
  writeFileSync(
    join(dir, 'config'),
    JSON.stringify({
      Network: network,
      SubnetLen: 24,
      ...FIREWALL_MODE,
      Backend: { Type: backend },
    }),
  )
  const lease = (subnet: string, ip: string, host = 0): void => {
    // A daemon keeps the MAC address of its own lease.
    const mac = `0e:00:00:00:00:0${String(host + 1)}`
    const vtep = { BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } }
    const value = JSON.stringify({
      PublicIP: ip,
      PublicIPv6: null,
      ...(backend === 'vxlan' ? vtep : {}),
    })
    writeFileSync(join(dir, 'subnets', subnet.replace('/', '-')), value)
  }
  bed.hosts.forEach(({ subnet, underlay }, i) => {
    lease(subnet, underlay, i)
  })
  for (let i = 0; i < subnets - bed.hosts.length; i++) {
    // Each on a host of its own; 198.18.0.0/15 is set aside for benchmarks (RFC 2544).
    const low = `${String(i >> 8)}.${String(i & 255)}`
    lease(`10.${String(10 + (i >> 8))}.${String(i & 255)}.0/24`, `198.18.${low}`)
  }
}

/** The contender of one row of the table. */
export function createHeddle(variant: HeddleVariant): Contender {
  const subnets = variant.subnets ?? 2
  const backend = variant.backend ?? 'udp'
  return {
    name: variant.name,
    note: note(variant),
    mtu: UNDERLAY_MTU - OVERHEAD[backend],
    device: backend === 'udp' ? 'flannel0' : 'flannel.1',
    needs: [],
    parts: variant.parts ?? PARTS,
    version: () => Promise.resolve(variant.version ?? VERSION),
    async start(bed) {
      const store = join(bed.dir, 'heddle-store')
      writeStore(bed, store, subnets, backend)
      const daemons: ManagedProcess[] = []
      for (const { place, device } of bed.hosts) {
        const subnetFile = join(place.dir, 'bench.env')
        const args = [
          ...asInstalled(variant.heddled ?? HEDDLED),
          `--store=file:${store}`,
          `--iface=${device}`,
          `--subnet-file=${subnetFile}`,
          ...variant.flags,
        ]
        const daemon = await place.spawn('env', args, { name: 'heddled' })
        daemons.push(daemon)
        // One after the other: real hosts do not share the CPUs that read ten thousand leases.
        await until(
          `${variant.name} has its routes`,
          async () => !daemon.running || (await routes(subnetFile)) === subnets - 1,
          READING_MS,
        )
      }
      return {
        addresses: [bed.hosts[0].base, bed.hosts[1].base],
        daemons,
        stop: () => stopAll(daemons),
      }
    },
  }
}

/** Arguments of env(1) that start a program as its first line says, with this Node. */
function asInstalled(program: string): string[] {
  const [first = ''] = readFileSync(program, 'utf8').split('\n', 1)
  const words = first
    .split(' ')
    .slice(1)
    .filter((word) => word !== '-S')
  return [...words.map((word) => (word === 'node' ? process.execPath : word)), program]
}

/** Peer routes of a daemon that is ready, 0 of one that is not. */
function routes(subnetFile: string): Promise<number> {
  return readStatus(subnetFile).then(
    (status) => (status.state === 'ready' ? status.routes : 0),
    () => 0,
  )
}
