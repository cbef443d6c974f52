/**
 * Command lines in the syntax of Go's flag package, which flannel's operators are used to.
 *
 * `-name` and `--name` are the same; a value follows after `=` or as the next argument, for a
 * boolean only after `=`. Parsing stops at the first argument that is no flag and behind `--`. Of
 * a repeated flag the last value counts, a `strings` flag collects them. Integers may be written
 * with 0x, 0o (or 0) and 0b and with `_` between digits.
 */
import { HeddleError } from './errors.js'

export type FlagValue = string | number | boolean | readonly string[]

export interface FlagSpec {
  readonly name: string
  /** `strings` may be given several times. */
  readonly type: 'string' | 'strings' | 'int' | 'bool'
}

export interface ParsedFlags {
  /** Values given, by name; flags that were not given are absent. */
  readonly given: ReadonlyMap<string, FlagValue>
  /** Whether -h or --help was met; what follows it was not looked at. */
  readonly isHelp: boolean
  /** Arguments that are no flags, never looked at. */
  readonly rest: readonly string[]
}

/**
 * Parses arguments.
 * @param argv  without program and script name
 * @throws HeddleError HEDDLE_USAGE on an unknown flag, a missing or a bad value
 */
export function parseFlags(specs: readonly FlagSpec[], argv: readonly string[]): ParsedFlags {
  const given = new Map<string, FlagValue>()
  let i = 0
  for (; i < argv.length; i++) {
    const arg = argv[i] ?? ''
    if (arg === '--') {
      i++
      break
    }
    if (arg.length < 2 || !arg.startsWith('-')) break
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(arg)
    if (match === null) throw usage(`bad flag syntax: ${arg.replace(/=.*/s, '')}`)
    const [, name = '', inline] = match
    const spec = specs.find((candidate) => candidate.name === name)
    if (spec === undefined) {
      if (name === 'help' || name === 'h') return { given, isHelp: true, rest: [] }
      throw usage(`flag provided but not defined: -${name}`)
    }
    let text = inline
    if (text === undefined && spec.type === 'bool') text = 'true'
    if (text === undefined) text = argv[++i]
    if (text === undefined) throw usage(`flag needs an argument: -${name}`)
    const value = parseFlagValue(spec, text)
    if (value === null)
      throw usage(`invalid value "${text}" for flag -${name}: ${NEEDS[spec.type]}`)
    given.set(name, appended(given.get(name), value))
  }
  return { given, isHelp: false, rest: argv.slice(i) }
}

/** What a value must be, for messages. */
export const NEEDS: Readonly<Record<FlagSpec['type'], string>> = {
  string: 'any text',
  strings: 'any text',
  int: 'must be a whole number',
  bool: 'must be true or false',
}

function appended(before: FlagValue | undefined, value: FlagValue): FlagValue {
  return Array.isArray(before) && Array.isArray(value)
    ? [...(before as readonly string[]), ...(value as readonly string[])]
    : value
}

function usage(message: string): HeddleError {
  return new HeddleError('HEDDLE_USAGE', message)
}

/** Value of a flag from its text, null when the text does not fit the type. */
export function parseFlagValue(spec: FlagSpec, text: string): FlagValue | null {
  switch (spec.type) {
    case 'string':
      return text
    case 'strings':
      return [text]
    case 'int':
      return parseGoInt(text)
    case 'bool':
      return parseGoBool(text)
  }
}

function parseGoBool(text: string): boolean | null {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true
  return ['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text) ? false : null
}

/** Digits after each prefix that Go's strconv takes with base 0. */
const INTEGERS: readonly (readonly [RegExp, number])[] = [
  [/^0[xX]((?:_?[\da-fA-F])+)$/, 16],
  [/^0[bB]((?:_?[01])+)$/, 2],
  [/^0[oO]?((?:_?[0-7])+)$/, 8],
  [/^(0|[1-9](?:_?\d)*)$/, 10],
]

function parseGoInt(text: string): number | null {
  const sign = text.startsWith('-') ? -1 : 1
  const unsigned = text.replace(/^[+-]/, '')
  for (const [pattern, base] of INTEGERS) {
    const digits = pattern.exec(unsigned)?.[1]
    if (digits === undefined) continue
    const value = sign * Number.parseInt(digits.replaceAll('_', ''), base)
    return Number.isSafeInteger(value) ? value + 0 : null
  }
  return null
}
