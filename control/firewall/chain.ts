/**
 * What is to be done with a chain of flannel's name, given what it should hold and what it holds.
 *
 * Pure. Several daemons of one host, each with its own network, share a chain: a rule that speaks of
 * none of our prefixes is another daemon's and stays; the one without prefixes is everybody's. Any
 * other rule that we do not want goes, for nobody but such daemons writes to a chain of this name.
 */
import { concerns, describeRule, hasPrefix, type Rule } from './rules.js'

/** A rule as found; null = one that no such daemon writes. */
export type Found = Rule | null

export type Plan =
  | { readonly kind: 'leave' }
  /** Replace everything in it, and make it if it is not there. */
  | { readonly kind: 'refill'; readonly rules: readonly Rule[] }
  /** Remove the rules at these places, ascending. */
  | { readonly kind: 'thin'; readonly places: readonly number[] }
  /** Remove the chain. */
  | { readonly kind: 'drop' }

/**
 * @param wanted    our rules, empty = none
 * @param found     rules of the chain in order, null = there is no chain
 * @param prefixes  those of our networks, of today and of last time
 */
export function planChain(
  wanted: readonly Rule[],
  found: readonly Found[] | null,
  prefixes: readonly string[],
): Plan {
  if (wanted.length === 0) return found === null ? { kind: 'leave' } : planRemoval(found, prefixes)
  const others = (found ?? []).filter((rule) => rule !== null && isOthers(rule, prefixes))
  const rest = (found ?? []).filter((rule) => !others.includes(rule))
  const isRight =
    found !== null &&
    rest.length === wanted.length &&
    wanted.every((rule, i) => isSame(rule, rest[i])) &&
    // What is everybody's decides before anybody's own.
    wanted.every((rule, i) => hasPrefix(rule) || isSame(rule, found[i]))
  if (isRight) return { kind: 'leave' }
  return { kind: 'refill', rules: [...wanted, ...others.filter((rule) => rule !== null)] }
}

function planRemoval(found: readonly Found[], prefixes: readonly string[]): Plan {
  const isOurs = (rule: Found) => rule !== null && concerns(rule, prefixes)
  const isNeeded = found.some((rule) => rule === null || (hasPrefix(rule) && !isOurs(rule)))
  if (!isNeeded) return { kind: 'drop' }
  const places = found.flatMap((rule, place) => (isOurs(rule) ? [place] : []))
  return places.length === 0 ? { kind: 'leave' } : { kind: 'thin', places }
}

function isOthers(rule: Rule, prefixes: readonly string[]): boolean {
  return hasPrefix(rule) && !concerns(rule, prefixes)
}

function isSame(wanted: Rule, found: Found | undefined): boolean {
  return found !== undefined && found !== null && describeRule(wanted) === describeRule(found)
}
