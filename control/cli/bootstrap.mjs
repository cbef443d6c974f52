/**
 * What `npm start`, `npm test` and `npm run bench` run, on a bare clone too: plain JavaScript without
 * dependencies.
 *
 *     node control/cli/bootstrap.mjs demo [options of heddle demo]
 *     node control/cli/bootstrap.mjs test [parts of test file names]
 *     node control/cli/bootstrap.mjs compat [names of cases, such as F12]
 *     node control/cli/bootstrap.mjs kube [parts of test file names]
 *     node control/cli/bootstrap.mjs bench [options of the benchmark]
 *     node control/cli/bootstrap.mjs bench-control [options of the benchmark of the control plane]
 *     node control/cli/bootstrap.mjs compare [two records, or --commits and two commits]
 *
 * Checks the machine, installs what is missing, builds what is out of date, then does the job. A
 * second run finds nothing to do and says nothing.
 */
import { checkKernel, checkPlatform, demandRoot } from './prepare/machine.mjs'
import { build } from './prepare/build.mjs'
import { installNpmPackages } from './prepare/npm.mjs'
import { installSystemPackages, tryToInstall } from './prepare/system.mjs'
import { StepError } from './prepare/step.mjs'

const [name, ...args] = process.argv.slice(2)
const load = (file) => import(new URL(`../../dist/${file}`, import.meta.url).href)

/** `command`: what follows `npm` where root is needed; `groups`: of system packages; `run`: → exit code. */
const JOBS = {
  demo: {
    command: 'start',
    groups: wantsEtcd() ? ['demo', 'etcd'] : ['demo'],
    // The tool reads process.argv itself, `demo` and its options stand there already, and sets the code.
    run: () => load('control/cli/heddle.js').then(() => process.exitCode),
  },
  test: {
    command: null,
    groups: ['demo', 'etcd', 'test', 'bench'],
    run: async () => (await import('./test-run/run.mjs')).runTests(args),
  },
  compat: {
    command: 'run test:compat',
    groups: ['demo', 'etcd', 'test', 'bench'],
    run: async () =>
      (await import('./test-run/compat.mjs')).runCompat(
        await load('control/compat-table.js'),
        args,
      ),
  },
  kube: {
    command: 'run test:kube',
    groups: ['demo', 'etcd', 'test', 'bench'],
    run: async () => (await import('./test-run/kube.mjs')).runKube(args),
  },
  bench: {
    command: 'run bench',
    groups: ['demo', 'bench'],
    run: async () => {
      const unavailable = await tryToInstall('contenders')
      return (await load('bench/netns/main.js')).bench(args, unavailable)
    },
  },
  'bench-control': {
    command: 'run bench:control',
    groups: ['demo', 'etcd', 'bench'],
    run: async () => (await load('bench/control/main.js')).benchControl(args),
  },
  compare: {
    // Records are only read; commits are measured.
    ...(args.includes('--commits')
      ? { command: 'run bench:compare', groups: ['demo', 'bench'] }
      : { command: null, groups: ['demo'] }),
    run: async () => (await load('bench/netns/compare.js')).compare(args),
  },
}

function wantsEtcd() {
  return args.some(
    (arg, i) => arg === '--store=etcd' || (arg === 'etcd' && args[i - 1] === '--store'),
  )
}

try {
  const job = JOBS[name]
  if (job === undefined) {
    throw new StepError(`usage: bootstrap.mjs ${Object.keys(JOBS).join('|')} [options]`)
  }
  checkPlatform()
  const isRoot = process.getuid() === 0
  if (job.command !== null) demandRoot(job.command)
  if (name === 'test' && !isRoot) {
    console.error(
      'heddle: not root: every test that needs TUN devices or network namespaces will be skipped',
    )
  }
  await installSystemPackages(job.groups)
  await installNpmPackages()
  await build()
  if (isRoot) checkKernel()
  process.exitCode = await job.run()
} catch (fault) {
  if (!(fault instanceof StepError)) throw fault
  console.error(`heddle: ${fault.message}`)
  process.exitCode = 1
}
