/**
 * What `heddled --help` prints: every flag with its type and default, made from the table.
 */
import { environmentName, FLAGS, type Flag } from './flag-table.js'

/** The text, ending in a newline. */
export function usageText(): string {
  const section = (title: string, flags: readonly Flag[]) =>
    `${title}\n${flags.map(flagText).join('')}\n`
  const shown = FLAGS.filter((flag) => flag.isHidden !== true)
  const flannels = shown.filter((flag) => flag.origin === 'flannel')
  const example = FLAGS[0] && environmentName(FLAGS[0])
  return [
    'Usage: heddled [OPTION]...\n\n',
    section("Flannel's options:", flannels),
    section(
      "Heddle's own:",
      shown.filter((flag) => flag.origin === 'heddle'),
    ),
    'One dash or two, `--name=value` or `--name value`; booleans `--name` or `--name=false`.\n',
    `An option that is not given is taken from the environment, such as ${String(example)}.\n`,
  ].join('')
}

const TYPE_NAMES: Readonly<Record<Flag['type'], string>> = {
  string: ' string',
  strings: ' value',
  int: ' int',
  bool: '',
}

function flagText(flag: Flag): string {
  const { name, type, byDefault, help } = flag
  const value = typeof byDefault === 'string' ? `"${byDefault}"` : String(byDefault)
  const isEmpty = value === '' || value === '""'
  return `  --${name}${TYPE_NAMES[type]}\n        ${help}${isEmpty ? '' : ` (default ${value})`}\n`
}
