/**
 * System packages: what is needed for which job, and their installation where there is apt.
 *
 * Some packages start a service when they are installed. Heddle wants the programs, not the services:
 * while apt works, policy-rc.d forbids starting anything, and afterwards the services are disabled.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { StepError, runQuietly, step, which } from './step.mjs'

const POLICY = '/usr/sbin/policy-rc.d'

/**
 * `command` or `file` shows that it is there; `name` is Debian's, `what` everybody's; `service` is one
 * that Debian would start with the machine.
 */
const NEEDED = {
  demo: [
    { name: 'gcc', command: 'cc', what: 'a C compiler (cc)' },
    { name: 'libc6-dev', file: '/usr/include/stdio.h', what: 'the headers of the C library' },
    {
      name: 'linux-libc-dev',
      file: '/usr/include/linux/if_tun.h',
      what: 'the Linux kernel headers for programs',
    },
    { name: 'iproute2', command: 'ip', what: 'iproute2 (ip)' },
    { name: 'iputils-ping', command: 'ping', what: 'ping of iputils' },
    { name: 'tcpdump', command: 'tcpdump', what: 'tcpdump' },
  ],
  etcd: [
    { name: 'etcd-server', command: 'etcd', service: 'etcd', what: 'etcd 3.3 or newer' },
    { name: 'etcd-client', command: 'etcdctl', what: 'etcdctl 3.3 or newer' },
  ],
  test: [
    { name: 'tshark', command: 'tshark', what: 'tshark of Wireshark' },
    { name: 'iptables', command: 'iptables', what: 'iptables' },
    { name: 'nftables', command: 'nft', what: 'nft of nftables' },
    { name: 'socat', command: 'socat', what: 'socat' },
    { name: 'curl', command: 'curl', what: 'curl' },
    { name: 'openssl', command: 'openssl', what: 'openssl 3' },
    {
      name: 'containernetworking-plugins',
      file: '/usr/lib/cni/bridge',
      what: 'the CNI plugins',
    },
    { name: 'python3', command: 'python3', what: 'Python 3' },
  ],
  kube: [
    { name: 'golang-go', command: 'go', what: 'Go 1.19' },
    { name: 'make', command: 'make', what: 'make' },
    { name: 'rsync', command: 'rsync', what: 'rsync' },
  ],
  bench: [
    { name: 'iperf3', command: 'iperf3', service: 'iperf3', what: 'iperf3' },
    { name: 'ethtool', command: 'ethtool', what: 'ethtool' },
  ],
  contenders: [
    { name: 'socat', command: 'socat', what: 'socat' },
    { name: 'wireguard-go', command: 'wireguard-go', what: 'wireguard-go' },
    { name: 'wireguard-tools', command: 'wg', what: 'wg of wireguard-tools' },
    { name: 'nebula', command: 'nebula', what: 'nebula' },
  ],
}

const APT = ['-y', '-q', '-o', 'DPkg::Lock::Timeout=120']

function isThere({ command, file }) {
  return command === undefined ? existsSync(file) : which(command) !== null
}

/**
 * Makes sure that the packages of some groups are installed.
 * @param groups  keys of NEEDED
 * @throws StepError with the list of what to install, where there is no apt or no right to use it
 */
export async function installSystemPackages(groups) {
  const missing = groups.flatMap((group) => NEEDED[group]).filter((item) => !isThere(item))
  if (missing.length === 0) return
  const names = missing.map(({ name }) => name)
  if (which('apt-get') === null || process.getuid() !== 0) {
    const list = missing.map(({ what }) => `  - ${what}`).join('\n')
    const how =
      which('apt-get') === null
        ? 'with the package manager of this system'
        : `:\n  sudo apt-get install ${names.join(' ')}`
    throw new StepError(
      `this machine lacks\n${list}\nPlease install ${how}`.replace('install :', 'install it:'),
    )
  }
  await step(`installing ${names.join(', ')}`, () => installWithoutServices(missing))
  const still = missing.filter((item) => !isThere(item))
  if (still.length > 0) {
    throw new StepError(
      `apt installed ${names.join(', ')}, but still missing: ${still.map(({ what }) => what).join(', ')}`,
    )
  }
}

/**
 * Installs what it can of a group that nothing depends on.
 * @returns why each that is still missing could not be installed, by command
 */
export async function tryToInstall(group) {
  const reasons = new Map()
  for (const item of NEEDED[group].filter((one) => !isThere(one))) {
    if (which('apt-get') === null || process.getuid() !== 0) {
      reasons.set(item.command, `${item.what} is not installed, and apt-get cannot be used here`)
      continue
    }
    try {
      await step(`installing ${item.name}`, () => installWithoutServices([item]))
    } catch (fault) {
      if (!(fault instanceof StepError)) throw fault
      reasons.set(item.command, fault.message.replaceAll(/\s*\n\s*/g, ' '))
    }
  }
  return reasons
}

async function install(names) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args) => runQuietly('apt-get', [...APT, ...args], env)
  const packages = ['install', '--no-install-recommends', ...names]
  const first = await apt(...packages)
  if (first.code === 0) return first
  // Package lists that are missing or too old look like this; any other fault will come back.
  const update = await apt('update')
  return update.code === 0 ? apt(...packages) : update
}

/** Installs packages that were missing, and sees to it that none of their services runs, now or later. */
async function installWithoutServices(items) {
  const result = await withPolicy(() => install(items.map(({ name }) => name)))
  for (const { service } of items.filter((item) => item.service !== undefined && isThere(item))) {
    // Neither command exists everywhere; neither is needed twice.
    await runQuietly('update-rc.d', [service, 'disable'])
    await runQuietly('systemctl', ['disable', '--now', `${service}.service`])
  }
  return result
}

/** Does some work while no package may start a service. */
async function withPolicy(work) {
  const ours = !existsSync(POLICY)
  const tidy = () => {
    if (ours) rmSync(POLICY, { force: true })
  }
  const interrupted = () => process.exit(130)
  process.once('exit', tidy)
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  // invoke-rc.d(8): exit code 101 means that the action is forbidden.
  if (ours) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    return await work()
  } finally {
    tidy()
    process.off('exit', tidy)
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
  }
}
