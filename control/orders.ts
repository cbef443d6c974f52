/**
 * What a running daemon is ordered to do: SIGINT and SIGTERM stop it, `heddle reload` has it start anew.
 */
import { describeError } from './errors.js'
import { Handover } from './handover.js'
import { whyNotStarting } from './host/self.js'
import type { Logger } from './log.js'
import { reloading, type Notify } from './sd-notify.js'

/** Starting anew, as it is asked for. */
export interface Reload {
  /** What speaks against it, null = nothing: packets that come meanwhile would wait in vain. */
  whyNot(): Promise<string | null>
  /** Ends the run for the program to start anew; nothing happens when it ends already. */
  begin(): void
}

export interface Orders extends Reload {
  /** Whether the program is to start anew when the run has ended, as of now. */
  readonly isAnew: boolean
}

/**
 * Takes orders. SIGINT and SIGTERM stop the daemon once; the second one kills it, as the handlers are gone then.
 * @param whyNotAnew  what speaks against starting anew on the daemon's side, null = nothing
 * @param notify      tells the service manager
 */
export function takeOrders(
  stop: AbortController,
  whyNotAnew: () => Promise<string | null>,
  notify: Notify,
  log: Logger,
): Orders {
  let isStopped = false
  log.info('Installing signal handlers')
  const end = (signal: NodeJS.Signals): void => {
    process.off('SIGINT', end)
    process.off('SIGTERM', end)
    log.info(`${signal}: shutdownHandler sent cancel signal...`)
    notify('STOPPING=1')
    isStopped = true
    stop.abort()
  }
  process.on('SIGINT', end)
  process.on('SIGTERM', end)
  return {
    get isAnew() {
      return !isStopped && stop.signal.reason instanceof Handover
    },
    whyNot: async () => {
      const why = await findFault(whyNotAnew)
      if (why !== null) log.error(`not starting anew: ${why}`)
      return why
    },
    begin: () => {
      if (stop.signal.aborted) return
      log.info('starting anew, devices and sockets stay open')
      notify(reloading())
      stop.abort(new Handover())
    },
  }
}

/** On the daemon's side, on the program's, and on the daemon's again, as that took its time. */
async function findFault(whyNotAnew: () => Promise<string | null>): Promise<string | null> {
  try {
    return (await whyNotAnew()) ?? (await whyNotStarting()) ?? (await whyNotAnew())
  } catch (error) {
    return describeError(error)
  }
}
