/**
 * One daemon an instance, and one for each thing of the kernel that is known by its name alone: exclusive locks
 * on files, one beside the subnet file, which names the instance, others in /run/heddle. The kernel
 * drops a lock with its process, however that ends.
 */
import { readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { lockFile } from '../dataplane/index.js'
import type { Backend } from './backend/backend.js'
import { describeError, HeddleError } from './errors.js'
import { networksOf, type NetworkConfig } from './network-config.js'
import { makeFolder } from './subnet-file.js'

/**
 * Takes the instance's lock; the folder of the subnet file is made when it is missing.
 * @returns a function that releases it
 * @throws  HEDDLE_BUSY when another daemon holds it, HEDDLE_PERMISSION when the folder or the lock
 *          file cannot be made
 */
export async function lockInstance(subnetFile: string): Promise<() => void> {
  const path = `${subnetFile}.lock`
  try {
    await makeFolder(dirname(path))
    return lockFile(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') {
      throw new HeddleError(
        'HEDDLE_BUSY',
        `another heddled runs with --subnet-file=${subnetFile} (it holds ${path}); stop it, or give this one a subnet file of its own`,
        { cause: error },
      )
    }
    throw new HeddleError(
      'HEDDLE_PERMISSION',
      `cannot lock ${path}: ${describeError(error)}; give --subnet-file a path that can be written`,
      { cause: error },
    )
  }
}

/** Where locks of this machine are. */
const RUN = '/run/heddle'

/**
 * Takes the locks of all that a daemon keeps in the kernel.
 * @returns a function that releases them
 * @throws  HEDDLE_BUSY when another daemon holds one
 */
export async function lockKept(backend: Backend, config: NetworkConfig): Promise<() => void> {
  const releases: (() => void)[] = []
  const release = (): void => {
    for (const each of releases) each()
  }
  try {
    for (const name of keptNames(backend, config)) releases.push(await lockKernel(name))
  } catch (error) {
    release()
    throw error
  }
  return release
}

/** Devices are known by their names; what has no name of its own by the kind of backend and the network. */
function keptNames({ tunnels, kernel }: Backend, config: NetworkConfig): Set<string> {
  const ofNetworks = (kind: string): string[] =>
    networksOf(config).map((network) => `${kind} ${network}`)
  return new Set([
    ...tunnels.flatMap(({ device, encap }) =>
      // The kernel completes such a name.
      device.includes('%d') ? ofNetworks(encap.kind) : [device],
    ),
    ...kernel.flatMap(({ device }) => (device === null ? ofNetworks('host-gw') : [device.name])),
  ])
}

/**
 * Takes the lock of a device, or of routes, in the network namespace of this process: two daemons that keep the
 * same would undo each other's work. Where no such file can be made there is no lock.
 * @param name  of the device, or a kind of backend and a network
 * @returns     a function that releases it
 * @throws      HEDDLE_BUSY when another daemon holds it
 */
export async function lockKernel(name: string, folder = RUN): Promise<() => void> {
  const [inode = ''] = /\d+/.exec(readlinkSync('/proc/self/ns/net')) ?? []
  const path = join(folder, `${name.replaceAll('/', '_')} ${inode}.lock`)
  try {
    await makeFolder(folder)
    return lockFile(path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN'))
      return () => undefined
    throw new HeddleError(
      'HEDDLE_BUSY',
      `${name} is kept by another heddled of this host (it holds ${path}); stop it, or give this one a network, port and VNI of its own`,
      { cause: error },
    )
  }
}
