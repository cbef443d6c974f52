/**
 * What is to be done with a chain: a table of cases, and for any content that the plan leads to what is
 * wanted, takes nothing from other daemons, and has nothing left to do afterwards.
 */
import fc from 'fast-check'
import t from 'tap'
import { planChain, type Found, type Plan } from './chain.js'
import { describeRule, forwardRules, hasPrefix, masqueradeRules, type Rule } from './rules.js'

const own = { family: 4, network: '10.5.0.0/16', subnet: '10.5.7.0/24' } as const
const former = { family: 4, network: '10.4.0.0/16', subnet: '10.4.9.0/24' } as const
const other = { family: 4, network: '10.6.0.0/16', subnet: '10.6.1.0/24' } as const
const PREFIXES = ['10.5.0.0/16', '10.5.7.0/24', '10.4.9.0/24']

const wanted = masqueradeRules(own, true)
const [mark, first, second] = wanted as [Rule, Rule, Rule]
const others = masqueradeRules(other, true).filter(hasPrefix)

t.test('the rules and their order', async (t) => {
  t.same(wanted.map(describeRule), [
    'mark 0x4000/0x4000 return',
    'from 10.5.7.0/24 to 10.5.0.0/16 return',
    'from 10.5.0.0/16 to 10.5.7.0/24 return',
    'from != 10.5.0.0/16 to 10.5.7.0/24 return',
    'from 10.5.0.0/16 to != 224.0.0.0/4 masquerade-random',
    'from != 10.5.0.0/16 to 10.5.0.0/16 masquerade-random',
  ])
  const six = { family: 6, network: 'fd05::/48', subnet: 'fd05:0:0:7::/64' } as const
  t.match(masqueradeRules(six, false).map(describeRule), {
    4: 'from fd05::/48 to != ff00::/8 masquerade',
    5: 'from != fd05::/48 to fd05::/48 masquerade',
  })
  t.same(forwardRules(own).map(describeRule), ['from 10.5.0.0/16 accept', 'to 10.5.0.0/16 accept'])
})

const cases: readonly (readonly [string, readonly Rule[], Found[] | null, Plan])[] = [
  ['no chain', wanted, null, { kind: 'refill', rules: wanted }],
  ['an empty one', wanted, [], { kind: 'refill', rules: wanted }],
  ['all is right', wanted, [...wanted], { kind: 'leave' }],
  ['one is missing', wanted, wanted.slice(1), { kind: 'refill', rules: wanted }],
  ['wrong order', wanted, [...wanted].reverse(), { kind: 'refill', rules: wanted }],
  ['one twice', wanted, [...wanted, second], { kind: 'refill', rules: wanted }],
  ['of last time', wanted, masqueradeRules(former, true), { kind: 'refill', rules: wanted }],
  ['without random', wanted, masqueradeRules(own, false), { kind: 'refill', rules: wanted }],
  ['a strange rule', wanted, [...wanted, null], { kind: 'refill', rules: wanted }],
  ['another daemon behind us', wanted, [...wanted, ...others], { kind: 'leave' }],
  ['another daemon between', wanted, [mark, ...others, ...wanted.slice(1)], { kind: 'leave' }],
  [
    'another daemon before what is everybodys',
    wanted,
    [...others, ...wanted],
    { kind: 'refill', rules: [...wanted, ...others] },
  ],
  ['another daemon alone', wanted, others, { kind: 'refill', rules: [...wanted, ...others] }],
  ['nothing wanted, nothing there', [], null, { kind: 'leave' }],
  ['nothing wanted, ours there', [], [...wanted], { kind: 'drop' }],
  ['nothing wanted, an empty chain', [], [], { kind: 'drop' }],
  ['nothing wanted, another daemon', [], [mark, ...others], { kind: 'leave' }],
  ['nothing wanted, a strange rule', [], [null], { kind: 'leave' }],
  [
    'nothing wanted, ours among others',
    [],
    [mark, first, ...others, second],
    { kind: 'thin', places: [1, 2 + others.length] },
  ],
]
for (const [name, want, found, plan] of cases) {
  t.same(planChain(want, found, PREFIXES), plan, name)
}

/** What a plan makes of a chain. */
function after(plan: Plan, found: Found[] | null): Found[] | null {
  switch (plan.kind) {
    case 'leave':
      return found
    case 'refill':
      return [...plan.rules]
    case 'thin':
      return (found ?? []).filter((_, place) => !plan.places.includes(place))
    case 'drop':
      return null
  }
}

t.test('any content becomes what is wanted, at once and for good', async (t) => {
  const pool = [own, former, other].flatMap((c) => [
    ...masqueradeRules(c, true),
    ...masqueradeRules(c, false),
    ...forwardRules(c),
  ])
  const content = fc.option(
    fc.array(fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...pool) }, fc.constant(null)), {
      maxLength: 14,
    }),
  )
  const wish = fc.constantFrom<readonly Rule[]>(wanted, forwardRules(own), [])
  const text = (rules: readonly Found[] | null) =>
    (rules ?? []).map((rule) => (rule === null ? '?' : describeRule(rule)))
  const isOthers = (line: string) => /10\.6/.test(line)
  fc.assert(
    fc.property(wish, content, (want, found) => {
      const made = after(planChain(want, found, PREFIXES), found)
      if (planChain(want, made, PREFIXES).kind !== 'leave') return false
      const [before, now] = [text(found), text(made)]
      const keeps = before.filter(isOthers).join() === now.filter(isOthers).join()
      const ours = now.filter((line) => /10\.[45]/.test(line))
      const want5 = text(want).filter((line) => /10\.5/.test(line))
      return keeps && ours.join() === want5.join() && (want.length === 0 || !now.includes('?'))
    }),
    { numRuns: 2000 },
  )
  t.pass('for all that were tried')
})
