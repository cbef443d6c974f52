/**
 * Rules as `nft -j list table` tells them and `nft -f` takes them.
 *
 * Pure. A change is one input of `nft -f`, which is one transaction: packets meet the old rules or the
 * new ones, never something in between.
 */
import { fieldsOf } from '../json-object.js'
import { planChain, type Found } from './chain.js'
import {
  canonicalPrefix,
  hex,
  PURPOSES,
  type AddressMatch,
  type Family,
  type MarkMatch,
  type Purpose,
  type Rule,
} from './rules.js'

interface ChainSpec {
  readonly name: string
  readonly type: string
  readonly hook: string
  readonly priority: number
  readonly comment: string
}

export const CHAINS: Readonly<Record<Purpose, ChainSpec>> = {
  masquerade: {
    name: 'postrtg',
    type: 'nat',
    hook: 'postrouting',
    priority: 100,
    comment: 'chain to manage traffic masquerading by flannel',
  },
  forward: {
    name: 'forward',
    type: 'filter',
    hook: 'forward',
    priority: 0,
    comment: 'chain to accept flannel traffic',
  },
}

/** What nft calls a family. */
const PROTOCOL: Readonly<Record<Family, string>> = { 4: 'ip', 6: 'ip6' }

/** Family and name of the table, as nft wants them. */
export function tableName(family: Family): string {
  return `${PROTOCOL[family]} flannel-ipv${family}`
}

export interface ListedChain {
  /** Whether it hooks in where a chain of this name should. */
  readonly isRight: boolean
  readonly rules: readonly { readonly rule: Found; readonly handle: number }[]
}

/** Chains of a table by name. */
export type ListedTable = ReadonlyMap<string, ListedChain>

/** The wanted rules of each purpose; an absent one means none. */
export type Wanted = Readonly<Partial<Record<Purpose, readonly Rule[]>>>

/**
 * The commands that bring a table to what it should be.
 * @param listed    what is there, null = no table
 * @param isNeeded  whether there is to be a table even without rules
 * @returns         lines for one `nft -f`; none when all is right
 */
export function nftablesChanges(
  family: Family,
  wanted: Wanted,
  listed: ListedTable | null,
  prefixes: readonly string[],
  isNeeded: boolean,
): string[] {
  const table = tableName(family)
  const comment = `{ comment "rules for ${table.replace(/^\S+ /, '')}" ; }`
  const lines: string[] = []
  let chains = listed?.size ?? 0
  for (const purpose of PURPOSES) {
    const { name } = CHAINS[purpose]
    const rules = wanted[purpose] ?? []
    const chain = listed?.get(name)
    const found = chain?.rules.map(({ rule }) => rule) ?? null
    const isHookWrong = chain?.isRight === false && rules.length > 0
    const plan = planChain(rules, isHookWrong ? null : found, prefixes)
    const remove = [`flush chain ${table} ${name}`, `delete chain ${table} ${name}`]
    if (plan.kind === 'drop' || isHookWrong) {
      lines.push(...remove)
      chains--
    }
    if (plan.kind === 'thin') {
      for (const place of plan.places) {
        const handle = String(chain?.rules[place]?.handle)
        lines.push(`delete rule ${table} ${name} handle ${handle}`)
      }
    }
    if (plan.kind === 'refill') {
      lines.push(`add chain ${table} ${name} ${chainSpec(CHAINS[purpose])}`)
      lines.push(`flush chain ${table} ${name}`)
      for (const rule of plan.rules) {
        lines.push(`add rule ${table} ${name} ${formatNftRule(rule, family)}`)
      }
    }
  }
  if (isNeeded && (listed === null || lines.length > 0))
    lines.unshift(`add table ${table} ${comment}`)
  if (!isNeeded && listed !== null && chains === 0) lines.push(`delete table ${table}`)
  return lines
}

function chainSpec({ type, hook, priority, comment }: ChainSpec): string {
  return `{ type ${type} hook ${hook} priority ${priority} ; policy accept ; comment "${comment}" ; }`
}

/** A rule in nft's language. */
export function formatNftRule(
  { mark, source, destination, verdict }: Rule,
  family: Family,
): string {
  const side = (field: string, match: AddressMatch | undefined) =>
    match === undefined
      ? []
      : [`${PROTOCOL[family]} ${field} ${match.isNot === true ? '!= ' : ''}${match.prefix}`]
  return [
    ...(mark === undefined ? [] : [`meta mark & ${hex(mark.mask)} == ${hex(mark.value)}`]),
    ...side('saddr', source),
    ...side('daddr', destination),
    verdict === 'masquerade-random' ? 'masquerade fully-random' : verdict,
  ].join(' ')
}

/** Asks, with `nft --check -f`, whether the kernel knows random source ports. */
export const RANDOM_PROBE = [
  'add table ip flannel-probe',
  'add chain ip flannel-probe postrtg { type nat hook postrouting priority 100 ; }',
  'add rule ip flannel-probe postrtg masquerade fully-random',
  '',
].join('\n')

/**
 * Takes apart what `nft -j list table` printed.
 * @throws SyntaxError when it is no JSON
 */
export function parseListed(text: string): ListedTable {
  const chains = new Map<string, { isRight: boolean; rules: { rule: Found; handle: number }[] }>()
  const entries = member(JSON.parse(text), 'nftables')
  for (const entry of Array.isArray(entries) ? entries : []) {
    const chain = member(entry, 'chain')
    if (chain !== undefined) {
      const name = String(member(chain, 'name'))
      chains.set(name, { isRight: isAsSpecified(name, chain), rules: [] })
    }
    const rule = member(entry, 'rule')
    if (rule === undefined) continue
    chains.get(String(member(rule, 'chain')))?.rules.push({
      rule: parseNftRule(member(rule, 'expr')),
      handle: Number(member(rule, 'handle')),
    })
  }
  return chains
}

function isAsSpecified(name: string, chain: unknown): boolean {
  const spec = Object.values(CHAINS).find((known) => known.name === name)
  if (spec === undefined) return false
  return (
    member(chain, 'type') === spec.type &&
    member(chain, 'hook') === spec.hook &&
    member(chain, 'prio') === spec.priority &&
    member(chain, 'policy') === 'accept'
  )
}

/** A member of an object, undefined where there is none or the value is no object. */
function member(value: unknown, name: string): unknown {
  return fieldsOf(value)?.get(name)
}

/** Null for a rule that no flannel writes. */
function parseNftRule(expressions: unknown): Found {
  if (!Array.isArray(expressions)) return null
  const matches: { mark?: MarkMatch; source?: AddressMatch; destination?: AddressMatch } = {}
  for (const expression of expressions.slice(0, -1)) {
    const match = member(expression, 'match')
    if (!takeMatch(matches, match)) return null
  }
  const verdict = parseVerdict(expressions.at(-1))
  return verdict === null ? null : { ...matches, verdict }
}

function parseVerdict(expression: unknown): Rule['verdict'] | null {
  const [name, value] = [...(fieldsOf(expression) ?? [])][0] ?? []
  if ((name === 'return' || name === 'accept') && value === null) return name
  if (name !== 'masquerade') return null
  if (value === null) return 'masquerade'
  const flags = [member(value, 'flags')].flat()
  return flags.length === 1 && flags[0] === 'fully-random' ? 'masquerade-random' : null
}

/** Notes one condition of a rule. @returns whether it is one of flannel's */
function takeMatch(
  matches: { mark?: MarkMatch; source?: AddressMatch; destination?: AddressMatch },
  match: unknown,
): boolean {
  const [op, left, right] = [member(match, 'op'), member(match, 'left'), member(match, 'right')]
  if (op !== '==' && op !== '!=') return false
  const field = member(member(left, 'payload'), 'field')
  if (field === 'saddr' || field === 'daddr') {
    const prefix = parseNftPrefix(right)
    if (prefix === null) return false
    matches[field === 'saddr' ? 'source' : 'destination'] = {
      prefix,
      ...(op === '!=' ? { isNot: true } : {}),
    }
    return true
  }
  const masked = member(left, '&')
  const [meta, mask] = Array.isArray(masked) ? (masked as unknown[]) : [left, 0xffffffff]
  if (op === '!=' || member(member(meta, 'meta'), 'key') !== 'mark') return false
  if (typeof mask !== 'number' || typeof right !== 'number') return false
  matches.mark = { value: right, mask }
  return true
}

function parseNftPrefix(value: unknown): string | null {
  if (typeof value === 'string') return canonicalPrefix(value)
  const prefix = member(value, 'prefix')
  return canonicalPrefix(`${String(member(prefix, 'addr'))}/${String(member(prefix, 'len'))}`)
}
