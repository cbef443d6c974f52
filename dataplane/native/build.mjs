/**
 * Builds the native addon with the machine's own C compiler: dist/native/heddle.node.
 *
 * Nothing is downloaded; the only headers beyond the system's are those of the node-api-headers
 * package. Does nothing while the addon is newer than its sources. The result is moved into place,
 * so a process that loads it meanwhile sees the old file or the new one.
 *
 *     node dataplane/native/build.mjs [--force] [--strict] [--out FILE]
 *
 * --strict turns warnings into errors; CC names another compiler.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const folder = dirname(fileURLToPath(import.meta.url))
const { values: flags } = parseArgs({
  options: {
    force: { type: 'boolean', default: false },
    strict: { type: 'boolean', default: false },
    out: { type: 'string', default: join(folder, '../../dist/native/heddle.node') },
  },
})

const files = readdirSync(folder).map((name) => join(folder, name))
const sources = files.filter((file) => file.endsWith('.c'))
const inputs = files.filter((file) => /\.(c|h|mjs)$/.test(file))

/** Modification time in ms, 0 = there is no such file. */
function modified(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function includeFolder() {
  try {
    return createRequire(import.meta.url)('node-api-headers').include_dir
  } catch {
    stop('the package node-api-headers is missing: run `npm ci` first')
  }
}

function stop(message) {
  console.error(`native build: ${message}`)
  process.exit(1)
}

function build() {
  const compiler = process.env.CC ?? 'cc'
  const scratch = `${flags.out}.${process.pid}`
  mkdirSync(dirname(flags.out), { recursive: true })
  const options = ['-std=gnu11', '-O3', '-fPIC', '-shared', '-fvisibility=hidden', '-pthread']
  options.push('-Wall', '-Wextra', ...(flags.strict ? ['-Werror'] : []))
  options.push('-D_GNU_SOURCE', '-DNAPI_VERSION=8', '-I', includeFolder())
  const run = spawnSync(compiler, [...options, '-o', scratch, ...sources, '-lm'], {
    stdio: 'inherit',
  })
  if (run.error?.code === 'ENOENT') {
    stop(
      `no C compiler named "${compiler}". Install one (Debian, Ubuntu: ` +
        'apt-get install gcc libc6-dev; Alpine: apk add gcc musl-dev linux-headers) or set CC',
    )
  }
  if (run.status !== 0) {
    rmSync(scratch, { force: true })
    stop(`"${compiler}" failed, see above`)
  }
  renameSync(scratch, flags.out)
}

if (flags.force || modified(flags.out) < Math.max(...inputs.map(modified))) {
  build()
}
