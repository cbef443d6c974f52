/**
 * `heddle docker-opts`: options for dockerd from subnet.env, as flannel's mk-docker-opts.sh writes them, with
 * its flags (flannel behaviour, Docker).
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { HeddleError, isHeddleError } from '../errors.js'
import { readRoutes } from '../host/read.js'
import { DEFAULT_SUBNET_FILE } from '../options.js'
import { formatPrefix4, parsePrefix4 } from '../prefix.js'
import { parseEnvFile } from '../subnet-file.js'
import type { CommandIo } from './heddle.js'

const DEFAULT_OUTPUT = '/run/docker_opts.env'
const DEFAULT_KEY = 'DOCKER_OPTS'
const NAME = /^[A-Za-z_]\w*$/

const USAGE = `usage: heddle docker-opts [-f SUBNET-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k KEY]

Writes options for dockerd, to be read as its EnvironmentFile, from the daemon's subnet file.

  -f FILE  the subnet file (default ${DEFAULT_SUBNET_FILE})
  -d FILE  the file to write (default ${DEFAULT_OUTPUT})
  -i       each option in a variable of its own, DOCKER_OPT_BIP and so on
  -c       all options in one variable; without -i and -c both are written
  -k KEY   name of that variable (default ${DEFAULT_KEY}); what it has in the environment goes first
  -m       leave out --ip-masq
`

export interface DockerOptsChoice {
  /** One variable for each option; and one for all. */
  readonly hasEach: boolean
  readonly hasAll: boolean
  readonly key: string
  /** Value of that variable in the environment, empty = none. */
  readonly before: string
  readonly hasIpMasq: boolean
}

/**
 * Text of Docker's environment file.
 * @param subnetFile  text of subnet.env; what it lacks is left out
 * @throws HeddleError HEDDLE_CONFIG for a FLANNEL_IPMASQ that is neither true nor false
 */
export function formatDockerOpts(subnetFile: string, choice: DockerOptsChoice): string {
  const env = parseEnvFile(subnetFile)
  const options: [name: string, option: string][] = []
  const add = (name: string, flag: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') options.push([name, `--${flag}=${value}`])
  }
  add('DOCKER_OPT_BIP', 'bip', env.get('FLANNEL_SUBNET'))
  if (choice.hasIpMasq) add('DOCKER_OPT_IPMASQ', 'ip-masq', opposite(env.get('FLANNEL_IPMASQ')))
  add('DOCKER_OPT_MTU', 'mtu', env.get('FLANNEL_MTU'))
  const each = options.map(([name, option]) => `${name}="${option}"\n`)
  const all = choice.before + options.map(([, option]) => ` ${option}`).join('')
  return (choice.hasEach ? each.join('') : '') + (choice.hasAll ? `${choice.key}="${all}"\n` : '')
}

/** Docker masquerades where the daemon does not. */
function opposite(ipMasq: string | undefined): string | undefined {
  if (ipMasq === undefined || ipMasq === '') return undefined
  if (ipMasq === 'true') return 'false'
  if (ipMasq === 'false') return 'true'
  throw new HeddleError(
    'HEDDLE_CONFIG',
    `invalid value of FLANNEL_IPMASQ: ${ipMasq}; it is true or false in a file that the daemon wrote`,
  )
}

/** Runs the command. @returns the exit code: 0, 1 = help, wrong arguments or a fault, as the script */
export async function dockerOpts(argv: readonly string[], io: CommandIo): Promise<number> {
  const fail = (message: string): number => {
    io.stderr.write(`heddle docker-opts: ${message}\n`)
    return 1
  }
  let values
  try {
    values = parseArgs({
      args: [...argv],
      options: {
        file: { type: 'string', short: 'f', default: DEFAULT_SUBNET_FILE },
        docker: { type: 'string', short: 'd', default: DEFAULT_OUTPUT },
        individual: { type: 'boolean', short: 'i', default: false },
        combined: { type: 'boolean', short: 'c', default: false },
        key: { type: 'string', short: 'k', default: DEFAULT_KEY },
        'no-masq': { type: 'boolean', short: 'm', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (error) {
    return fail(`${(error as Error).message}\n${USAGE}`)
  }
  if (values.help) {
    io.stderr.write(USAGE)
    return 1
  }
  const { file, docker, individual, combined, key } = values
  if (!NAME.test(key)) return fail(`-k ${key} is no name of a variable`)
  const hasBoth = !individual && !combined
  try {
    const text = readFileSync(file, 'utf8')
    const written = formatDockerOpts(text, {
      hasEach: individual || hasBoth,
      hasAll: combined || hasBoth,
      key,
      before: process.env[key] ?? '',
      hasIpMasq: !values['no-masq'],
    })
    writeFileSync(docker, written)
    const route = await routeElsewhere(text)
    return route === null ? 0 : fail(route)
  } catch (error) {
    if (!isHeddleError(error) && !(error instanceof Error && 'code' in error)) throw error
    return fail(error.message)
  }
}

/** A route through a gateway to the subnet that Docker's bridge is to have; null = there is none. */
async function routeElsewhere(subnetFile: string): Promise<string | null> {
  const subnet = parsePrefix4(parseEnvFile(subnetFile).get('FLANNEL_SUBNET') ?? '')
  if (subnet === null) return null
  const destination = formatPrefix4(subnet)
  const route = (await readRoutes(4)).find(
    ({ dst, gateway }) => dst === destination && gateway !== undefined,
  )
  return route === undefined
    ? null
    : `there is a route to ${destination} through ${String(route.gateway)}, which Docker's bridge would be in the way of; remove it: ip route del ${destination}`
}
