/**
 * What `npm start` and `npm test` run, on a bare clone too: plain JavaScript without dependencies.
 *
 *     node control/cli/bootstrap.mjs demo [options of heddle demo]
 *     node control/cli/bootstrap.mjs test [parts of test file names]
 *
 * Checks the machine, installs what is missing, builds what is out of date, then does the job. A
 * second run finds nothing to do and says nothing.
 */
import { checkKernel, checkPlatform } from './prepare/machine.mjs'
import { build } from './prepare/build.mjs'
import { installNpmPackages } from './prepare/npm.mjs'
import { installSystemPackages } from './prepare/system.mjs'
import { StepError } from './prepare/step.mjs'

const [job, ...args] = process.argv.slice(2)

try {
  if (job !== 'demo' && job !== 'test')
    throw new StepError('usage: bootstrap.mjs demo|test [options]')
  const isRoot = checkPlatform(job)
  const wantsEtcd = args.some(
    (arg, i) => arg === '--store=etcd' || (arg === 'etcd' && args[i - 1] === '--store'),
  )
  await installSystemPackages(
    job === 'test' ? ['demo', 'etcd', 'test'] : ['demo', ...(wantsEtcd ? ['etcd'] : [])],
  )
  await installNpmPackages()
  await build()
  if (isRoot) checkKernel()
  if (job === 'demo') {
    // The tool reads process.argv itself: `demo` and its options stand there already.
    await import(new URL('../../dist/control/cli/heddle.js', import.meta.url).href)
  } else {
    const { runTests } = await import('./test-run/run.mjs')
    process.exitCode = await runTests(args)
  }
} catch (fault) {
  if (!(fault instanceof StepError)) throw fault
  console.error(`heddle: ${fault.message}`)
  process.exitCode = 1
}
