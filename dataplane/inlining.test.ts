import { spawnSync } from 'node:child_process'
import t from 'tap'
import { INLINING_OPTION } from './inlining.js'

t.test('this Node knows the option', (t) => {
  const run = (option: string) => spawnSync(process.execPath, [option, '--eval', '0'])
  t.equal(run(INLINING_OPTION).status, 0)
  t.not(run(INLINING_OPTION.replace('inlined', 'unheard-of')).status, 0)
  t.end()
})
