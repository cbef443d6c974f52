#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --v8-pool-size=1
/**
 * `heddled`: command line, environment, signals and exit codes around the agent.
 *
 * Exit codes: 0 = stopped by a signal, evicted by an operator, help or version; 1 = an error that
 * the daemon cannot live with; 2 = wrong flags.
 */
import { sendUnixDatagram } from '../dataplane/index.js'
import { Agent } from './agent.js'
import { describeError, HeddleError, isHeddleError } from './errors.js'
import { startHealthServer } from './health.js'
import { becomeAnew, takeHanded, type HandedTunnel } from './handover.js'
import { lockInstance } from './instance.js'
import { createLogger, type Logger } from './log.js'
import { parseOptions, type Options, type ParsedOptions } from './options.js'
import { takeOrders } from './orders.js'
import { createNotify } from './sd-notify.js'
import { openLeasing } from './open-leasing.js'
import { serveControl } from './control-socket.js'
import { isAbortError } from './store/abort.js'
import type { StoreObserver } from './store/store.js'
import { readPreviousSubnet } from './subnet-file.js'
import { usageText } from './usage.js'
import { VERSION } from './version.js'
import { startWatchdog, watchdogPeriod } from './watchdog.js'

const EXIT_FATAL = 1
const EXIT_USAGE = 2

/** How long open connections may hold up the end of the process. */
const LINGER_MS = 3000

async function main(): Promise<number> {
  const handed = takeHanded(process.env, process.pid)
  let parsed: ParsedOptions
  try {
    parsed = parseOptions(process.argv.slice(2), process.env)
  } catch (error) {
    if (!isHeddleError(error, 'HEDDLE_USAGE')) throw error
    process.stderr.write(`${error.message}\n\n${usageText()}`)
    return EXIT_USAGE
  }
  if (parsed.action === 'help') {
    process.stdout.write(usageText())
    return 0
  }
  if (parsed.action === 'version') {
    process.stderr.write(`${VERSION}\n`)
    return 0
  }
  const { options } = parsed
  const log = createLogger({ format: options.logFormat, verbosity: options.verbosity })
  log.info(`CLI flags config: {${parsed.settings.join(' ')}}`)
  for (const warning of parsed.warnings) log.warn(warning)
  try {
    await runDaemon(options, handed, log)
    log.info('Exiting cleanly...')
    return 0
  } catch (error) {
    if (isHeddleError(error, 'HEDDLE_LEASE_EVICTED')) {
      log.error(error.message)
      return 0
    }
    log.fatal(isHeddleError(error) ? error.message : describeUnexpected(error))
    return EXIT_FATAL
  }
}

/**
 * Everything that is opened here is closed here, in the opposite order. Returns when it has ended, and not at all
 * when the program starts anew.
 * @param handed  devices that are open already
 */
async function runDaemon(
  options: Options,
  handed: readonly HandedTunnel[],
  log: Logger,
): Promise<void> {
  const stop = new AbortController()
  const closers: (() => unknown)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  const notify = createNotify(process.env['NOTIFY_SOCKET'], sendUnixDatagram)
  try {
    closers.push(await lockInstance(options.subnetFile))
    const observer: StoreObserver = {
      onSkip: (what, why) => {
        agent.noteSkip(what, why)
      },
      onConnection: (isUp, detail) => {
        agent.noteConnection(isUp, detail)
      },
    }
    let isReady = false
    const orders = takeOrders(stop, () => agent.whyNotAnew(), notify, log)
    if (options.healthz !== null) {
      const health = await startHealthServer(options.healthz, () => isReady)
      closers.push(() => health.close())
    }
    const previous = await readPreviousSubnet(options.subnetFile)
    const leasing = await openLeasing(
      options,
      { env: process.env, previous, observer, log },
      stop.signal,
    )
    closers.push(() => leasing.close())
    log.info(`Created subnet manager: ${leasing.description}`)
    const agent = new Agent({
      leasing,
      ifaces: options.ifaces,
      ifaceRegexes: options.ifaceRegexes,
      ifaceCanReach: options.ifaceCanReach,
      publicIP: options.publicIP,
      publicIPv6: options.publicIPv6,
      subnetFile: options.subnetFile,
      previous,
      firewall: options.firewall,
      blackholeRoute: options.blackholeRoute,
      busyPollUs: options.busyPollUs,
      queues: options.queues,
      keepDevice: options.keepDevice,
      ingressCheck: options.ingressCheck,
      ingressAllow: options.ingressAllow,
      offload: options.offload,
      handed,
      onLeaving: closeAll,
      log,
      onReady: () => {
        isReady = true
        const fault = notify('READY=1') ?? notify(`STATUS=forwarding for ${String(agent.subnet())}`)
        if (fault !== null) log.warn(fault)
      },
    })
    const status = await serveControl(options.subnetFile, () => agent.status(), orders)
    closers.push(() => status.close())
    const period = watchdogPeriod(process.env, process.pid)
    if (period !== null) {
      closers.push(startWatchdog(period, notify, () => agent.areEnginesAlive()))
    }
    await agent.run(stop.signal)
    await closeAll()
    if (orders.isAnew) becomeAnew(agent.left)
  } catch (error) {
    // Stopped before there was an agent.
    if (!(stop.signal.aborted && isAbortError(error))) throw error
  } finally {
    await closeAll()
  }
}

/** A fault of ours rather than of the world: with its stack, so that it can be mended. */
function describeUnexpected(error: unknown): string {
  return error instanceof Error ? (error.stack ?? describeError(error)) : describeError(error)
}

// Data from the network or the store never gets here; a fault of ours must still end the daemon
// with a line that says so, and not leave the engine running alone.
process.on('unhandledRejection', (reason) => {
  throw reason instanceof Error ? reason : new HeddleError('HEDDLE_ENGINE', String(reason))
})

process.exitCode = await main()
setTimeout(() => process.exit(), LINGER_MS).unref()
