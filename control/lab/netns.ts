/**
 * One network namespace with a name, and what can be done inside it: run a program, start one, capture.
 *
 * `ip netns exec` replaces itself by the program, so the pid of a managed program is its own.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Capture } from './capture.js'
import { ManagedProcess, type RunOptions, type RunResult, must, run } from './process.js'

export class Netns {
  /** Name as `ip netns` knows it. */
  readonly netns: string
  /** Folder for files that belong to this namespace: logs, captures, state of daemons. */
  readonly dir: string
  readonly processes: ManagedProcess[] = []

  constructor(netns: string, dir: string) {
    this.netns = netns
    this.dir = dir
    mkdirSync(dir, { recursive: true })
  }

  /** Creates the namespace, with its loopback up. */
  async create(): Promise<void> {
    await must('ip', ['netns', 'add', this.netns])
    await this.ip('link set lo up')
  }

  /** Runs a program to its end inside the namespace; never rejects. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return run('ip', ['netns', 'exec', this.netns, command, ...args], options)
  }

  /** Starts a program inside the namespace; the lab ends it at the latest when it closes. */
  async spawn(
    command: string,
    args: readonly string[],
    options: { readonly env?: Readonly<Record<string, string>>; readonly name?: string } = {},
  ): Promise<ManagedProcess> {
    const child = await ManagedProcess.start(
      'ip',
      ['netns', 'exec', this.netns, command, ...args],
      {
        env: options.env ?? {},
        log: this.#freeLog(options.name ?? command.replace(/^.*\//, '')),
      },
    )
    this.processes.push(child)
    return child
  }

  /**
   * Executes iproute2 commands (without the leading `ip`) in order; the first failure ends it.
   * @throws HeddleError HEDDLE_APPLY with iproute2's message
   */
  async ip(...commands: readonly string[]): Promise<void> {
    await must('ip', ['-n', this.netns, '-batch', '-'], { input: `${commands.join('\n')}\n` })
  }

  /** Writes kernel settings of the namespace, named as in sysctl(8). */
  async sysctl(settings: Readonly<Record<string, string | number>>): Promise<void> {
    const script = 'for s in "$@"; do echo "${s#*=}" > "/proc/sys/${s%%=*}" || exit 1; done'
    const pairs = Object.entries(settings).map(([name, v]) => `${name.replaceAll('.', '/')}=${v}`)
    await must('ip', ['netns', 'exec', this.netns, 'sh', '-c', script, 'sh', ...pairs])
  }

  /** Makes IPv6 addresses of devices that come usable at once, those too that the kernel gives them. */
  async skipDuplicateDetection(): Promise<void> {
    await this.sysctl({ 'net.ipv6.conf.default.accept_dad': 0 })
  }

  /**
   * Records what passes an interface, from the moment this call settles until `stop()`.
   * @param filter  pcap-filter(7) expression
   * @param file    target, default inside `dir`
   */
  async capture(iface: string, filter = '', file?: string): Promise<Capture> {
    const name = `tcpdump-${iface}`
    const target = file ?? `${this.#freeLog(name)}.pcap`
    // -Z root: the target may lie where only root can write. --immediate-mode: no waiting for a full block.
    // -s and -B (KiB): each place in the kernel's ring takes the snap length; the default holds 8 packets.
    const ring = ['-s', '65535', '-B', '32768']
    const args = ['-i', iface, '-n', '-U', '--immediate-mode', ...ring, '-Z', 'root', '-w', target]
    const child = await this.spawn('tcpdump', filter === '' ? args : [...args, filter], { name })
    await child.waitFor(/listening on/)
    return new Capture(child, target)
  }

  #freeLog(name: string): string {
    const base = join(this.dir, name)
    let log = base
    for (let n = 2; existsSync(`${log}.err`); n++) log = `${base}-${n}`
    return log
  }
}
