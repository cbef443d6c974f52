/**
 * docs/BENCHMARKS-CONTROL.md: what was measured of the control plane, on which machine.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../lib/package.js'
import type { Machine } from '../netns/result.js'
import { tidy } from '../report/write.js'
import { tableOf, type Figures } from './figures.js'

/** The page's text. @param commit  null = not known */
export function renderPage(
  all: readonly Figures[],
  machine: Machine,
  date: Date,
  commit: string | null,
): string {
  const { cores, cpu, memoryGb, arch, kernel, node } = machine
  return `# The control plane, measured

Written by \`npm run bench:control\`, which takes some seven minutes as root on a machine that has nothing else to do.
One daemon among ${String(all[0]?.leases ?? 0)} leases in a real etcd. The daemon, a second one, etcd and the program that writes
leases share the machine's cores.

Taken ${date.toISOString().slice(0, 10)}${commit === null ? '' : ` at commit ${commit}`}.
Machine: ${String(cores)} × ${cpu}, ${String(memoryGb)} GB, ${arch}; Linux ${kernel}; Node ${node}.

${tableOf(all)}

A change counts from the request to etcd on; etcd writes it to disk, and then tells both the daemon and a bare watcher, which is
the baseline. In user space the table has it when the daemon logs it; with \`kernel vxlan\` it is the kernel's own announcement of
the forwarding entry. Starting counts from the start of the process, Node's own start included. The pings go from pod to pod, one each 10 ms.
A start with \`kernel vxlan\` includes fifteen thousand entries of the kernel.
`
}

/** Writes it. */
export async function writePage(
  all: readonly Figures[],
  machine: Machine,
  date: Date,
  commit: string | null,
): Promise<void> {
  const text = renderPage(all, machine, date, commit)
  writeFileSync(join(packageFolder(), 'docs/BENCHMARKS-CONTROL.md'), await tidy(text, 'markdown'))
}
