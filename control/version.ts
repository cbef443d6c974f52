/**
 * The version, from package.json, so that it stands in one place.
 */
import { readFileSync } from 'node:fs'

const manifest = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string }

export const VERSION: string = manifest.version
