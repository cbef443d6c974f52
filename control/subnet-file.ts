/**
 * subnet.env: what container runtimes read (subnet, MTU), and our memory of the last subnet.
 *
 * Lines, their order and the absence of quotes are flannel's. The file appears whole or not at all:
 * it is written beside its target, synced, and renamed over it. Reading it back takes what env
 * files allow (comments, quotes, `export`), because operators edit it; what is no subnet is
 * skipped, for the file is only a wish.
 */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { NO_IPV4, type LeaseSubnet } from './lease.js'
import {
  formatAddr4,
  formatAddr6,
  formatPrefix4,
  formatPrefix6,
  parsePrefix4,
  parsePrefix6,
  type Prefix4,
  type Prefix6,
} from './prefix.js'
import { replaceFile } from './replace-file.js'

export interface SubnetFile {
  /** Null in networks of IPv6 alone. */
  readonly network: Prefix4 | null
  /** Null unless the network has IPv6. */
  readonly ipv6Network: Prefix6 | null
  readonly subnet: LeaseSubnet
  /** MTU of the overlay, bytes. */
  readonly mtu: number
  readonly ipMasq: boolean
}

/** Text of the file. The subnets are told by their first host address, the bridge's. */
export function formatSubnetFile(file: SubnetFile): string {
  const { network, ipv6Network, subnet, mtu, ipMasq } = file
  const { v4, v6 } = subnet
  const lines: string[] = []
  if (network !== null) {
    lines.push(
      `FLANNEL_NETWORK=${formatPrefix4(network)}`,
      `FLANNEL_SUBNET=${formatAddr4(v4.addr + 1)}/${v4.len}`,
    )
  }
  if (ipv6Network !== null) lines.push(`FLANNEL_IPV6_NETWORK=${formatPrefix6(ipv6Network)}`)
  if (v6 !== null) lines.push(`FLANNEL_IPV6_SUBNET=${formatAddr6(v6.addr + 1n)}/${v6.len}`)
  lines.push(`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${ipMasq}`)
  return `${lines.join('\n')}\n`
}

/**
 * Writes the file atomically and durably. Missing folders are made with mode 0755; the file gets
 * 0644 whatever the umask is, or the mode of the regular file that it replaces.
 * @throws Node's file-system errors (`code`, `path`); nothing is left behind then
 */
export async function writeSubnetFile(path: string, file: SubnetFile): Promise<void> {
  await makeFolder(dirname(path))
  await replaceFile(path, formatSubnetFile(file), await modeFor(path))
}

/**
 * Makes a folder and what is missing above it, with mode 0755 whatever the umask is. Node's own
 * recursive mkdir never comes back where the kernel refuses with ENOENT, as below /proc.
 * @throws Node's file-system errors
 */
export async function makeFolder(folder: string): Promise<void> {
  if (await isFolder(folder)) return
  const parent = dirname(folder)
  if (parent !== folder) await makeFolder(parent)
  try {
    await mkdir(folder)
  } catch (error) {
    if (await isFolder(folder)) return
    throw error
  }
  await chmod(folder, 0o755)
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

async function modeFor(path: string): Promise<number> {
  try {
    const found = await stat(path)
    return found.isFile() ? found.mode & 0o777 : 0o644
  } catch {
    return 0o644
  }
}

/** The subnet that the file at `path` remembers; null when there is none or it cannot be read. */
export async function readPreviousSubnet(path: string): Promise<LeaseSubnet | null> {
  try {
    return parsePreviousSubnet(await readFile(path, 'utf8'))
  } catch {
    return null
  }
}

/** The subnet that a file's text remembers; null unless it names exactly one of either family, or of both. */
export function parsePreviousSubnet(text: string): LeaseSubnet | null {
  const values = parseEnvFile(text)
  const v4 = parseSubnetList(values.get('FLANNEL_SUBNET') ?? '', parsePrefix4)
  const v6 = parseSubnetList(values.get('FLANNEL_IPV6_SUBNET') ?? '', parsePrefix6)
  if (v4.length > 1 || (v4.length === 0 && v6.length !== 1)) return null
  return { v4: v4[0] ?? NO_IPV4, v6: v6.length === 1 ? (v6[0] ?? null) : null }
}

/** The valid prefixes of a comma list, host bits cleared; the others are skipped. */
export function parseSubnetList<P>(list: string, parse: (text: string) => P | null): P[] {
  return list.split(',').flatMap((text) => parse(text.trim()) ?? [])
}

/** `[export] NAME=value`, also with `:`; the value bare, or in single or double quotes. */
const ASSIGNMENT =
  /^\s*(?:export\s+)?([\w.]+)\s*[=:]\s*(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|(.*?))\s*(?:(?:^|\s)#.*)?$/

/** Assignments of an env file; the later of two counts, lines that are none are skipped. */
export function parseEnvFile(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split(/\r?\n/)) {
    const match = ASSIGNMENT.exec(line)
    if (match === null) continue
    const [, name = '', single, double, bare = ''] = match
    values.set(name, single ?? double?.replace(/\\(.)/g, '$1') ?? bare)
  }
  return values
}
