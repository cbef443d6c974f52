/**
 * Sends single datagrams from inside a namespace for a test outside, as a program:
 *
 *   udp-relay.js SOCKET ADDRESS PORT
 *
 * It listens on a unix socket, which namespaces of the network do not separate; each line, a
 * datagram in hexadecimal, is sent and answered with an empty line.
 */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'

const [path = '', address = '', port = ''] = process.argv.slice(2)
const outside = createSocket(address.includes(':') ? 'udp6' : 'udp4')
const server = createServer((client) => {
  createInterface({ input: client }).on('line', (hex) => {
    outside.send(Buffer.from(hex, 'hex'), Number(port), address, (error) => {
      client.write(error === null ? '\n' : `${error.message}\n`)
    })
  })
})
server.listen(path, () => {
  process.stdout.write('listening\n')
})
