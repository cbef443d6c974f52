/**
 * Heddle's own daemons over a directory of fixed leases, with the flags that a table gives them.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HEDDLED } from '../../../control/lab/host.js'
import type { ManagedProcess } from '../../../control/lab/process.js'
import { readStatus } from '../../../control/status.js'
import { VERSION } from '../../../control/version.js'
import { type Bed, type Contender, UNDERLAY_MTU, stopAll, until } from '../contender.js'
import { HEDDLE, HEDDLE_10K, PARTS, type Part } from '../measurements.js'

/** Outer IPv4 20, UDP 8. */
const OVERHEAD = 28
/** Between two looks at the status. It names every peer: asking often would swell the memory measured. */
const READING_MS = 250

export interface HeddleVariant {
  readonly name: string
  /** Command line besides store, interface and subnet file; none = the defaults. */
  readonly flags: readonly string[]
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
  { name: HEDDLE_10K, flags: [], subnets: 10_000, parts: ['one-flow', 'memory'] },
]

function note({ flags, subnets }: HeddleVariant): string {
  const how = flags.length === 0 ? 'its default flags' : flags.join(' ')
  return `this project, with ${how}${subnets === undefined ? '' : `; ${String(subnets)} subnets in its store`}`
}

/** Puts the configuration and all leases into a directory, as an operator would. */
function writeStore(bed: Bed, dir: string, subnets: number): void {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(join(dir, 'subnets'), { recursive: true })
  const network = subnets > bed.hosts.length ? '10.0.0.0/8' : '10.5.0.0/16'
  writeFileSync(join(dir, 'config'), JSON.stringify({ Network: network, SubnetLen: 24 }))
  const lease = (subnet: string, ip: string): void => {
    const value = JSON.stringify({ PublicIP: ip, PublicIPv6: null })
    writeFileSync(join(dir, 'subnets', subnet.replace('/', '-')), value)
  }
  for (const { subnet, underlay } of bed.hosts) lease(subnet, underlay)
  for (let i = 0; i < subnets - bed.hosts.length; i++) {
    // Each on a host of its own; 198.18.0.0/15 is set aside for benchmarks (RFC 2544).
    const low = `${String(i >> 8)}.${String(i & 255)}`
    lease(`10.${String(10 + (i >> 8))}.${String(i & 255)}.0/24`, `198.18.${low}`)
  }
}

/** The contender of one row of the table. */
export function createHeddle(variant: HeddleVariant): Contender {
  const subnets = variant.subnets ?? 2
  return {
    name: variant.name,
    note: note(variant),
    mtu: UNDERLAY_MTU - OVERHEAD,
    device: 'flannel0',
    needs: [],
    parts: variant.parts ?? PARTS,
    version: () => Promise.resolve(variant.version ?? VERSION),
    async start(bed) {
      const store = join(bed.dir, 'heddle-store')
      writeStore(bed, store, subnets)
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
