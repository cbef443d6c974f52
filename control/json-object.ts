/**
 * JSON objects read by the rules that flannel's peers apply: field names match without regard to
 * case, of two that match the later one counts, unknown fields are ignored.
 */

/** Fields of a JSON object by lower-case name; the values are whatever JSON.parse made of them. */
export type JsonFields = ReadonlyMap<string, unknown>

/** Fields of an already parsed value; null when it is no object. */
export function fieldsOf(value: unknown): JsonFields | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  return new Map(Object.entries(value).map(([name, field]) => [name.toLowerCase(), field]))
}

/** A short, single-line rendering of a parsed value for an error message. */
export function quoteValue(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}
