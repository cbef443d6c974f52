/**
 * The one place that changes the kernel: compares what it holds with what it should, and applies the difference.
 */
import { writeFileSync } from 'node:fs'
import { difference, vxlanDevices, type Change, type Difference } from './difference.js'
import { checked, run, runBatch, type Program } from './iproute.js'
import { isText6, lineOf } from './lines.js'
import { readHostState, SETTINGS } from './read.js'
import type { HostState, SettingState } from './state.js'

/** Removes a device. @throws HEDDLE_APPLY when the kernel refuses */
export async function removeLink(name: string): Promise<void> {
  await run('ip', ['link', 'delete', 'dev', checked(name)])
}

/**
 * What must change for the kernel to hold what it should.
 * @param isComplete  whether all peers are known; until then what leads to others stays
 */
export async function look(desired: HostState, isComplete = true): Promise<Difference> {
  const hasIpv6 = [...desired.routes.map((r) => r.destination), ...desired.networks].some(isText6)
  const paths = desired.settings.map(({ path }) => path)
  const found = await readHostState(hasIpv6, vxlanDevices(desired), paths)
  return difference(desired, found, isComplete)
}

/** Makes changes. @throws HEDDLE_APPLY when the kernel refuses one; the others are made all the same */
export async function carryOut(changes: readonly Change[]): Promise<void> {
  const lines = changes.flatMap((change) =>
    change.kind === 'setting-write'
      ? []
      : [{ ...lineOf(change), isRoute: change.kind.startsWith('route') }],
  )
  const of = (program: Program, isRoute: boolean) =>
    lines.filter((l) => l.program === program && l.isRoute === isRoute).map(({ text }) => text)
  await runBatch('ip', of('ip', false))
  await runBatch('bridge', of('bridge', false))
  // A route is of use when the entries that it leads to are there.
  await runBatch('ip', of('ip', true))
  for (const change of changes) if (change.kind === 'setting-write') writeSetting(change.setting)
}

/** As well as it can be done: a kernel without IPv6 has none of its settings. */
function writeSetting({ path, value }: SettingState): void {
  try {
    writeFileSync(`${SETTINGS}/${path}`, value)
  } catch {
    return
  }
}

/**
 * Why the kernel makes no VXLAN devices; null = it does. It is asked for one, which goes at once.
 */
export async function whyNoVxlan(): Promise<string | null> {
  const name = `hdl${String(process.pid)}`
  // One that nobody else will have: the kernel refuses a second device with a VNI.
  const vni = String(0xff_ffff - (process.pid & 0xffff))
  try {
    await run('ip', ['link', 'add', 'name', name, 'type', 'vxlan', 'id', vni, 'dstport', '0'])
  } catch (error) {
    return `the kernel makes no VXLAN devices: ${error instanceof Error ? error.message : String(error)}`
  }
  await removeLink(name)
  return null
}
