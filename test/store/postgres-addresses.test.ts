/** Several addresses of a PostgreSQL: which is used, and that what was left behind has no say any more. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Connections } from '../../src/store/postgres/connections.ts'
import { testPostgresUrl } from '../support/postgres.ts'

const opened: Connections[] = []
after(() => Promise.all(opened.map((connections) => connections.close())))

function connectionsTo(...urls: string[]): Connections {
  const connections = new Connections({ urls, schema: null, batchesMax: 4, readsMax: 4, now: Date.now })
  opened.push(connections)
  return connections
}

/** An address that refuses, or one that accepts and then says nothing, as behind a network that swallows. */
async function deadAddress(kind: 'refuses' | 'silent'): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  if (kind === 'refuses') close()
  else after(close)
  return `postgres://postgres@127.0.0.1:${port}/postgres`
}

describe('addresses of PostgreSQL', () => {
  it('the first call finds the one that answers, wherever it stands in the list', async () => {
    const dead = [await deadAddress('refuses'), await deadAddress('refuses'), await deadAddress('refuses')]
    const connections = connectionsTo(...dead, testPostgresUrl())
    const client = await connections.forBatch()
    assert.deepEqual((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }])
    client.release()
  })

  it('whoever waited for an address that was left gets the new one, and does not turn away from it', async () => {
    const connections = connectionsTo(await deadAddress('silent'), testPostgresUrl())
    const first = connections.forBatch()
    await sleep(500)
    const late = connections.forReads()
    const client = await first
    client.release()
    const reader = await late
    reader.release()
    const again = await connections.forBatch()
    assert.equal(again, client, 'the connections to the new address were given up')
    again.release()
  })

  it('connections from before one broke are not used again', async () => {
    const connections = connectionsTo(testPostgresUrl())
    const [broken, idle, inUse] = await Promise.all([1, 2, 3].map(() => connections.forBatch()))
    idle?.release()
    broken?.release(true)
    const fresh = await connections.forBatch()
    assert.notEqual(fresh, idle)
    inUse?.release()
    const other = await connections.forBatch()
    assert.notEqual(other, inUse)
    other.release()
    fresh.release()
  })
})
