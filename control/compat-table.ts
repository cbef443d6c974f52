/**
 * The table of cases in docs/COMPATIBILITY.md, which the documentation's test checks and `npm run test:compat` runs.
 */

export interface CompatCase {
  /** `F12` */
  readonly name: string
  readonly what: string
  /** Test files, as sources. */
  readonly files: readonly string[]
  /** `pass`, `pass (…)`, `better-than: …` or `not yet: …` */
  readonly outcome: string
}

/** What a case may come to. */
export const OUTCOME = /^(pass( \(.+\))?|better-than: .+|not yet: .+)$/

/** The rows of the page's section "Cases". */
export function readCases(page: string): CompatCase[] {
  const section = page.split(/^## /m).find((part) => part.startsWith('Cases\n')) ?? ''
  return [...section.matchAll(/^\| (F\d+) +\|(.*)\|$/gm)].map(([, name = '', rest = '']) => {
    const [what = '', files = '', outcome = ''] = rest.split(' | ').map((cell) => cell.trim())
    return { name, what, files: [...files.matchAll(/`([^`]+)`/g)].map(([, f = '']) => f), outcome }
  })
}

/** The cases that the name of a test says it is of: it begins with them, or has them in parentheses at its end. */
export function casesOf(title: string): string[] {
  const named = /^(?:F\d+ )+/.exec(title)?.[0] ?? /\(F\d[^()]*\)$/.exec(title)?.[0] ?? ''
  const range = /F(\d+) to F(\d+)/.exec(named)
  if (range === null) return named.match(/F\d+/g) ?? []
  const [first, last] = [Number(range[1]), Number(range[2])]
  return Array.from({ length: last - first + 1 }, (_, i) => `F${first + i}`)
}
