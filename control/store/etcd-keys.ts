/**
 * The keyspace of one network in etcd: flannel's, key by key.
 *
 * The range listed and watched is flannel's, `<prefix>/subnets` without a slash at its end, so that
 * what would disturb a flannel daemon is seen and reported here too; leases are only the direct
 * children of `<prefix>/subnets/`.
 */
import { posix } from 'node:path'
import type { LeaseSubnet } from '../lease.js'
import { formatSubnetKey } from '../subnet-key.js'

export interface EtcdKeys {
  readonly config: Buffer
  /** Start of the range that holds all leases, and its end (exclusive). */
  readonly rangeStart: Buffer
  readonly rangeEnd: Buffer
  lease(subnet: LeaseSubnet): Buffer
  /** Last part of a lease's key, null for a key that is no direct child of the leases' folder. */
  leaseName(key: string): string | null
}

/** @param prefix  as given to `--etcd-prefix`; joined and cleaned as Go's path.Join does */
export function createEtcdKeys(prefix: string): EtcdKeys {
  const folder = posix.join(prefix, 'subnets')
  const inFolder = `${folder}/`
  return {
    config: Buffer.from(posix.join(prefix, 'config')),
    rangeStart: Buffer.from(folder),
    rangeEnd: Buffer.from(`${folder.slice(0, -1)}t`),
    lease: (subnet) => Buffer.from(inFolder + formatSubnetKey(subnet)),
    leaseName: (key) => (key.startsWith(inFolder) ? key.slice(inFolder.length) : null),
  }
}
