/**
 * `extension`: commands of the operator's own make and remove the ways to peers.
 *
 * As flannel runs them: once before the lease (what it prints is published), once after it, and for each
 * peer that comes and goes, one after the other.
 */
import { describeError } from '../errors.js'
import type { ChosenInterface } from '../host/interface.js'
import type { Lease, LeaseSubnet } from '../lease.js'
import { hasIpv4 } from '../lease.js'
import type { Logger } from '../log.js'
import type { NetworkConfig } from '../network-config.js'
import { formatPrefix4, formatPrefix6 } from '../prefix.js'
import type { Backend, Facts, Path } from './backend.js'
import { parseExtensionBackend, type ExtensionConfig } from './config.js'
import { networkText, PLAIN, publicAddresses, toward, wrongType } from './reach.js'

const EXTENSION_TYPE = 'extension'

/** What follows from the own lease and from peers. */
export interface Hooks {
  /** Leases of which the hooks are told. */
  readonly path: Path
  /** The own lease is there. @throws HeddleError HEDDLE_COMMAND */
  leased(subnet: LeaseSubnet): Promise<void>
  /** Resolve when it is done; faults are logged. */
  added(lease: Lease, log: Logger): Promise<void>
  removed(lease: Lease, log: Logger): Promise<void>
}

/** @throws HeddleError HEDDLE_CONFIG, HEDDLE_COMMAND when the first command fails */
export async function createExtension(
  config: NetworkConfig,
  external: ChosenInterface,
  facts: Facts,
): Promise<Backend> {
  const commands = parseExtensionBackend(config)
  const { preStartup } = commands
  const data = preStartup === null ? null : (await facts.runCommand(preStartup, {}, '')).trim()
  const attrs = {
    ...publicAddresses(external),
    backendType: EXTENSION_TYPE,
    ...(data === null ? {} : { backendData: data }),
  }
  const path: Path = {
    ipv4: config.ipv4 !== null,
    ipv6: config.ipv6 !== null,
    reach: (peer) => wrongType(peer, EXTENSION_TYPE) ?? toward(peer, config.ipv4 === null ? 6 : 4),
  }
  return {
    ...PLAIN,
    mtu: external.mtu,
    attrs,
    hooks: createHooks(commands, config, attrs, path, facts),
  }
}

function createHooks(
  { postStartup, subnetAdd, subnetRemove }: ExtensionConfig,
  config: NetworkConfig,
  { publicIP, publicIPv6 }: Backend['attrs'],
  path: Path,
  facts: Facts,
): Hooks {
  let last: Promise<void> = Promise.resolve()
  /** One at a time, in the order of what happened. */
  const queue = (command: string | null, what: string, { subnet, attrs }: Lease, log: Logger) => {
    if (command === null) return last
    const variables = {
      SUBNET: hasIpv4(subnet) ? formatPrefix4(subnet.v4) : '',
      IPV6SUBNET: subnet.v6 === null ? '' : formatPrefix6(subnet.v6),
      PUBLIC_IP: attrs.publicIP,
      PUBLIC_IPV6: attrs.publicIPv6 ?? '',
    }
    const input = `${typeof attrs.backendData === 'string' ? attrs.backendData : ''}\n`
    last = last.then(async () => {
      try {
        await facts.runCommand(command, variables, input)
      } catch (error) {
        log.error(
          `${what} for ${variables.SUBNET || variables.IPV6SUBNET}: ${describeError(error)}`,
        )
      }
    })
    return last
  }
  return {
    path,
    async leased(subnet) {
      if (postStartup === null) return
      const variables = {
        NETWORK: networkText(config, 4)[0] ?? '',
        IPV6NETWORK: networkText(config, 6)[0] ?? '',
        SUBNET: hasIpv4(subnet) ? formatPrefix4(subnet.v4) : '',
        IPV6SUBNET: subnet.v6 === null ? '' : formatPrefix6(subnet.v6),
        PUBLIC_IP: publicIP,
        PUBLIC_IPV6: publicIPv6 ?? '',
      }
      await facts.runCommand(postStartup, variables, '')
    },
    added: (lease, log) => queue(subnetAdd, 'SubnetAddCommand', lease, log),
    removed: (lease, log) => queue(subnetRemove, 'SubnetRemoveCommand', lease, log),
  }
}
