/**
 * Rules as iptables-save prints them and iptables-restore takes them.
 *
 * Pure. A change is one payload for `iptables-restore --noflush`: the kernel gets a table's old content
 * or its new one, never something in between. A line `:CHAIN` empties a chain that is there.
 */
import { planChain, type Found } from './chain.js'
import {
  canonicalPrefix,
  concerns,
  hex,
  type AddressMatch,
  type MarkMatch,
  type Purpose,
  type Rule,
} from './rules.js'

/** Where rules of a purpose are, and the comment that they carry. */
export interface Place {
  readonly table: 'nat' | 'filter'
  /** The kernel's own chain, which jumps to `chain`. */
  readonly base: string
  readonly chain: string
  readonly comment: string
}

export const PLACES: Readonly<Record<Purpose, Place>> = {
  masquerade: {
    table: 'nat',
    base: 'POSTROUTING',
    chain: 'FLANNEL-POSTRTG',
    comment: 'flanneld masq',
  },
  forward: {
    table: 'filter',
    base: 'FORWARD',
    chain: 'FLANNEL-FWD',
    comment: 'flanneld forward',
  },
}

/** Chains of a table by name, each rule without its `-A CHAIN`. */
export type SavedTable = ReadonlyMap<string, readonly string[]>

/** Takes apart what `iptables-save -t TABLE` printed. */
export function parseSaved(text: string): SavedTable {
  const chains = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [, declared] = /^:(\S+) /.exec(line) ?? []
    if (declared !== undefined) chains.set(declared, [])
    const [, chain = '', rule = ''] = /^-A (\S+) ?(.*)$/.exec(line) ?? []
    chains.get(chain)?.push(rule)
  }
  return chains
}

/**
 * The commands that bring one chain, and the jump to it, to what they should be.
 * @returns lines for {@link restorePayload}; none when all is right
 */
export function iptablesChanges(
  purpose: Purpose,
  wanted: readonly Rule[],
  saved: SavedTable,
  prefixes: readonly string[],
): string[] {
  const { base, chain, comment } = PLACES[purpose]
  const found = saved.get(chain)?.map((text) => parseRule(text, comment)) ?? null
  const plan = planChain(wanted, found, prefixes)
  const jump = `${base} ${formatJump(chain, comment)}`
  const jumps = (saved.get(base) ?? []).filter((text) => isJump(text, chain, comment)).length
  const lines = straysIn(saved.get(base) ?? [], comment, prefixes).map(
    (rule) => `-D ${base} ${rule}`,
  )
  const surplus = plan.kind === 'drop' ? jumps : wanted.length > 0 ? jumps - 1 : 0
  for (let n = 0; n < surplus; n++) lines.push(`-D ${jump}`)
  if (plan.kind === 'drop') lines.push(`-F ${chain}`, `-X ${chain}`)
  if (plan.kind === 'thin') {
    for (const place of plan.places) lines.push(`-D ${chain} ${String(saved.get(chain)?.[place])}`)
  }
  if (plan.kind === 'refill') {
    lines.unshift(`:${chain} - [0:0]`)
    for (const rule of plan.rules) lines.push(`-A ${chain} ${formatRule(rule, comment)}`)
  }
  if (wanted.length > 0 && jumps === 0) lines.push(`-A ${jump}`)
  return lines
}

/** Input for `iptables-restore --noflush`. */
export function restorePayload(purpose: Purpose, lines: readonly string[]): string {
  return `*${PLACES[purpose].table}\n${lines.join('\n')}\nCOMMIT\n`
}

/** Rules of ours that stand in the kernel's chain itself, where flannel v0.17 to v0.19 put them. */
function straysIn(base: readonly string[], comment: string, prefixes: readonly string[]): string[] {
  return base.filter((text) => {
    const rule = parseRule(text, comment)
    return rule !== null && concerns(rule, prefixes)
  })
}

const TARGETS = {
  return: 'RETURN',
  accept: 'ACCEPT',
  masquerade: 'MASQUERADE',
  'masquerade-random': 'MASQUERADE --random-fully',
} as const

/** A rule as iptables-save prints it, without its `-A CHAIN`. */
export function formatRule({ mark, source, destination, verdict }: Rule, comment: string): string {
  const side = (option: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [`${match.isNot === true ? '! ' : ''}${option} ${match.prefix}`]
  return [
    ...side('-s', source),
    ...side('-d', destination),
    ...(mark === undefined ? [] : [`-m mark --mark ${hex(mark.value)}/${hex(mark.mask)}`]),
    `-m comment --comment "${comment}" -j ${TARGETS[verdict]}`,
  ].join(' ')
}

function formatJump(chain: string, comment: string): string {
  return `-m comment --comment "${comment}" -j ${chain}`
}

function isJump(text: string, chain: string, comment: string): boolean {
  const options = parseOptions(text)
  return options?.target === chain && options.comment === comment && options.matches === 0
}

/** Null for a rule that no flannel writes, or that has another comment. */
export function parseRule(text: string, comment: string): Found {
  const options = parseOptions(text)
  if (options?.comment !== comment) return null
  const { mark, source, destination, target, isRandom } = options
  const verdict = Object.entries(TARGETS).find(
    ([, name]) => name === `${target}${isRandom ? ' --random-fully' : ''}`,
  )?.[0] as Rule['verdict'] | undefined
  if (verdict === undefined) return null
  return {
    ...(mark === undefined ? {} : { mark }),
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
    verdict,
  }
}

/** Options of a rule, as far as flannel uses any. */
interface RuleOptions {
  mark?: MarkMatch
  source?: AddressMatch
  destination?: AddressMatch
  comment: string
  target: string
  isRandom: boolean
  /** How many things must be true of a packet. */
  matches: number
}

/** Null when a rule has an option that flannel does not use. */
function parseOptions(text: string): RuleOptions | null {
  const options: RuleOptions = { comment: '', target: '', isRandom: false, matches: 0 }
  const words = [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(
    ([, quoted, bare]) => quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '',
  )
  while (words.length > 0) {
    const isNot = words[0] === '!'
    if (isNot) words.shift()
    const option = words.shift() ?? ''
    if (option === '--random-fully' && !isNot) {
      options.isRandom = true
      continue
    }
    const value = words.shift() ?? ''
    if (!takeOption(options, option, value, isNot)) return null
  }
  return options
}

/** Notes an option with its value. @returns whether it is one of flannel's */
function takeOption(options: RuleOptions, option: string, value: string, isNot: boolean): boolean {
  if (option === '-s' || option === '-d') {
    const prefix = canonicalPrefix(value)
    if (prefix === null) return false
    const match = { prefix, ...(isNot ? { isNot: true as const } : {}) }
    if (option === '-s') options.source = match
    else options.destination = match
    options.matches++
    return true
  }
  if (isNot) return false
  if (option === '--mark') {
    const [, mark, mask = '0xffffffff'] = /^(0x[0-9a-f]+)(?:\/(0x[0-9a-f]+))?$/.exec(value) ?? []
    if (mark === undefined) return false
    options.mark = { value: Number(mark), mask: Number(mask) }
    options.matches++
    return true
  }
  if (option === '--comment') options.comment = value
  else if (option === '-j') options.target = value
  else return option === '-m' && (value === 'mark' || value === 'comment')
  return true
}
