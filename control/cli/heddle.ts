#!/usr/bin/env node
/**
 * `heddle`: the tools around the daemon. Each command is a function of its own file.
 */
import { demo } from './demo.js'
import { dockerOpts } from './docker-opts.js'
import { installConf } from './install-conf.js'
import { reload } from './reload.js'
import { replay } from './replay.js'
import { status } from './status.js'
import { VERSION } from '../version.js'

/** Where a command writes; tests hand in their own. */
export interface CommandIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

const COMMANDS: Readonly<
  Record<string, { what: string; run: (argv: string[], io: CommandIo) => Promise<number> }>
> = {
  demo: { what: 'two hosts on this machine, with real traffic', run: demo },
  'docker-opts': { what: 'options for dockerd from subnet.env', run: dockerOpts },
  'install-conf': { what: 'copy a CNI configuration, whole or not at all', run: installConf },
  reload: { what: 'have heddled start anew without losing a packet', run: reload },
  replay: {
    what: 'run a capture through the engine and see what becomes of each packet',
    run: replay,
  },
  status: { what: 'what a running heddled is doing', run: status },
}

function usage(): string {
  const list = Object.entries(COMMANDS).map(([name, c]) => `  ${name.padEnd(12)} ${c.what}`)
  return `usage: heddle COMMAND [options]\n\n${list.join('\n')}\n\n\`heddle COMMAND --help\` tells a command's options.\n`
}

async function main(argv: string[], io: CommandIo): Promise<number> {
  const [name, ...rest] = argv
  if (name === '--version') {
    io.stdout.write(`heddle ${VERSION}\n`)
    return 0
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    io.stdout.write(usage())
    return name === undefined ? 2 : 0
  }
  const command = COMMANDS[name]
  if (command === undefined) {
    io.stderr.write(`heddle: there is no command "${name}"\n${usage()}`)
    return 2
  }
  return command.run(rest, io)
}

// A reader that has seen enough (`heddle replay x.pcap | head`) closes the pipe: no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})

process.exitCode = await main(process.argv.slice(2), process)
