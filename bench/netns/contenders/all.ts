/**
 * All contenders of a usual run, Heddle first.
 */
import type { Contender } from '../contender.js'
import { HEDDLE_VARIANTS, createHeddle } from './heddle.js'
import { bareLink, kernelVxlan } from './kernel.js'
import { nebula } from './nebula.js'
import { socat } from './socat.js'
import { twin } from './twin.js'
import { wireguardGo } from './wireguard.js'

/** @param flags  each element is a command line that Heddle shall be measured with as well */
export function createContenders(flags: readonly string[]): Contender[] {
  const more = flags.map((line) =>
    createHeddle({ name: `heddle ${line}`, flags: line.split(' ').filter(Boolean) }),
  )
  const own = [...HEDDLE_VARIANTS.map(createHeddle), ...more]
  return [...own, twin, socat, kernelVxlan, wireguardGo, nebula, bareLink]
}
