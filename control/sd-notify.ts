/**
 * Tells the service manager what the daemon does: sd_notify(3), datagrams to the unix socket that
 * NOTIFY_SOCKET names. Node has no unix datagram sockets, so the sending itself is handed in.
 * Nothing here throws or ends the daemon; without NOTIFY_SOCKET nothing is sent.
 */
import { describeError } from './errors.js'

/**
 * Sends one datagram to a unix socket.
 * @param path  sun_path bytes without a closing NUL; an abstract name begins with NUL
 * @throws the fault of the system call
 */
export type SendUnixDatagram = (path: Uint8Array, payload: Uint8Array) => void

/** Bytes of sun_path. Source: linux/un.h UNIX_PATH_MAX, one less for the closing NUL */
const LONGEST_PATH = 107

/** Sends one message; answers why it could not, null = sent, or nobody listens. */
export type Notify = (text: string) => string | null

/**
 * Creates the sender of messages such as `READY=1`, `STOPPING=1`, `STATUS=…`.
 * @param socket  value of NOTIFY_SOCKET: a path, or `@name` for an abstract socket
 */
export function createNotify(socket: string | undefined, send: SendUnixDatagram): Notify {
  if (socket === undefined || socket === '') return () => null
  const path = Buffer.from(socket.startsWith('@') ? `\0${socket.slice(1)}` : socket)
  const isUnix = /^[/@]./.test(socket) && path.length <= LONGEST_PATH
  if (!isUnix) return () => `NOTIFY_SOCKET=${socket} is no unix socket that can be sent to`
  return (text) => {
    try {
      send(path, Buffer.from(text))
      return null
    } catch (error) {
      return `NOTIFY_SOCKET=${socket}: ${describeError(error)}`
    }
  }
}

/** The message that a daemon begins to start anew; Type=notify-reload wants the time. Source: sd_notify(3) */
export function reloading(): string {
  return `RELOADING=1\nMONOTONIC_USEC=${String(process.hrtime.bigint() / 1000n)}`
}
