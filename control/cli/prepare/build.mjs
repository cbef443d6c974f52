/**
 * Addon and TypeScript, built when a source is not what it was at the last build.
 *
 * dist/.sources remembers every source with its size and time. Outputs whose source is gone are
 * removed, so no test runs that nobody can read any more.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ROOT, runQuietly, step } from './step.mjs'

const FOLDERS = ['dataplane', 'control', 'bench']
const MEMORY = join(ROOT, 'dist/.sources')
const OUTPUT = /\.(js|js\.map|d\.ts)$/

/** Files below some folders of a root, as paths relative to it. */
export function filesBelow(root, folders, wanted) {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length + 1)),
    )
    .filter((file) => wanted.test(file))
    .sort()
}

function fingerprint() {
  const sources = filesBelow(ROOT, FOLDERS, /\.(ts|c|h|mjs)$/)
  return [...sources, 'tsconfig.json', 'package-lock.json']
    .map((file) => {
      const { size, mtimeMs } = statSync(join(ROOT, file))
      return `${file} ${size} ${mtimeMs}\n`
    })
    .join('')
}

function removeOrphans() {
  const dist = join(ROOT, 'dist')
  for (const file of filesBelow(dist, FOLDERS, OUTPUT)) {
    if (!existsSync(join(ROOT, file.replace(OUTPUT, '.ts')))) rmSync(join(dist, file))
  }
}

/** Builds what `npm run build` builds, if anything has changed. */
export async function build() {
  const now = fingerprint()
  const before = existsSync(MEMORY) ? readFileSync(MEMORY, 'utf8') : ''
  if (now === before && existsSync(join(ROOT, 'dist/native/heddle.node'))) return
  rmSync(MEMORY, { force: true })
  await step('building the native addon', () =>
    runQuietly(process.execPath, ['dataplane/native/build.mjs']),
  )
  await step('compiling TypeScript', () =>
    runQuietly(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']),
  )
  removeOrphans()
  mkdirSync(join(ROOT, 'dist'), { recursive: true })
  writeFileSync(MEMORY, now)
}
