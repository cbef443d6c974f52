/**
 * The devices of a backend at the start: those in the way are taken over or named, those that a program before this one
 * left open or kept go on, the others are made.
 */
import {
  isThere,
  type IngressCheckMode,
  type OffloadWish,
  type SourceException,
} from '../../dataplane/index.js'
import { closeHanded, type HandedTunnel } from '../handover.js'
import type { ChosenInterface } from '../host/interface.js'
import type { Logger } from '../log.js'
import { networksOf, type NetworkConfig } from '../network-config.js'
import { describeRefusal } from '../refusal.js'
import type { Backend } from './backend.js'
import { findKept } from './kept.js'
import type { OpenTunnel } from './open-tunnel.js'
import { takeOver } from './takeover.js'
import { openTunnels, tunnelKey, type TunnelOptions } from './tunnels.js'

export interface OpeningOptions {
  readonly busyPollUs: number
  readonly queues: number
  /** Whether TUN devices stay when the daemon ends. */
  readonly keepDevice: boolean
  readonly ingressCheck: IngressCheckMode
  readonly ingressAllow: readonly SourceException[]
  /** Offloads that may be used. */
  readonly offload: OffloadWish
  /** Devices that the program before this one left open; those that fit no tunnel are closed. */
  readonly handed: readonly HandedTunnel[]
  readonly log: Logger
}

/**
 * Opens the devices and sockets of a backend's tunnels; nothing moves until they are started.
 * @throws HeddleError that names what is in the way
 */
export async function openBackend(
  backend: Backend,
  config: NetworkConfig,
  external: ChosenInterface,
  options: OpeningOptions,
): Promise<OpenTunnel[]> {
  const { handed, log } = options
  const own = tunnelOptions(options)
  const networks = networksOf(config)
  const keys = new Map(
    backend.tunnels.map((tunnel) => [tunnelKey(tunnel, networks, external, own), tunnel]),
  )
  const useful = handed.filter(({ key, devices }) => keys.has(key) && isThere(devices))
  closeHanded(handed.filter((tunnel) => !useful.includes(tunnel)))
  const open = new Map(useful.map(({ key, devices }) => [key, devices]))
  await takeOver(backend, log)
  for (const { tuns } of open.values()) log.info(`going on with ${tuns[0].name}, which is open`)
  const others = [...keys].flatMap(([key, tunnel]) => (open.has(key) ? [] : [tunnel]))
  const kept = await findKept(others, networks, options.queues > 1, log)
  return openTunnels(backend, networks, external, { kept, handed: open }, own)
}

function tunnelOptions({ ingressAllow, log, ...options }: OpeningOptions): TunnelOptions {
  const { busyPollUs, queues, keepDevice, offload, ingressCheck } = options
  return {
    busyPollUs,
    queues,
    keepDevice,
    offload,
    ingressCheck,
    exceptions: ingressAllow,
    onRefused: (refusal) => {
      log.warn(describeRefusal(refusal))
    },
    onGivenUp: ({ name, detail }) => {
      log.warn(
        `offload ${name} is given up: the kernel refuses it with ${detail}; packets go one by one until a restart`,
      )
    },
  }
}
