/**
 * The transfer tool as a program, for the inside of a namespace:
 *
 *   transfer.js tcp-receive ADDRESS PORT
 *   transfer.js tcp-send    ADDRESS PORT BYTES [SEED]
 *   transfer.js udp-receive ADDRESS PORT [IDLE_MS]
 *   transfer.js udp-send    ADDRESS PORT COUNT SIZE [SEED] [PER_SECOND]
 *
 * A receiver prints `{"listening":PORT}` when it is ready; every mode ends with one JSON line.
 */
import { tcpReceive, tcpSend } from './transfer-tcp.js'
import { udpReceive, udpSend } from './transfer-udp.js'

const USAGE = 'transfer tcp-receive|tcp-send|udp-receive|udp-send ADDRESS PORT [numbers…]'

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

function transfer(mode: string, address: string, port: number, n: number[]): Promise<object> {
  const listening = (bound: number): void => {
    print({ listening: bound })
  }
  switch (mode) {
    case 'tcp-receive':
      return tcpReceive(address, port, listening)
    case 'tcp-send':
      return tcpSend(address, port, n[0] ?? 0, n[1] ?? 1)
    case 'udp-receive':
      return udpReceive(address, port, n[0] ?? 2000, listening)
    case 'udp-send':
      return udpSend(address, port, n[0] ?? 0, n[1] ?? 1000, n[2] ?? 1, n[3] ?? 0)
    default:
      return Promise.reject(new Error(USAGE))
  }
}

const [mode = '', address = '', port = '', ...rest] = process.argv.slice(2)
try {
  print(await transfer(mode, address, Number(port), rest.map(Number)))
} catch (fault) {
  process.stderr.write(`${fault instanceof Error ? fault.message : String(fault)}\n`)
  process.exitCode = 1
}
