/** The proxy really cuts, swallows and delays: a network that cannot be cut would prove nothing. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after, before, it } from 'node:test'
import { until } from './server-process.ts'
import { startProxy, type TcpProxy } from './tcp-proxy.ts'

/** Answers each piece with "got <piece>". */
let echo: Server
const received: string[] = []
let proxy: TcpProxy

before(async () => {
  echo = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (piece) => {
      received.push(String(piece))
      socket.write(`got ${piece}`)
    })
  }).listen(0, '127.0.0.1')
  await once(echo, 'listening')
  proxy = await startProxy({ host: '127.0.0.1', port: (echo.address() as AddressInfo).port })
})
after(async () => {
  await proxy.close()
  echo.close()
})

interface Client {
  readonly socket: Socket
  answers: string
  failure: string | null
}

async function connected(): Promise<Client> {
  const socket = connect(proxy.port, '127.0.0.1')
  const client: Client = { socket, answers: '', failure: null }
  socket.on('data', (piece) => {
    client.answers += piece
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    client.failure = error.code ?? error.message
  })
  await once(socket, 'connect')
  return client
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

it('passes bytes on', async () => {
  const client = await connected()
  client.socket.write('a')
  await until(() => client.answers === 'got a')
  client.socket.end()
  await until(() => proxy.open === 0)
})

it('cuts: open connections and new ones are reset, until it is healed', async () => {
  const client = await connected()
  client.socket.write('b')
  await until(() => client.answers === 'got b')
  proxy.cut()
  await until(() => client.failure === 'ECONNRESET')
  const late = await connected().catch((error: NodeJS.ErrnoException) => error)
  if (!(late instanceof Error)) await until(() => late.failure !== null || late.socket.destroyed)
  proxy.heal()
  const next = await connected()
  next.socket.write('c')
  await until(() => next.answers === 'got c')
  next.socket.destroy()
})

it('swallows: nobody is told, and what was sent arrives late', async () => {
  const client = await connected()
  proxy.swallow()
  client.socket.write('d')
  await pause(100)
  assert.equal(client.answers, '')
  assert.equal(client.failure, null)
  assert.ok(!received.includes('d'))
  proxy.heal()
  await until(() => client.answers === 'got d')
  client.socket.destroy()
})

it('swallows answers alone: the server has got what was sent', async () => {
  const client = await connected()
  proxy.swallow('toClient')
  client.socket.write('e')
  await until(() => received.includes('e'))
  await pause(50)
  assert.equal(client.answers, '')
  proxy.heal()
  await until(() => client.answers === 'got e')
  client.socket.destroy()
})

it('cuts off before the answer, or in the middle of a piece', async () => {
  proxy.cutAt(() => 'answer')
  const client = await connected()
  client.socket.write('f')
  await until(() => client.failure === 'ECONNRESET')
  await until(() => received.includes('f'))
  proxy.cutAt(() => 'piece')
  const other = await connected()
  other.socket.write('ghij')
  await until(() => other.failure === 'ECONNRESET')
  await until(() => received.includes('gh'))
  assert.equal(client.answers + other.answers, '')
  proxy.heal()
})

it('delays', async () => {
  proxy.delay(80, 'toServer')
  const client = await connected()
  const beganMs = performance.now()
  client.socket.write('k')
  await until(() => client.answers === 'got k')
  assert.ok(performance.now() - beganMs >= 75)
  client.socket.destroy()
  proxy.heal()
})
