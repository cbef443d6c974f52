/**
 * Commands without a shell: what comes from a peer stays one literal argument (F55).
 */
import t from 'tap'
import { runCommand, splitCommand } from './command.js'

t.test('words, then variables', async (t) => {
  const variables = { SUBNET: '10.5.1.0/24', EVIL: '$(touch /x); `id` "a b" \'c\' | > ${SUBNET}' }
  const cases: readonly (readonly [string, string[]])[] = [
    ['  route  add\t$SUBNET ', ['route', 'add', '10.5.1.0/24']],
    ['echo ${SUBNET}-$SUBNET', ['echo', '10.5.1.0/24-10.5.1.0/24']],
    ['echo "$EVIL"', ['echo', `"${variables.EVIL}"`]],
    ['echo $NOBODY.', ['echo', '.']],
    ['echo $ ${} $1a', ['echo', '$', '${}', '']],
  ]
  for (const [command, words] of cases) t.same(splitCommand(command, variables), words, command)
})

t.test('F55 runs with variables and input', async (t) => {
  t.equal(await runCommand('cat', {}, 'data\n'), 'data\n')
  t.equal(await runCommand('printenv WHAT', { WHAT: 'a b' }, ''), 'a b\n')
  t.equal(await runCommand('printf %s $WHAT', { WHAT: '$(id)' }, ''), '$(id)')
})

t.test('how it fails', async (t) => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['false', /`false` ended with 1/],
    ['/no/such/program x', /ended with ENOENT/],
    ['cat /no/such/file', /ended with 1: cat: .*No such file/],
  ]
  for (const [command, message] of cases) {
    await t.rejects(runCommand(command, {}, ''), { code: 'HEDDLE_COMMAND', message }, command)
  }
})
