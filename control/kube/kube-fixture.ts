/**
 * A Kubernetes API on loopback for a test, and leasing through it as a node's daemon has it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { killManaged, ManagedProcess } from '../lab/process.js'
import { KubeCluster } from '../lab/kube/cluster.js'
import type { Leasing } from '../leasing.js'
import { recordedLog } from '../scripted-store.js'
import type { StoreObserver } from '../store/store.js'
import { openAccess } from './access.js'
import { annotationNames } from './annotations.js'
import { KubeApi, type KubeTimes } from './api.js'
import { createKubeLeasing } from './kube-leasing.js'

export const NAMES = annotationNames('flannel.alpha.coreos.com')
export const CONFIG = { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } }

export interface KubePlace {
  readonly cluster: KubeCluster
  readonly dir: string
}

/** A test that is ended from outside leaves no servers behind. */
process.once('exit', killManaged)
process.once('SIGTERM', () => process.exit(143))

/** Starts an API that goes with the test. */
export async function startCluster(t: Test): Promise<KubePlace> {
  const dir = mkdtempSync(join(tmpdir(), 'heddle-kube-'))
  const processes: ManagedProcess[] = []
  const place = {
    dir,
    spawn: async (command: string, args: readonly string[]) => {
      const log = join(dir, `log-${String(processes.length)}`)
      const child = await ManagedProcess.start(command, args, { log })
      processes.push(child)
      return child
    },
  }
  t.teardown(async () => {
    await Promise.all(processes.map((child) => child.stop()))
    rmSync(dir, { recursive: true })
  })
  const cluster = new KubeCluster(place, '127.0.0.1', await freePort())
  await cluster.create()
  writeFileSync(join(dir, 'net-conf.json'), JSON.stringify(CONFIG))
  return { cluster, dir }
}

export interface Opened {
  readonly leasing: Leasing
  readonly log: readonly string[]
}

/** Leasing for a node, closed with the test. @param url  in place of the API's address */
export async function openLeasing(
  t: Test,
  { cluster, dir }: KubePlace,
  node: string,
  { url, times, observer }: { url?: string; times?: KubeTimes; observer?: StoreObserver } = {},
): Promise<Opened> {
  const access = await openAccess({
    apiUrl: url ?? null,
    kubeconfigFile: cluster.kubeconfig,
    serviceHost: '',
    servicePort: '',
  })
  const { log, lines } = recordedLog()
  const leasing = createKubeLeasing({
    api: new KubeApi(access, times),
    node,
    names: NAMES,
    netConfigPath: join(dir, 'net-conf.json'),
    setCondition: true,
    observer: observer ?? {},
    log,
  })
  t.teardown(() => leasing.close())
  return { leasing, log: lines }
}

/** Three ports in a row, hopefully free: a real server's etcd takes the other two. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return Math.min(port, 65_533)
}
