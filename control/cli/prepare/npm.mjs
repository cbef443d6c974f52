/**
 * npm packages, installed exactly as the lock file says.
 *
 * Install scripts stay off: no package we use needs one.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT, StepError, runQuietly, step, which } from './step.mjs'

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(join(ROOT, file), 'utf8')).packages
  } catch {
    return null
  }
}

/** Whether node_modules holds every package of the lock file in the locked version. */
function isInstalled() {
  const locked = packagesOf('package-lock.json')
  const installed = packagesOf('node_modules/.package-lock.json')
  if (locked === null)
    throw new StepError('package-lock.json is missing or damaged: restore it from the repository')
  if (installed === null) return false
  return Object.entries(locked).every(
    ([path, { version, optional }]) =>
      path === '' ||
      (installed[path] === undefined ? optional : installed[path].version === version),
  )
}

/** Runs `npm ci` when something is missing or of another version. */
export async function installNpmPackages() {
  if (isInstalled()) return
  const cli = process.env.npm_execpath
  if (cli === undefined && which('npm') === null)
    throw new StepError(
      'npm is missing: it comes with Node (https://nodejs.org), on Debian as the package npm',
    )
  const [command, ...before] = cli?.endsWith('.js') ? [process.execPath, cli] : ['npm']
  const args = [...before, 'ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund']
  await step('installing npm packages', () => runQuietly(command, args))
}
