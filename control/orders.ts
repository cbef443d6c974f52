/**
 * What signals order a daemon to do: SIGINT and SIGTERM to stop, SIGUSR2 to start anew without a gap.
 */
import { Handover } from './handover.js'
import { whyNotStarting } from './host/self.js'
import type { Logger } from './log.js'

export interface Orders {
  /** Whether the program is to start anew when the run has ended. */
  readonly isAnew: boolean
}

/**
 * Installs the handlers. SIGINT and SIGTERM stop the daemon once; the second one kills it, as the handlers are gone
 * then. SIGUSR2 ends the run for the program to start anew, unless that would leave packets waiting: then the log says
 * why, and the run goes on.
 * @param whyNotAnew  what speaks against it on the daemon's side, null = nothing
 */
export function takeOrders(
  stop: AbortController,
  whyNotAnew: () => string | null,
  log: Logger,
): Orders {
  let isStopped = false
  log.info('Installing signal handlers')
  const end = (signal: NodeJS.Signals): void => {
    process.off('SIGINT', end)
    process.off('SIGTERM', end)
    log.info(`${signal}: shutdownHandler sent cancel signal...`)
    isStopped = true
    stop.abort()
  }
  process.on('SIGINT', end)
  process.on('SIGTERM', end)
  let isTrying = false
  process.on('SIGUSR2', () => {
    if (isTrying) return
    isTrying = true
    void startAnew().finally(() => {
      isTrying = false
    })
  })
  const startAnew = async (): Promise<void> => {
    const why = whyNotAnew() ?? (await whyNotStarting())
    if (why !== null) log.error(`SIGUSR2: not starting anew: ${why}`)
    else if (!stop.signal.aborted) {
      log.info('SIGUSR2: starting anew, devices and sockets stay open')
      stop.abort(new Handover())
    }
  }
  return {
    get isAnew() {
      return !isStopped && stop.signal.reason instanceof Handover
    },
  }
}
