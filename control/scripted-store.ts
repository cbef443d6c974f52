/**
 * A store for tests whose answers are written down one by one: races, outages and other hosts that a
 * real store would show only by chance. What is not written down must not be asked.
 */
import { HeddleError } from './errors.js'
import { createLogger, type Logger } from './log.js'
import type { Lease } from './lease.js'
import type { SubnetStore } from './store/store.js'
import { parseSubnetKey } from './subnet-key.js'

/** A store of given methods; any other call is an error. */
export function scriptedStore(methods: Partial<SubnetStore>): SubnetStore {
  const unexpected = (name: string) => () => Promise.reject(new Error(`unexpected ${name}()`))
  return {
    description: 'scripted',
    readConfig: unexpected('readConfig'),
    listLeases: unexpected('listLeases'),
    readLease: unexpected('readLease'),
    createLease: unexpected('createLease'),
    updateLease: unexpected('updateLease'),
    deleteLease: unexpected('deleteLease'),
    isStoreLeaseAlive: unexpected('isStoreLeaseAlive'),
    watch: () => {
      throw new Error('unexpected watch()')
    },
    close: () => Promise.resolve(),
    ...methods,
  }
}

/** Answers in order, one a call; an Error is thrown. The last one is repeated. */
export function answers<T>(...list: readonly (T | Error)[]): (() => Promise<T>) & Counted {
  const answer = () => {
    const next = list[Math.min(answer.calls, list.length - 1)]
    answer.calls++
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next as T)
  }
  answer.calls = 0
  return answer
}

export interface Counted {
  /** How often it was called. */
  calls: number
}

export const UNREACHABLE = new HeddleError('HEDDLE_STORE', 'etcd is away', { retryable: true })

/** A lease of a host under a key such as `10.5.1.0-24`. */
export function leaseOf(key: string, publicIP: string, more: Partial<Lease> = {}): Lease {
  const subnet = parseSubnetKey(key)
  if (subnet === null) throw new Error(`bad key in test: ${key}`)
  const attrs = { publicIP, publicIPv6: null, backendType: '' }
  return { subnet, attrs, expiresAt: Date.now() + 60_000, version: '1', storeLease: '7', ...more }
}

/** A log that keeps its lines, without klog's header. */
export function recordedLog(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = []
  const stream = {
    write(line: string) {
      lines.push(line.trimEnd().replace(/^([IWEF])[^\]]*\] /, '$1 '))
    },
  }
  return { log: createLogger({ stream }), lines }
}
