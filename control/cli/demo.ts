/**
 * `heddle demo`: two hosts on this machine, joined by heddled, with real traffic between their pods.
 *
 * Everything happens in network namespaces, which disappear at the end however the demo ends, unless
 * `--keep` leaves them. What is printed was measured in this run.
 */
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isHeddleError } from '../errors.js'
import { type Lab, createLab } from '../lab/lab.js'
import { listLabs, removeLab } from '../lab/registry.js'
import { faultsOf, present } from './demo-run.js'
import { SILENT, type Terminal, createTerminal } from './demo-terminal.js'
import { DEMO_BACKENDS, type World } from './demo-world.js'
import type { CommandIo } from './heddle.js'

const USAGE = `usage: heddle demo [--store=file|etcd] [--backend=udp|vxlan] [--ipv6] [--keep] [--json]
       heddle demo --remove

  --store=file     keep the leases in a directory (default)
  --store=etcd     keep them in an etcd that the demo starts
  --backend=udp    inner packets in UDP alone (default)
  --backend=vxlan  in VXLAN, in user space
  --ipv6           a dual-stack network, pings over IPv6 as well
  --keep           leave hosts and daemons running, and print how to look around
  --remove         remove what --keep left
  --json           print the measurements as one JSON document instead of text
`

/**
 * Runs the command.
 * @returns exit code: 0 = all pings and the hash were right, 1 = not, 2 = wrong arguments
 */
export async function demo(argv: string[], io: CommandIo): Promise<number> {
  let options
  try {
    options = parseArgs({
      args: argv,
      options: {
        store: { type: 'string', default: 'file' },
        backend: { type: 'string', default: 'udp' },
        ipv6: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        remove: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (error) {
    return complain(io, (error as Error).message)
  }
  if (options.help) {
    io.stdout.write(USAGE)
    return 0
  }
  if (process.getuid?.() !== 0) {
    io.stderr.write('heddle demo: needs root, for TUN devices and network namespaces\n')
    return 1
  }
  if (options.remove) return removeKept(io)
  const { store } = options
  if (store !== 'file' && store !== 'etcd') return complain(io, `there is no store "${store}"`)
  const backend = DEMO_BACKENDS.find((known) => known === options.backend)
  if (backend === undefined) return complain(io, `there is no backend "${options.backend}"`)
  return runDemo({ store, backend, ipv6: options.ipv6 }, options.keep, options.json, io)
}

function complain(io: CommandIo, what: string): number {
  io.stderr.write(`heddle demo: ${what}\n${USAGE}`)
  return 2
}

function removeKept(io: CommandIo): number {
  const kept = listLabs().filter((lab) => lab.kept)
  for (const lab of kept) {
    removeLab(lab)
    io.stdout.write(`removed ${lab.prefix}\n`)
  }
  if (kept.length === 0) io.stdout.write('there is nothing to remove\n')
  return 0
}

async function runDemo(
  world: World,
  isKept: boolean,
  isJson: boolean,
  io: CommandIo,
): Promise<number> {
  const start = performance.now()
  const terminal = createTerminal(isJson ? io.stderr : io.stdout)
  // Whoever read the output has gone (`heddle demo | head`): the lab goes with the process.
  io.stdout.once('error', () => process.exit(1))
  const onSignal = (): void => {
    terminal.lines('', 'Interrupted: hosts and daemons are removed.')
  }
  // Before the lab's own handlers, which remove it and end the process.
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  let lab: Lab | null = null
  try {
    lab = await createLab({ hosts: 2, ipv6: world.ipv6 })
    const measured = await present(lab, world, isJson ? SILENT : terminal)
    if (isJson) io.stdout.write(`${JSON.stringify(measured, null, 2)}\n`)
    const faults = faultsOf(measured)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    terminal.heading(
      faults.length === 0 ? `Everything arrived, in ${seconds} s.` : 'Not everything worked:',
    )
    terminal.lines(...faults)
    return faults.length === 0 ? 0 : 1
  } catch (fault) {
    if (!isHeddleError(fault)) throw fault
    io.stderr.write(`heddle demo: ${fault.message}\n`)
    return 1
  } finally {
    if (lab !== null && isKept) showKept(terminal, lab)
    else await lab?.close()
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

function showKept(terminal: Terminal, lab: Lab): void {
  lab.keep()
  const heddle = `node ${relative('', fileURLToPath(new URL('heddle.js', import.meta.url)))}`
  terminal.heading('Hosts and daemons go on running. To look around:')
  for (const host of lab.hosts) {
    const pods = host.pods.map((pod) => `ip netns exec ${pod.netns} sh   # ${pod.address}`)
    terminal.lines(
      `${heddle} status --subnet-file ${host.subnetFile}`,
      `ip netns exec ${host.netns} sh   # ${host.name}, ${host.address}`,
      ...pods,
    )
  }
  terminal.lines(`logs and state: ${lab.dir}`, '', `To remove everything: ${heddle} demo --remove`)
}
