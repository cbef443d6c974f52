/**
 * nebula: an overlay in user space, in Go, with certificates. It encrypts, which Heddle's `udp`
 * backend does not. Pods' subnets are its `unsafe_routes`.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ManagedProcess, must } from '../../../control/lab/process.js'
import {
  type Bed,
  type Contender,
  UNDERLAY_MTU,
  otherSide,
  stopAll,
  untilDevice,
} from '../contender.js'
import { PARTS } from '../measurements.js'

/** Outer IPv4 20, UDP 8, nebula header 16, authentication tag 16. */
const OVERHEAD = 60
const DEVICE = 'nebula1'
const PORT = 4242
const ADDRESSES = ['10.6.0.1', '10.6.0.2'] as const

const name = (i: number): string => `host${String(i + 1)}`
const address = (i: number): string => ADDRESSES[i === 0 ? 0 : 1]

/** An authority and a certificate for each host, once in a run. @returns their folder */
async function createCertificates(bed: Bed): Promise<string> {
  const dir = join(bed.dir, 'nebula')
  if (existsSync(dir)) return dir
  mkdirSync(dir)
  const file = (base: string): string => join(dir, base)
  const ca = ['-out-crt', file('ca.crt'), '-out-key', file('ca.key')]
  await must('nebula-cert', ['ca', '-name', 'bench', ...ca])
  for (const [i, { subnet }] of bed.hosts.entries()) {
    const own = ['-name', name(i), '-ip', `${address(i)}/24`, '-subnets', subnet]
    const out = ['-out-crt', file(`${name(i)}.crt`), '-out-key', file(`${name(i)}.key`)]
    const signer = ['-ca-crt', file('ca.crt'), '-ca-key', file('ca.key')]
    await must('nebula-cert', ['sign', ...own, ...out, ...signer])
  }
  return dir
}

/** nebula reads YAML, and JSON is YAML. */
function writeConfig(bed: Bed, certificates: string, i: number, mtu: number): string {
  const other = otherSide(bed, i)
  const file = join(certificates, `${name(i)}.yml`)
  const anything = [{ port: 'any', proto: 'any', host: 'any' }]
  const config = {
    pki: {
      ca: join(certificates, 'ca.crt'),
      cert: join(certificates, `${name(i)}.crt`),
      key: join(certificates, `${name(i)}.key`),
    },
    static_host_map: { [address(1 - i)]: [`${other.underlay}:${String(PORT)}`] },
    lighthouse: { am_lighthouse: false, hosts: [] },
    // The buffer sizes are those that nebula's own example configuration names.
    listen: { host: '0.0.0.0', port: PORT, read_buffer: 10_485_760, write_buffer: 10_485_760 },
    tun: {
      dev: DEVICE,
      mtu,
      unsafe_routes: [{ route: other.subnet, via: address(1 - i), mtu }],
    },
    logging: { level: 'error', format: 'text' },
    firewall: { outbound: anything, inbound: anything },
  }
  writeFileSync(file, JSON.stringify(config))
  return file
}

export const nebula: Contender = {
  name: 'nebula',
  note: 'user space, Go; it encrypts, Heddle does not',
  mtu: UNDERLAY_MTU - OVERHEAD,
  device: DEVICE,
  needs: ['nebula', 'nebula-cert'],
  parts: PARTS,
  version: async () =>
    /Version: (\S+)/.exec(await must('nebula', ['-version']))?.[1] ?? 'version unknown',
  async start(bed) {
    const certificates = await createCertificates(bed)
    const daemons: ManagedProcess[] = []
    for (const [i, side] of bed.hosts.entries()) {
      const config = writeConfig(bed, certificates, i, this.mtu)
      daemons.push(await side.place.spawn('nebula', ['-config', config]))
      await untilDevice(side, DEVICE)
    }
    return { addresses: ADDRESSES, daemons, stop: () => stopAll(daemons) }
  },
}
