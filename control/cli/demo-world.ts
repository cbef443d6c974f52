/**
 * What the demo looks at: two hosts of a lab, a running heddled on each, two pods on each bridge.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'
import { FIREWALL_MODE } from '../lab/firewall-mode.js'
import type { Host, Pod } from '../lab/host.js'
import type { Lab } from '../lab/lab.js'
import type { ManagedProcess } from '../lab/process.js'
import type { SubnetEnv } from '../lab/subnet-env.js'
import { readStatus } from '../control-socket.js'
import type { Status } from '../status.js'

/** What the demo's hosts share, beside what flannel's defaults make of it. */
export interface World {
  readonly store: StoreKind
  readonly backend: DemoBackend
  /** Whether the network has IPv6 beside IPv4. */
  readonly ipv6: boolean
}

export const DEMO_BACKENDS = ['udp', 'vxlan'] as const
export type DemoBackend = (typeof DEMO_BACKENDS)[number]

/** The network configuration; small subnets are carved out of its networks. */
export function networkConfig({ backend, ipv6 }: World): object {
  return {
    Network: '10.5.0.0/16',
    ...FIREWALL_MODE,
    ...(ipv6 ? { EnableIPv6: true, IPv6Network: 'fd05::/48' } : {}),
    Backend: { Type: backend },
  }
}

/** A host with what runs on it. */
export interface Site {
  readonly host: Host
  readonly daemon: ManagedProcess
  readonly pods: readonly [Pod, Pod]
}

export type StoreKind = 'file' | 'etcd'

const START_MS = 20_000

/** Arguments that point a daemon at the store, which this call fills with the network configuration. */
export async function openStore(
  lab: Lab,
  world: World,
): Promise<{ store: string | null; args: string[]; description: string }> {
  const config = JSON.stringify(networkConfig(world))
  if (world.store === 'etcd') {
    const etcd = await lab.startEtcd()
    await etcd.put('/coreos.com/network/config', config)
    const args = [`--etcd-endpoints=${etcd.endpoint}`]
    return { store: null, args, description: `etcd at ${etcd.endpoint}` }
  }
  const directory = join(lab.dir, 'store')
  mkdirSync(directory)
  writeFileSync(join(directory, 'config'), `${config}\n`)
  const store = `file:${directory}`
  return { store, args: [], description: `the embedded store in ${directory}` }
}

/**
 * Starts the daemon and, from the subnet.env it writes, the bridge and two pods.
 * @throws HeddleError HEDDLE_ENGINE with the daemon's log when it ends or stays silent
 */
export async function bringUp(
  host: Host,
  store: string | null,
  args: readonly string[],
): Promise<Site> {
  const daemon = await host.startDaemon(store, args)
  const env = await envOf(host, daemon)
  await host.addBridge(env)
  return { host, daemon, pods: [await host.addPod(), await host.addPod()] }
}

async function envOf(host: Host, daemon: ManagedProcess): Promise<SubnetEnv> {
  const ended = new AbortController()
  void daemon.exited.then(() => {
    ended.abort()
  })
  try {
    return await host.subnetEnv(START_MS, ended.signal)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    const log = daemon.stderr().trimEnd().split('\n').slice(-12).join('\n')
    const what = daemon.running ? `heddled does not come up: ${why}` : 'heddled has ended'
    throw new HeddleError('HEDDLE_ENGINE', `${what}; its log ends\n${log}`, { cause })
  }
}

/**
 * Waits until every daemon is ready and knows every other.
 * @returns the daemons' status, in the order of the sites
 * @throws  HeddleError HEDDLE_ABORTED when the time is up
 */
export async function untilJoined(sites: readonly Site[]): Promise<Status[]> {
  const deadline = Date.now() + START_MS
  for (;;) {
    const all = await Promise.allSettled(sites.map(({ host }) => readStatus(host.subnetFile)))
    const known = all.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const isJoined = known.every((status) => status.peers.length === sites.length - 1)
    if (known.length === sites.length && isJoined) return known
    if (Date.now() > deadline) {
      const seen = known.map((status) => `${status.lease.subnet}: ${status.peers.length} peers`)
      const what = seen.join(', ') || 'no daemon answers'
      throw new HeddleError('HEDDLE_ABORTED', `the hosts have not found each other: ${what}`)
    }
    await sleep(50)
  }
}
