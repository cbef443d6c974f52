/**
 * A start waits for its store: for one that is away for a moment, and for a network configuration that nobody has
 * written yet or that is not valid.
 */
import { describeError, HeddleError, isHeddleError } from '../errors.js'
import type { Logger } from '../log.js'
import type { NetworkConfig } from '../network-config.js'
import { isAborted, sleep } from './abort.js'

/** Pause between attempts, as flannel. */
const RETRY_MS = 1000

/**
 * Reads the network configuration, trying again until there is a valid one.
 * @param read  null = nobody has written it yet
 * @returns     null = the signal fired
 */
export async function awaitConfig(
  read: () => Promise<NetworkConfig | null>,
  log: Logger,
  signal: AbortSignal,
): Promise<NetworkConfig | null> {
  let last = ''
  while (!signal.aborted) {
    try {
      const config = await read()
      if (config === null) throw new HeddleError('HEDDLE_CONFIG', 'nobody has written it yet')
      log.info(`Found network config - Backend type: ${config.backend.type}`)
      return config
    } catch (error) {
      const fault = describeError(error)
      if (fault !== last && !isAborted(signal)) {
        log.error(`Couldn't fetch network config: ${fault} (trying every second)`)
      }
      last = fault
    }
    await sleep(RETRY_MS, signal).catch(() => undefined)
  }
  return null
}

/**
 * Does something that needs the store, again and again while the store fails: one that is away for a moment
 * ends no daemon that is about to start.
 * @throws what is no failure of the store, or an AbortError
 */
export async function persist<T>(
  work: () => Promise<T>,
  log: Logger,
  signal: AbortSignal,
): Promise<T> {
  let last = ''
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isHeddleError(error, 'HEDDLE_STORE') || !error.retryable) throw error
      const fault = describeError(error)
      if (fault !== last) log.error(`${fault} (trying every second)`)
      last = fault
    }
    await sleep(RETRY_MS, signal)
  }
}
