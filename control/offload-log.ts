/**
 * What the log says at the start of the offloads of each device.
 */
import type { Logger } from './log.js'
import type { TunnelStatus } from './status.js'

/** One line about all offloads of a device, and one for each that is not there although it is wanted. */
export function logOffloads(tunnels: readonly TunnelStatus[], log: Logger): void {
  for (const { device, offloads } of tunnels) {
    const where = tunnels.length === 1 ? '' : ` of ${device.name}`
    const states = offloads.map(({ name, state }) => `${name} ${state}`)
    log.info(`offloads${where}: ${states.join(', ')}`)
    for (const { name, state, detail } of offloads) {
      if (state === 'unavailable') log.warn(`offload ${name} is not available: ${detail}`)
      if (state === 'untested') log.warn(`offload ${name} could not be tested: ${detail}`)
    }
  }
}
