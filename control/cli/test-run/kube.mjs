/**
 * The tests of Kubernetes against a real kube-apiserver: that of HEDDLE_KUBE_APISERVER, else one that is built here from
 * the source package of Debian 12 (some minutes, once), since no package has the program.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installSystemPackages } from '../prepare/system.mjs'
import { ROOT, runQuietly, step } from '../prepare/step.mjs'
import { runTests } from './run.mjs'

const BUILT = join(ROOT, '.cache/kube-apiserver')
const SOURCES = 'deb-src http://deb.debian.org/debian bookworm main\n'

/** @returns exit code */
export async function runKube(args) {
  process.env.HEDDLE_KUBE_APISERVER ??= await builtServer()
  console.error(`heddle: testing against ${process.env.HEDDLE_KUBE_APISERVER}`)
  return runTests(args.length > 0 ? args : ['kube'])
}

async function builtServer() {
  if (existsSync(BUILT)) return BUILT
  await installSystemPackages(['kube'])
  const folder = mkdtempSync(join(tmpdir(), 'heddle-kubernetes-'))
  try {
    await step('fetching the source of kubernetes', () => fetchSource(folder))
    await step('building kube-apiserver', () => build(join(folder, 'src')))
    mkdirSync(join(ROOT, '.cache'), { recursive: true })
    copyFileSync(join(folder, 'src/_output/bin/kube-apiserver'), BUILT)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return BUILT
}

/** Asks Debian's archive, whatever this machine's own lists are. */
async function fetchSource(folder) {
  writeFileSync(join(folder, 'list'), SOURCES)
  for (const name of ['lists', 'src/.go/src/k8s.io']) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  const apt = `apt-get -q -o Dir::Etc::sourcelist=${folder}/list -o Dir::Etc::sourceparts=- -o Dir::State::lists=${folder}/lists`
  const script = [
    'set -e',
    `cd "${folder}"`,
    `${apt} update`,
    `${apt} source --download-only kubernetes`,
    'tar xzf kubernetes_*.orig.tar.gz -C src --strip-components=1',
  ]
  const result = await runQuietly('sh', ['-c', script.join('\n')])
  // The source builds where Go looked for packages when it was written.
  if (result.code === 0) symlinkSync('../../..', join(folder, 'src/.go/src/k8s.io/kubernetes'))
  return result
}

function build(folder) {
  return runQuietly('make', ['-C', folder, 'WHAT=cmd/kube-apiserver'], {
    GOPATH: join(folder, '.go'),
    HOME: folder,
    CGO_ENABLED: '0',
    GOFLAGS: '',
    GOPROXY: 'off',
  })
}
