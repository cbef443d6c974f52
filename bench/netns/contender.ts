/**
 * A contender: one way of joining two hosts' pod networks, brought up alone and taken down again.
 */
import type { Netns } from '../../control/lab/netns.js'
import type { ManagedProcess } from '../../control/lab/process.js'
import { PARTS, QUICK_PARTS, type Part } from './measurements.js'

/** The two hosts, joined by one veth pair, and a pod on each. */
export interface Bed {
  readonly hosts: readonly [Side, Side]
  /** Folder for files that belong to no one host. */
  readonly dir: string
}

export interface Side {
  readonly place: Netns
  /** Underlay device and address. */
  readonly device: string
  readonly underlay: string
  /** Own subnet, as `10.5.1.0/24`, and its addresses for overlay device, bridge and pod. */
  readonly subnet: string
  readonly base: string
  readonly gateway: string
  readonly podAddress: string
  readonly pod: Netns
}

/** A contender that runs. */
export interface Running {
  /** Addresses at which the hosts themselves answer over this contender. */
  readonly addresses: readonly [string, string]
  /** Processes of the data path, for their memory; none for the kernel's own. */
  readonly daemons: readonly ManagedProcess[]
  /** Takes down everything that `start` made. */
  stop(): Promise<void>
}

export interface Contender {
  readonly name: string
  /** What a reader must know when comparing: `encrypts`, `no overlay`. */
  readonly note: string
  /** MTU for pods: what fits one packet of the underlay. */
  readonly mtu: number
  /** Device of a host that all measured traffic must pass. */
  readonly device: string
  /** Programs it cannot do without. */
  readonly needs: readonly string[]
  readonly parts: readonly Part[]
  /** Version of what is measured, for the record. */
  version(): Promise<string>
  /** Brings both sides up; whoever calls waits until traffic passes. */
  start(bed: Bed): Promise<Running>
}

/** Everything there is to measure where there is no daemon. */
export const KERNEL_PARTS: readonly Part[] = PARTS.filter((part) => part !== 'memory')

/** The contenders of a quick run: those that have all of its parts, with these alone. */
export function quickly(contenders: readonly Contender[]): Contender[] {
  return contenders
    .filter(({ parts }) => QUICK_PARTS.every((part) => parts.includes(part)))
    .map((contender) => ({ ...contender, parts: QUICK_PARTS }))
}

/** MTU of the underlay, bytes. */
export const UNDERLAY_MTU = 1500

/** The side at the other end. */
export function otherSide(bed: Bed, i: number): Side {
  return bed.hosts[i === 0 ? 1 : 0]
}

/** Stops processes, all at a time. */
export async function stopAll(processes: readonly ManagedProcess[]): Promise<void> {
  await Promise.all(processes.map((p) => p.stop()))
}

/** Waits until a condition holds, 15 s at most. */
export async function until(
  what: string,
  holds: () => Promise<boolean>,
  everyMs = 50,
): Promise<void> {
  const deadline = performance.now() + 15_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within 15 s`)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}

/** Waits until a network device is there. */
export function untilDevice(side: Side, device: string): Promise<void> {
  return until(`device ${device}`, async () => {
    const { code } = await side.place.run('ip', ['link', 'show', device])
    return code === 0
  })
}

/**
 * Brings up contenders that are a program on each side between a TUN device and UDP: starts it, waits for the
 * device and leads the other side's subnet into it.
 * @param deviceOf  name of a side's device
 * @param start     starts a side's program, which makes the device
 */
export async function startTunnels(
  bed: Bed,
  mtu: number,
  deviceOf: (i: number) => string,
  start: (side: Side, other: Side, i: number) => Promise<ManagedProcess>,
): Promise<Running> {
  const daemons: ManagedProcess[] = []
  for (const [i, side] of bed.hosts.entries()) {
    const other = otherSide(bed, i)
    const device = deviceOf(i)
    daemons.push(await start(side, other, i))
    await untilDevice(side, device)
    await side.place.ip(
      `link set ${device} mtu ${String(mtu)} up`,
      `address add ${side.base}/32 dev ${device}`,
      `route add ${other.subnet} dev ${device}`,
    )
  }
  return {
    addresses: [bed.hosts[0].base, bed.hosts[1].base],
    daemons,
    stop: () => stopAll(daemons),
  }
}
