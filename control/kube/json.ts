/**
 * Members of parsed JSON or YAML of which nothing is known yet.
 */

/** A parsed value as an object, null = it is none. */
export function objectOf(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null
}

/** A parsed value as a string, empty = it is none. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
