/**
 * Arguments of the commands that speak with a running daemon.
 */
import { parseArgs } from 'node:util'
import { DEFAULT_SUBNET_FILE } from '../options.js'
import type { CommandIo } from './heddle.js'

export interface InstanceFlags {
  /** Names the instance. */
  readonly subnetFile: string
  readonly json: boolean
}

/**
 * Reads them; help and faults are told.
 * @param command  for messages
 * @param hasJson  whether `--json` is one of them
 * @returns        an exit code where there is nothing left to do
 */
export function parseInstanceFlags(
  command: string,
  argv: readonly string[],
  usage: string,
  hasJson: boolean,
  io: CommandIo,
): InstanceFlags | number {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        'subnet-file': { type: 'string', default: DEFAULT_SUBNET_FILE },
        help: { type: 'boolean', short: 'h', default: false },
        ...(hasJson ? { json: { type: 'boolean' as const, default: false } } : {}),
      },
    })
    if (values.help) {
      io.stdout.write(usage)
      return 0
    }
    return { subnetFile: values['subnet-file'], json: 'json' in values && values.json === true }
  } catch (error) {
    io.stderr.write(`heddle ${command}: ${(error as Error).message}\n${usage}`)
    return 2
  }
}
