import t from 'tap'
import { parseFlags, type FlagSpec, type FlagValue } from './flags.js'

const SPECS: readonly FlagSpec[] = [
  { name: 'text', type: 'string' },
  { name: 'list', type: 'strings' },
  { name: 'n', type: 'int' },
  { name: 'on', type: 'bool' },
]

const GOOD: readonly [string[], Record<string, FlagValue>, string[]?][] = [
  [[], {}],
  [['-text', 'a'], { text: 'a' }],
  [['--text', 'a'], { text: 'a' }],
  [['-text=a'], { text: 'a' }],
  [['--text=a=b'], { text: 'a=b' }],
  [['--text='], { text: '' }],
  [['--text', '-n'], { text: '-n' }],
  [['--text=a\nb'], { text: 'a\nb' }],
  [['--text', 'a', '--text', 'b'], { text: 'b' }],
  [['--list', 'a', '--list=b'], { list: ['a', 'b'] }],
  [['-on'], { on: true }],
  [['--on=false'], { on: false }],
  [['--on', 'false'], { on: true }, ['false']],
  [['-n', '3', 'x', '-on'], { n: 3 }, ['x', '-on']],
  [['-n', '3', '--', '-on'], { n: 3 }, ['-on']],
  [['-n', '3', '-', '-on'], { n: 3 }, ['-', '-on']],
]

t.test('syntax', (t) => {
  for (const [argv, given, rest = []] of GOOD) {
    const parsed = parseFlags(SPECS, argv)
    t.same(Object.fromEntries(parsed.given), given, argv.join(' '))
    t.same(parsed.rest, rest)
    t.notOk(parsed.isHelp)
  }
  t.end()
})

t.test('booleans', (t) => {
  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) {
    t.equal(parseFlags(SPECS, [`-on=${text}`]).given.get('on'), true, text)
  }
  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) {
    t.equal(parseFlags(SPECS, [`-on=${text}`]).given.get('on'), false, text)
  }
  t.end()
})

t.test('integers', (t) => {
  const cases: readonly [string, number][] = [
    ['0', 0],
    ['-0', 0],
    ['+7', 7],
    ['-12', -12],
    ['0x1F', 31],
    ['-0X1f', -31],
    ['0o17', 15],
    ['017', 15],
    ['0b101', 5],
    ['1_000', 1000],
    ['0x_ff', 255],
  ]
  for (const [text, want] of cases) {
    t.ok(Object.is(parseFlags(SPECS, [`-n=${text}`]).given.get('n'), want), text)
  }
  t.end()
})

t.test('faults', (t) => {
  const cases: readonly [string[], RegExp][] = [
    [['--nope'], /not defined: -nope/],
    [['--Text=a'], /not defined: -Text/],
    [['---text=secret'], /^bad flag syntax: ---text$/],
    [['-=a'], /bad flag syntax/],
    [['--text'], /flag needs an argument: -text/],
    [['-on=yes'], /invalid value "yes" for flag -on: must be true or false/],
    [['-on='], /invalid value ""/],
    ...['', 'x', '1.5', '1e3', '08', '0x', '1__0', '_1', '1_', '--1', '99999999999999999999'].map(
      (text): [string[], RegExp] => [[`-n=${text}`], /for flag -n: must be a whole number/],
    ),
  ]
  for (const [argv, message] of cases) {
    t.throws(() => parseFlags(SPECS, argv), { code: 'HEDDLE_USAGE', message }, argv.join(' '))
  }
  t.end()
})

t.test('help ends the parsing', (t) => {
  for (const help of ['-h', '--help', '-help', '--h']) {
    t.ok(parseFlags(SPECS, ['-n', '1', help, '--nope']).isHelp, help)
  }
  t.throws(() => parseFlags(SPECS, ['--nope', '-h']), { code: 'HEDDLE_USAGE' }, 'in order')
  t.end()
})
