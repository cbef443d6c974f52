/**
 * The one place that runs iptables and nft: reads what the kernel holds of our chains and changes it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { describeError, HeddleError } from '../errors.js'
import { parseSaved, PLACES, restorePayload, type SavedTable } from '../firewall/iptables.js'
import { parseListed, RANDOM_PROBE, tableName, type ListedTable } from '../firewall/nftables.js'
import { FAMILIES, type Family, type Purpose } from '../firewall/rules.js'
import type { NetworkConfig } from '../network-config.js'
import { runFault, runProgram, type Program } from './run.js'

/** How long iptables waits for others who change rules. */
const LOCK_SECONDS = 4

const NFT: Program = { name: 'nft', package: 'nftables', code: 'HEDDLE_FIREWALL' }

function iptables(family: Family, suffix: '' | '-save' | '-restore'): Program {
  const name = `${family === 4 ? 'iptables' : 'ip6tables'}${suffix}`
  return { name, package: 'iptables', code: 'HEDDLE_FIREWALL' }
}

export interface IptablesTraits {
  /** From 1.6.2: `--random-fully`, and `--wait` of iptables-restore. */
  readonly isRecent: boolean
  /** Whether its rules are kept by nf_tables; reading them changes nothing then. */
  readonly isNft: boolean
}

/** What the iptables of this host can do. @throws HEDDLE_FIREWALL when there is none */
export async function readIptablesTraits(): Promise<IptablesTraits> {
  return parseIptablesVersion(await runProgram(iptables(4, ''), ['--version']))
}

/** Takes apart a line such as `iptables v1.8.9 (nf_tables)`. */
export function parseIptablesVersion(text: string): IptablesTraits {
  const numbers = /v(\d+)\.(\d+)(?:\.(\d+))?/.exec(text)?.slice(1) ?? []
  const [major = 0, minor = 0, patch = 0] = numbers.map((n) => Number(n || 0))
  const isRecent = major * 1e6 + minor * 1e3 + patch >= 1_006_002
  return { isRecent, isNft: text.includes('nf_tables') }
}

/**
 * Whether a table of the legacy iptables is in use. To read one that is not would make it, and with
 * the table for NAT the kernel begins to track connections.
 */
export function isLegacyTableUsed(family: Family, purpose: Purpose): boolean {
  try {
    const names = readFileSync(`/proc/net/ip${family === 4 ? '' : '6'}_tables_names`, 'utf8')
    return names.split('\n').includes(PLACES[purpose].table)
  } catch {
    return false
  }
}

/** The table that the rules of a purpose are in. @throws HEDDLE_FIREWALL */
export async function readIptables(family: Family, purpose: Purpose): Promise<SavedTable> {
  const { table, base } = PLACES[purpose]
  const program = iptables(family, '-save')
  const saved = parseSaved(await runProgram(program, ['-t', table]))
  if (saved.has(base)) return saved
  const why = `${program.name} -t ${table} tells nothing of ${base}: the table has something that iptables does not understand`
  throw new HeddleError('HEDDLE_FIREWALL', why, { retryable: true })
}

/** Changes a table at once. @throws HEDDLE_FIREWALL; nothing has changed then */
export async function changeIptables(
  family: Family,
  purpose: Purpose,
  lines: readonly string[],
  { isRecent }: IptablesTraits,
): Promise<void> {
  const args = ['--noflush', ...(isRecent ? [`--wait=${LOCK_SECONDS}`] : [])]
  await runProgram(iptables(family, '-restore'), args, restorePayload(purpose, lines))
}

/** Our table of a family, null = there is none. @throws HEDDLE_FIREWALL */
export async function readNftables(family: Family): Promise<ListedTable | null> {
  try {
    const text = await runProgram(NFT, ['-j', 'list', 'table', ...tableName(family).split(' ')])
    return parseListed(text)
  } catch (error) {
    if (runFault(error)?.stderr.includes('No such file or directory') === true) return null
    if (runFault(error) !== null) throw error
    const why = `what nft tells of table ${tableName(family)} cannot be read: ${describeError(error)}`
    throw new HeddleError('HEDDLE_FIREWALL', why, { cause: error, retryable: true })
  }
}

/** Changes tables at once. @throws HEDDLE_FIREWALL; nothing has changed then */
export async function changeNftables(lines: readonly string[]): Promise<void> {
  await runProgram(NFT, ['-f', '-'], `${lines.join('\n')}\n`)
}

/** Whether masquerading can choose source ports at random. @throws HEDDLE_FIREWALL when there is no nft */
export async function canNftRandomize(): Promise<boolean> {
  try {
    await runProgram(NFT, ['--check', '-f', '-'], RANDOM_PROBE)
    return true
  } catch (error) {
    if (runFault(error)?.isMissing !== false) throw error
    return false
  }
}

/** Whether an error says that a program is not installed. */
export function isProgramMissing(error: unknown): boolean {
  return runFault(error)?.isMissing === true
}

/**
 * With iptables, packets that a bridge carries must be able to pass it: services of pods on one host
 * need that.
 * @throws HEDDLE_FIREWALL where the kernel does not have it for a family of the network
 */
export function demandBridgeNetfilter(config: NetworkConfig): void {
  if (config.enableNFTables) return
  for (const family of FAMILIES) {
    if (config[`ipv${family}`] === null) continue
    const file = `/proc/sys/net/bridge/bridge-nf-call-ip${family === 4 ? '' : '6'}tables`
    if (existsSync(file)) continue
    throw new HeddleError(
      'HEDDLE_FIREWALL',
      `Failed to check br_netfilter: ${file} is missing; load the module (modprobe br_netfilter, and its name in /etc/modules-load.d), or set "EnableNFTables":true in the network configuration`,
    )
  }
}
