/**
 * Keeps the own lease: renews it in time, and decides what it means when its key changes, goes or
 * belongs to somebody else.
 *
 * Forwarding never waits for any of this. While the store cannot be reached the daemon goes on with
 * what it knows, past the expiry of its own lease too; who owns the subnet is settled when the store
 * answers again.
 */
import { describeError, HeddleError, isHeddleError } from './errors.js'
import { formatSubnet, hostAddress, isSameHost, type Lease, type LeaseAttrs } from './lease.js'
import type { Logger } from './log.js'
import type { Tenure } from './leasing.js'
import { planRenewal } from './renewal.js'
import { seldom } from './seldom.js'
import { isAborted, joinSignals, sleep } from './store/abort.js'
import type { SubnetStore } from './store/store.js'

/** Pause between attempts to settle a vanished key while the store does not answer. */
const SETTLE_RETRY_MS = 1000

export interface KeeperOptions {
  readonly store: SubnetStore
  readonly attrs: LeaseAttrs
  readonly ttlMs: number
  readonly marginMs: number
  readonly log: Logger
}

export class LeaseKeeper implements Tenure {
  /** The own lease as last seen. */
  lease: Lease
  private readonly options: KeeperOptions
  private wake: AbortController = new AbortController()
  private readonly tellUnrenewed: (text: string) => void
  private readonly tellUnsettled: (text: string) => void

  constructor(lease: Lease, options: KeeperOptions) {
    this.lease = lease
    this.options = options
    this.tellUnrenewed = seldom((text) => {
      options.log.error(text)
    })
    this.tellUnsettled = seldom((text) => {
      options.log.warn(text)
    })
  }

  /**
   * Renews the lease until the signal fires.
   * @throws HEDDLE_LEASE_LOST / HEDDLE_LEASE_EVICTED when it is no longer ours
   */
  async renew(signal: AbortSignal): Promise<void> {
    const { log, ttlMs, marginMs } = this.options
    let failedAtMs: number | null = null
    while (!signal.aborted) {
      const plan = planRenewal({
        nowMs: Date.now(),
        expiresAtMs: this.lease.expiresAt,
        ttlMs,
        marginMs,
        failedAtMs,
      })
      if (!plan.isDue) {
        log.verbose(1, `Waiting for ${duration(plan.waitMs)} to renew lease`)
        await this.pause(plan.waitMs, signal)
        continue
      }
      try {
        await this.renewOnce(signal)
        failedAtMs = null
      } catch (error) {
        if (isAborted(signal)) return
        if (isOver(error)) throw error
        this.tellUnrenewed(`Error renewing lease (trying again): ${describeError(error)}`)
        failedAtMs = Date.now()
      }
    }
  }

  /**
   * Takes note of the own key as the store shows it now.
   * @param seen  the lease under our key, null = the key is gone
   * @throws HEDDLE_LEASE_LOST / HEDDLE_LEASE_EVICTED when the daemon has to stop
   */
  async observe(seen: Lease | null, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (seen === null) await this.settleGone(signal)
        else this.adopt(seen)
        return
      } catch (error) {
        if (isAborted(signal)) return
        if (isOver(error)) throw error
        this.tellUnsettled(
          `own lease cannot be settled yet, forwarding goes on: ${describeError(error)}`,
        )
        await sleep(SETTLE_RETRY_MS, signal).catch(() => undefined)
      }
    }
  }

  private async renewOnce(signal: AbortSignal): Promise<void> {
    const { store, attrs, ttlMs, log } = this.options
    const renewed = await store.updateLease(this.lease, attrs, ttlMs, signal)
    if (renewed !== null) {
      this.lease = renewed
      log.info(`Lease renewed, new expiration: ${expiryText(renewed)}`)
      return
    }
    const seen = await store.readLease(this.lease.subnet, signal)
    if (seen === null) await this.settleGone(signal)
    else this.adopt(seen)
  }

  /** The key was rewritten: by ourselves, by an operator, or by a host that took the subnet. */
  private adopt(seen: Lease): void {
    const { attrs } = this.options
    if (!isSameHost(seen.attrs, attrs)) {
      throw new HeddleError(
        'HEDDLE_LEASE_LOST',
        `subnet ${formatSubnet(seen.subnet)} belongs to ${hostAddress(seen.attrs)} now; restart heddled to get another one`,
      )
    }
    this.lease = seen
    this.wake.abort()
  }

  /** The key is gone: evicted by an operator, or expired and to be taken again. */
  private async settleGone(signal: AbortSignal): Promise<void> {
    const { store, attrs, ttlMs, log } = this.options
    const subnet = this.lease.subnet
    const now = await store.readLease(subnet, signal)
    if (now !== null) {
      this.adopt(now)
      return
    }
    if (await store.isStoreLeaseAlive(this.lease, signal)) {
      throw new HeddleError('HEDDLE_LEASE_EVICTED', 'Lease has been revoked. Shutting down daemon.')
    }
    log.warn(`lease ${formatSubnet(subnet)} expired in the store, taking it again`)
    const again = await store.createLease(subnet, attrs, ttlMs, signal)
    if (again !== null) {
      this.adopt(again)
      log.info(`lease ${formatSubnet(subnet)} is ours again until ${expiryText(again)}`)
      return
    }
    const other = await store.readLease(subnet, signal)
    if (other !== null) this.adopt(other)
  }

  /** Sleeps, until the lease changes, or until the signal fires. */
  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    this.wake = new AbortController()
    const either = joinSignals(signal, this.wake.signal)
    await sleep(ms, either.signal).catch(() => undefined)
    either.dispose()
  }
}

function duration(ms: number): string {
  const s = Math.round(ms / 1000)
  return s < 120 ? `${String(s)}s` : `${String(Math.floor(s / 60))}m${String(s % 60)}s`
}

function isOver(error: unknown): boolean {
  return isHeddleError(error, 'HEDDLE_LEASE_LOST') || isHeddleError(error, 'HEDDLE_LEASE_EVICTED')
}

function expiryText(lease: Lease): string {
  return lease.expiresAt === null ? 'never' : new Date(lease.expiresAt).toISOString()
}
