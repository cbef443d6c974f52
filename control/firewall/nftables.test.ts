/**
 * Rules as nft tells and takes them: what it listed of flannel's own table, and on a model of a table
 * that the changes lead from any content to the wanted one.
 */
import fc from 'fast-check'
import t from 'tap'
import {
  CHAINS,
  formatNftRule,
  nftablesChanges,
  parseListed,
  tableName,
  type ListedChain,
  type ListedTable,
  type Wanted,
} from './nftables.js'
import { describeRule, forwardRules, hasPrefix, masqueradeRules, type Rule } from './rules.js'

const own = { family: 4, network: '10.5.0.0/16', subnet: '10.5.7.0/24' } as const
const own6 = { family: 6, network: 'fd05::/48', subnet: 'fd05:0:0:7::/64' } as const
const PREFIXES = ['10.5.0.0/16', '10.4.9.0/24']

t.test('rules in the language of nft', async (t) => {
  t.same(
    masqueradeRules(own, true).map((rule) => formatNftRule(rule, 4)),
    [
      'meta mark & 0x4000 == 0x4000 return',
      'ip saddr 10.5.7.0/24 ip daddr 10.5.0.0/16 return',
      'ip saddr 10.5.0.0/16 ip daddr 10.5.7.0/24 return',
      'ip saddr != 10.5.0.0/16 ip daddr 10.5.7.0/24 return',
      'ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random',
      'ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random',
    ],
  )
  t.equal(
    formatNftRule(masqueradeRules(own6, false)[4]!, 6),
    'ip6 saddr fd05::/48 ip6 daddr != ff00::/8 masquerade',
  )
})

t.test('the first transaction', async (t) => {
  t.same(nftablesChanges(4, { forward: forwardRules(own) }, null, PREFIXES, true), [
    'add table ip flannel-ipv4 { comment "rules for flannel-ipv4" ; }',
    'add chain ip flannel-ipv4 forward { type filter hook forward priority 0 ; policy accept ; comment "chain to accept flannel traffic" ; }',
    'flush chain ip flannel-ipv4 forward',
    'add rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 accept',
    'add rule ip flannel-ipv4 forward ip daddr 10.5.0.0/16 accept',
  ])
  t.same(nftablesChanges(6, {}, null, PREFIXES, true), [
    'add table ip6 flannel-ipv6 { comment "rules for flannel-ipv6" ; }',
  ])
  t.same(nftablesChanges(4, {}, null, PREFIXES, false), [])
  t.same(nftablesChanges(4, {}, new Map(), PREFIXES, false), ['delete table ip flannel-ipv4'])
})

/** Rules as nft 1.0.6 lists them. */
const LISTED: readonly (readonly [unknown, Rule | null])[] = [
  [
    [
      { match: { op: '==', left: { '&': [{ meta: { key: 'mark' } }, 16384] }, right: 16384 } },
      { return: null },
    ],
    masqueradeRules(own, true)[0]!,
  ],
  [
    [{ match: { op: '==', left: { meta: { key: 'mark' } }, right: 16384 } }, { return: null }],
    { mark: { value: 0x4000, mask: 0xffffffff }, verdict: 'return' },
  ],
  [
    [
      address('!=', 'saddr', '10.5.0.0', 16),
      address('==', 'daddr', '10.5.7.0', 24),
      { return: null },
    ],
    masqueradeRules(own, true)[3]!,
  ],
  [
    [
      address('==', 'saddr', '10.5.0.0', 16),
      address('!=', 'daddr', '224.0.0.0', 4),
      { masquerade: { flags: 'fully-random' } },
    ],
    masqueradeRules(own, true)[4]!,
  ],
  [
    [
      address('==', 'saddr', '10.5.0.0', 16),
      address('!=', 'daddr', '224.0.0.0', 4),
      { masquerade: null },
    ],
    masqueradeRules(own, false)[4]!,
  ],
  [
    [
      {
        match: {
          op: '==',
          left: { payload: { protocol: 'ip', field: 'daddr' } },
          right: '10.5.7.9',
        },
      },
      { accept: null },
    ],
    { destination: { prefix: '10.5.7.9/32' }, verdict: 'accept' },
  ],
  [[address('==', 'saddr', '10.5.0.0', 16), { drop: null }], null],
  [[address('==', 'saddr', '10.5.0.0', 16), { counter: { packets: 0 } }, { accept: null }], null],
  [[address('<', 'saddr', '10.5.0.0', 16), { accept: null }], null],
  [[address('==', 'sport', '10.5.0.0', 16), { accept: null }], null],
  [[address('==', 'saddr', '10.5', 16), { accept: null }], null],
  [[address('==', 'saddr', '10.5.0.0', 16), { masquerade: { flags: ['random'] } }], null],
  [
    [address('==', 'saddr', '10.5.0.0', 16), { masquerade: { flags: ['random', 'fully-random'] } }],
    null,
  ],
  [[{ match: { op: '!=', left: { meta: { key: 'mark' } }, right: 1 } }, { return: null }], null],
  [[{ match: { op: '==', left: { meta: { key: 'iif' } }, right: 1 } }, { return: null }], null],
  [[], null],
  ['?', null],
  [null, null],
]

function address(op: string, field: string, addr: string, len: number): object {
  return {
    match: { op, left: { payload: { protocol: 'ip', field } }, right: { prefix: { addr, len } } },
  }
}

t.test('what nft lists', async (t) => {
  const chain = { family: 'ip', table: 'flannel-ipv4', name: 'postrtg', handle: 1 }
  const hook = { type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' }
  const list = (...entries: object[]) =>
    parseListed(JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6' } }, ...entries] }))
  const listed = list(
    { table: { family: 'ip', name: 'flannel-ipv4', handle: 2 } },
    { chain: { ...chain, ...hook } },
    ...LISTED.map(([expr], i) => ({ rule: { chain: 'postrtg', handle: 7 + i, expr } })),
    { rule: { chain: 'nowhere', handle: 3, expr: [{ accept: null }] } },
  )
  t.same(listed.get('postrtg'), {
    isRight: true,
    rules: LISTED.map(([, rule], i) => ({ rule, handle: 7 + i })),
  })
  t.equal(listed.size, 1)
  for (const wrong of [{ prio: 0 }, { hook: 'input' }, { type: 'filter' }, { policy: 'drop' }]) {
    t.equal(list({ chain: { ...chain, ...hook, ...wrong } }).get('postrtg')?.isRight, false)
  }
  t.equal(list({ chain: { ...chain, ...hook, name: 'other' } }).get('other')?.isRight, false)
  t.throws(() => parseListed('{'), SyntaxError)
  fc.assert(fc.property(fc.json(), (text) => parseListed(text).size === 0))
})

const networks = [own, { family: 4, network: '10.6.0.0/16', subnet: '10.6.1.0/24' } as const]
const POOL: readonly Rule[] = networks.flatMap((carried) => [
  ...masqueradeRules(carried, true),
  ...masqueradeRules(carried, false),
  ...forwardRules(carried),
])

/** What nft makes of a table. @throws where the kernel would refuse */
function transacted(table: ListedTable | null, lines: readonly string[]): ListedTable | null {
  let chains = table === null ? null : new Map(table)
  const name = tableName(4)
  for (const line of lines) {
    const [, verb = '', kind = '', rest = ''] = /^(\w+) (\w+) (.*)$/.exec(line) ?? []
    if (!rest.startsWith(name)) throw new Error(line)
    if (verb === 'add' && kind === 'table') {
      chains ??= new Map<string, ListedChain>()
      continue
    }
    if (chains === null) throw new Error(`no table: ${line}`)
    if (verb === 'delete' && kind === 'table') {
      chains = null
      continue
    }
    const [chain = '', ...words] = rest.slice(name.length + 1).split(' ')
    const found = chains.get(chain)
    if (verb === 'add' && kind === 'chain') {
      if (found?.isRight === false) throw new Error('a chain of another kind')
      if (found === undefined) chains.set(chain, { isRight: true, rules: [] })
    } else if (found === undefined) throw new Error(`no chain: ${line}`)
    else if (verb === 'flush') chains.set(chain, { ...found, rules: [] })
    else if (verb === 'delete' && kind === 'rule') {
      const rules = found.rules.filter(({ handle }) => String(handle) !== words[1])
      if (rules.length !== found.rules.length - 1) throw new Error(line)
      chains.set(chain, { ...found, rules })
    } else if (verb === 'delete') {
      if (found.rules.length > 0) throw new Error('the chain is not empty')
      chains.delete(chain)
    } else {
      const rule = POOL.find((known) => formatNftRule(known, 4) === words.join(' ')) ?? null
      const handle = Math.max(0, ...found.rules.map((one) => one.handle)) + 1
      chains.set(chain, { ...found, rules: [...found.rules, { rule, handle }] })
    }
  }
  return chains
}

t.test('any table becomes the wanted one, at once and for good', async (t) => {
  const rule = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...POOL) }, fc.constant(null))
  const chain = fc.record({
    isRight: fc.boolean(),
    rules: fc
      .array(rule, { maxLength: 9 })
      .map((rules) => rules.map((one, i) => ({ rule: one, handle: 3 * i + 5 }))),
  })
  const name = fc.constantFrom(CHAINS.masquerade.name, CHAINS.forward.name, 'operators')
  const content = fc.option(fc.array(fc.tuple(name, chain), { maxLength: 3 }))
  const wish = fc.record(
    {
      masquerade: fc.constant(masqueradeRules(own, true)),
      forward: fc.constant(forwardRules(own)),
    },
    { requiredKeys: [] },
  )
  const rulesOf = (table: ListedTable | null, chain: string) =>
    (table?.get(chain)?.rules ?? []).map((one) => (one.rule ? describeRule(one.rule) : '?'))
  fc.assert(
    fc.property(wish, content, fc.boolean(), (wanted: Wanted, found, isNeeded) => {
      const needed = isNeeded || Object.keys(wanted).length > 0
      const before = found === null ? null : new Map(found)
      const made = transacted(before, nftablesChanges(4, wanted, before, PREFIXES, needed))
      if (nftablesChanges(4, wanted, made, PREFIXES, needed).length > 0) return false
      if (needed !== (made !== null) && made?.size === 0) return false
      for (const [purpose, rules] of Object.entries(wanted)) {
        const now = rulesOf(made, CHAINS[purpose as keyof Wanted].name)
        const ours = rules.filter(hasPrefix).map(describeRule)
        if (now.filter((text) => /10\.5/.test(text)).join() !== ours.join()) return false
      }
      return rulesOf(made, 'operators').join() === rulesOf(before, 'operators').join()
    }),
    { numRuns: 2000 },
  )
  t.pass('for all that were tried')
})
