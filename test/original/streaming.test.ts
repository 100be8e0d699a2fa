/**
 * Proves that lists of many machines, which are answered slice by slice, are whole: valid JSON, every machine once, ascending
 * ids; and that their counts add up with the statistics.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { AS_ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

const MACHINES = 1_500
const HELD = 230
const ASIDE = 210

describe(`a pool of ${MACHINES} machines`, () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer()
    await seed(server, { users: 1, machines: MACHINES })
    const call = async (path: string, vmid: number) =>
      assert.equal((await server.call('POST', path, { ...auth(2, 'pw-2'), vmid })).status, 201)
    // The first one alone, so that the password is checked once.
    await call('/checkout_vm', 1)
    const ids = Array.from({ length: HELD + ASIDE - 1 }, (_, i) => i + 2)
    await Promise.all(ids.map((id) => call('/checkout_vm', id)))
    await Promise.all(ids.slice(0, ASIDE).map((id) => call('/checkin_vm', id)))
  })
  after(() => server.stop())

  /** The ids in a list, in the order of the text: parsed objects would always have them ascending. */
  async function idsOf(path: string, key = 'VM_details'): Promise<number[]> {
    const response = await fetch(server.url + path)
    const text = await response.text()
    assert.equal(response.status, 200)
    assert.match(response.headers.get('content-type') ?? '', /^application\/json/)
    const body = JSON.parse(text) as Record<string, Record<string, { id: number }>>
    assert.deepEqual(Object.keys(body), [key])
    const rows = body[key] ?? {}
    const ids = [...text.matchAll(/"(\d+)":\{"id":(\d+),/g)].map(([, id, idAgain]) => {
      assert.equal(id, idAgain)
      return Number(id)
    })
    assert.equal(ids.length, Object.keys(rows).length, 'no id stands twice')
    for (const id of ids) assert.equal(rows[id]?.id, id)
    assert.deepEqual(
      ids,
      ids.toSorted((a, b) => a - b),
      'ids ascend',
    )
    return ids
  }

  it('all machines are listed once, by ascending id', async () => {
    assert.deepEqual(
      await idsOf('/vmdetails'),
      Array.from({ length: MACHINES }, (_, i) => i + 1),
    )
  })

  it('machines by type are all machines, a quarter each', async () => {
    const byType = await Promise.all(
      ['small', 'medium', 'LARGE', 'xlarge'].map((type) => idsOf(`/vmdetails/type/${type}`)),
    )
    assert.deepEqual(
      byType.map((ids) => ids.length),
      [375, 375, 375, 375],
    )
    assert.equal(new Set(byType.flat()).size, MACHINES)
  })

  it('machines by power are all machines', async () => {
    assert.equal((await idsOf('/vmdetails/status/running')).length, MACHINES)
  })

  it('idle, held and maintained machines add up with the statistics', async () => {
    const idle = await idsOf('/vmdetails/maped_to/idle')
    const held = await idsOf('/vmdetails/maped_to/user2@example.org')
    const aside = await idsOf('/vmdetails/maped_to/maintenance')
    const maintained = await idsOf('/maintenance', 'Maintenance_VM_details')
    assert.deepEqual(maintained, aside)
    assert.deepEqual([idle.length, held.length, aside.length], [MACHINES - HELD - ASIDE, HELD, ASIDE])
    assert.equal(new Set([...idle, ...held, ...aside]).size, MACHINES)
    assert.deepEqual((await server.call('GET', '/create_resource_pool/basicstats')).body, {
      'Pool Stats': {
        total_VM_count_in_pool: `${MACHINES}`,
        free_VM_in_pool: idle.length,
        VM_under_maintenance_in_Pool: aside.length,
        allocated_VM_in_Pool: held.length,
      },
    })
  })

  it('a list of exactly as many machines as a slice has is whole', async () => {
    const surplus = ASIDE - 200
    const aside = await idsOf('/vmdetails/maped_to/maintenance')
    for (const vmid of aside.slice(0, surplus))
      assert.equal((await server.call('POST', '/maintenance', { ...AS_ADMIN, vmid })).status, 201)
    assert.deepEqual(await idsOf('/maintenance', 'Maintenance_VM_details'), aside.slice(surplus))
  })

  it('HEAD of a long list answers without a body', async () => {
    const response = await fetch(`${server.url}/vmdetails`, { method: 'HEAD' })
    assert.deepEqual([response.status, await response.text()], [200, ''])
    assert.equal((await idsOf('/vmdetails')).length, MACHINES)
  })

  it('whoever hangs up in the middle of a list harms nobody', async () => {
    for (let i = 0; i < 5; i++) {
      const over = new AbortController()
      const response = await fetch(`${server.url}/vmdetails`, { signal: over.signal })
      await response.body?.getReader().read()
      over.abort()
    }
    assert.equal((await idsOf('/vmdetails')).length, MACHINES)
  })

  it('a list that changes meanwhile stays valid, with ascending ids', async () => {
    const lists = Promise.all([1, 2, 3].map(() => idsOf('/vmdetails')))
    const resized = await server.call('POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 900 })
    assert.equal(resized.status, 200)
    for (const ids of await lists) assert.ok(ids.length >= 900 && ids.length <= MACHINES)
    assert.deepEqual(
      await idsOf('/vmdetails'),
      Array.from({ length: 900 }, (_, i) => i + 1),
    )
  })
})
