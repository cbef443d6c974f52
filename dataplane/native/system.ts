/**
 * What a daemon needs of the operating system and Node has no call for.
 */
import { native } from './native.js'

/**
 * Locks a file for this process; it is created if need be. The kernel drops the lock when the
 * process ends, however it ends.
 * @returns a function that unlocks it
 * @throws  NativeError: EAGAIN when another process holds the lock
 */
export function lockFile(path: string): () => void {
  const fd = native.lock(path)
  return () => {
    native.close(fd)
  }
}

/**
 * Sends one datagram to a unix socket.
 * @param path     bytes of sun_path without a closing NUL; an abstract name begins with NUL
 * @throws         NativeError when nobody listens there
 */
export function sendUnixDatagram(path: Uint8Array, payload: Uint8Array): void {
  native.notify(path, payload)
}

/** Gives the kernel back what the C library keeps of memory that was freed, on any thread. */
export function releaseFreeMemory(): void {
  native.trim()
}

/**
 * Takes what was read of the program file so far out of this process's memory. The kernel keeps it
 * in its page cache, from where the parts that are used again come back: a start uses much of Node
 * that a daemon at work does not.
 */
export function unmapProgram(): void {
  native.unmapProgram()
}

/** Whether other programs get a descriptor, those that are started and the one that this one becomes. */
export function setInherited(fd: number, isInherited: boolean): void {
  native.setInherited(fd, isInherited)
}

/** Closes a descriptor that no object of ours stands for. */
export function closeDescriptor(fd: number): void {
  native.close(fd)
}

/**
 * Becomes another program, or another version of this one: the process stays, with its number, its standard streams
 * and the descriptors that are inherited; everything else of it ends here.
 * @param args  without the program's own name
 * @throws      NativeError when the kernel refuses; nothing has happened then
 */
export function becomeProgram(
  path: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): void {
  const texts = (list: readonly string[]): Uint8Array =>
    Buffer.from(list.map((text) => `${text}\0`).join(''))
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  native.become(path, texts([path, ...args]), texts(variables))
}
