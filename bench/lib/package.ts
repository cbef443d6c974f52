/**
 * Where this package lies.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Absolute path of the folder of package.json, wherever this file was compiled to. */
export function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

/** Absolute path of `bench/results`, where raw results are left; git ignores it. */
export function resultsFolder(): string {
  return join(packageFolder(), 'bench/results')
}
