/**
 * Whether this machine can do the job at all: Node, Linux, root, TUN, namespaces.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { StepError } from './step.mjs'

const NODE_MAJOR = 20
const TUN = '/dev/net/tun'

/** Checks Node and the system. */
export function checkPlatform() {
  const major = Number(process.versions.node.split('.')[0])
  if (major < NODE_MAJOR) {
    throw new StepError(
      `this is Node ${process.versions.node}; Heddle needs Node ${NODE_MAJOR} or newer (https://nodejs.org)`,
    )
  }
  if (process.platform !== 'linux') {
    throw new StepError(
      `this is ${process.platform}; Heddle needs Linux, for its TUN devices and network namespaces`,
    )
  }
}

/** @param command  how this job is called, after `npm` */
export function demandRoot(command) {
  if (process.getuid() === 0) return
  throw new StepError(
    `this needs root, for TUN devices and network namespaces: sudo env "PATH=$PATH" npm ${command}`,
  )
}

/** Whether the kernel lets us have TUN devices and namespaces; makes /dev/net/tun where it is missing. */
export function checkKernel() {
  if (!existsSync(TUN)) {
    spawnSync('modprobe', ['tun'])
    mkdirSync('/dev/net', { recursive: true })
    spawnSync('mknod', ['-m', '600', TUN, 'c', '10', '200'])
  }
  const fault = openFault(TUN)
  if (fault !== null) {
    throw new StepError(
      `${TUN} cannot be opened (${fault}).\n` +
        '  On a machine of your own:  modprobe tun\n' +
        '  In a container:            start it with --device /dev/net/tun --privileged',
    )
  }
  const probe = `hdl${process.pid}-0-probe`
  const made = spawnSync('ip', ['netns', 'add', probe], { encoding: 'utf8' })
  spawnSync('ip', ['netns', 'del', probe])
  if (made.status !== 0) {
    throw new StepError(
      `network namespaces cannot be made: ${(made.stderr ?? made.error.message).trim()}\n` +
        '  In a container:            start it with --privileged',
    )
  }
}

function openFault(file) {
  try {
    closeSync(openSync(file, 'r+'))
    return null
  } catch (error) {
    return error.code
  }
}
