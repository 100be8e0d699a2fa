/**
 * What was answered with success survives power loss: for each change that the real server answers, its log record was
 * written, and a sync of the database's write-ahead log had returned, before the first byte of the answer was handed to the
 * network. Proven from a trace of the server's system calls, while every sync is made 20 ms slower, so that an answer that
 * does not wait for its sync cannot come after it by luck. And when a sync fails, the answer is no success.
 *
 * Needs strace (Debian: `apt-get install strace`) and the right to trace a process of one's own.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { type ServerProcess, startServerProcess, temporaryFolder, until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN, auth } from '../support/test-server.ts'

const SYNC_DELAY_MS = 20
const CYCLES = 12
const USER = { name: 'Bob', email: 'bob@example.org', password: 'bob-pw' }
const AS_USER = auth(2, USER.password)

const SYNCS = ['fsync', 'fdatasync']
const LOG_WRITES = ['pwrite64', 'pwritev', 'write', 'writev']
const SENDS = ['write', 'writev', 'sendto', 'sendmsg']
const RECEIVES = ['read', 'readv', 'recvfrom', 'recvmsg']
const TRACED = [...new Set([...SYNCS, ...LOG_WRITES, ...SENDS, ...RECEIVES])].join(',')

before(() => {
  const { error, status, stderr } = spawnSync('strace', ['-o', '/dev/null', 'true'], { encoding: 'utf8' })
  if (error !== undefined)
    assert.fail(`this test needs strace (Debian: apt-get install strace): ${error.message}`)
  assert.equal(status, 0, `this test needs the right to trace a process of its own: ${stderr}`)
})

/** Starts the server in a folder under strace, which writes to `trace`; `inject` changes what syncs do. */
function startTraced(data: string, trace: string, inject: string): Promise<ServerProcess> {
  // -D: the server is the process that was started, and strace ends with it. -yy: descriptors with their files and peers.
  const strace = ['strace', '-D', '-f', '-yy', '-s', '200', '-e', `trace=${TRACED}`]
  return startServerProcess({ data, under: [...strace, '-e', `inject=${SYNCS}:${inject}`, '-o', trace] })
}

/** One system call: when it began and when it returned, as line numbers of the trace. */
interface SystemCall {
  readonly name: string
  /** What its first argument stands for: a file's path, or `TCP:[…]`. */
  readonly on: string
  /** The other arguments and the result, as far as they are told. */
  readonly text: string
  readonly begin: number
  readonly end: number
  readonly result: number
}

/** Ends the line of a call during which another thread did something. */
const OPEN = '<unfinished ...>'

function parseTrace(trace: string): SystemCall[] {
  const calls: SystemCall[] = []
  const unfinished = new Map<string, SystemCall>()
  for (const [i, line] of trace.split('\n').entries()) {
    const resumed = /^(\d+) +<\.\.\. (\w+) resumed>(.*)= (-?\d+)/.exec(line)
    if (resumed !== null) {
      const [, thread, name, rest = '', result] = resumed
      const call = unfinished.get(`${thread} ${name}`)
      // What was read is told only here.
      if (call !== undefined)
        Object.assign(call, { end: i, result: Number(result), text: call.text.replace(OPEN, '') + rest })
      continue
    }
    const begun = /^(\d+) +(\w+)\(\d+<(TCP:\[[^\]]*\]|[^>]*)>(.*)$/.exec(line)
    if (begun === null) continue
    const [, thread = '', name = '', on = '', text = ''] = begun
    const result = /\) += (-?\d+)[^)]*(\([^)]*\))*$/.exec(text)
    const isOpen = text.endsWith(OPEN)
    const call = { name, on, text, begin: i, end: isOpen ? Infinity : i, result: Number(result?.[1] ?? -1) }
    if (isOpen) unfinished.set(`${thread} ${name}`, call)
    calls.push(call)
  }
  return calls
}

/** The trace, once the server's end is in it. */
async function finishedTrace(file: string, { pid }: ServerProcess): Promise<SystemCall[]> {
  const ended = new RegExp(`^${pid} +\\+\\+\\+ exited with `, 'm')
  return parseTrace(
    await until(async () => {
      const text = await readFile(file, 'utf8')
      return ended.test(text) && text
    }),
  )
}

/** Sends changes one after the other: each is answered before the next is sent. Returns how many were sent. */
async function change(server: ServerProcess): Promise<number> {
  let sent = 0
  const must = async (status: number, method: string, path: string, body: object) => {
    sent++
    const reply = await server.call(method, path, body)
    assert.equal(reply.status, status, `${method} ${path}: ${JSON.stringify(reply.body)}`)
  }
  await must(201, 'POST', '/user', ADMIN)
  await must(201, 'POST', '/user', { ...AS_ADMIN, ...USER })
  await must(201, 'POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 6 })
  for (let i = 0; i < CYCLES; i++) {
    await must(201, 'POST', '/checkout_vm', AS_USER)
    await must(201, 'POST', '/checkin_vm', { ...AS_USER, vmid: 1 })
    await must(201, 'POST', '/maintenance', { ...AS_ADMIN, vmid: 1 })
    await must(200, 'PATCH', '/user', { ...AS_USER, id: 2, name: `Bob ${i}` })
  }
  await must(200, 'DELETE', '/vmdetails/id/6', AS_ADMIN)
  await must(200, 'POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 4 })
  await must(201, 'POST', '/checkout_vm', { ...AS_USER, vmid: 4 })
  await must(200, 'DELETE', '/user/id/2', AS_ADMIN)
  return sent
}

describe('power loss', () => {
  it('each change is on disk before its answer is on the network', async () => {
    const folder = await temporaryFolder()
    const data = join(folder, 'data')
    const file = join(folder, 'trace')
    const server = await startTraced(data, file, `delay_exit=${SYNC_DELAY_MS * 1_000}`)
    const sent = await change(server)
    server.kill('SIGTERM')
    assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
    const calls = await finishedTrace(file, server)

    const log = join(data, 'berth.db-wal')
    const mutation = /^, *"(POST|PATCH|DELETE) (\S+) HTTP\/1\.1/
    const requests = calls.filter(({ name, on, text }) => {
      return RECEIVES.includes(name) && on.startsWith('TCP:') && mutation.test(text)
    })
    assert.equal(requests.length, sent, 'not every request is in the trace')
    for (const request of requests) {
      const what = mutation.exec(request.text)?.slice(1, 3).join(' ')
      const answer = calls.find(
        ({ name, on, text, begin }) =>
          begin > request.end && SENDS.includes(name) && on === request.on && text.includes('HTTP/1.1 20'),
      )
      assert.ok(answer, `the answer to ${what} is not in the trace`)
      const between = calls.filter(({ begin, end }) => begin > request.end && end < answer.begin)
      const written = between.filter(({ name, on }) => LOG_WRITES.includes(name) && on === log)
      assert.ok(written.length > 0, `nothing was written to the log between ${what} and its answer`)
      const lastWrite = Math.max(...written.map(({ end }) => end))
      const synced = between.filter(
        ({ name, on, result, begin }) =>
          SYNCS.includes(name) && on === log && result === 0 && begin > lastWrite,
      )
      assert.ok(synced.length > 0, `what ${what} wrote to the log was not synced before its answer`)
    }
    auditDatabase(data)
  })

  it('a change whose sync fails is not answered with success, and what was answered before is there', async () => {
    const folder = await temporaryFolder()
    const data = join(folder, 'data')
    const first = await startServerProcess({ data })
    const must = async (server: ServerProcess, path: string, body: object) =>
      assert.equal((await server.call('POST', path, body)).status, 201)
    await must(first, '/user', ADMIN)
    await must(first, '/create_resource_pool', { ...AS_ADMIN, pool_size: 40 })
    first.kill('SIGTERM')
    assert.deepEqual(await first.exited, { code: 0, signal: null })

    // Some syncs later, each third one fails.
    const server = await startTraced(data, join(folder, 'trace'), 'error=EIO:when=15+3')
    const given: number[] = []
    const refused: unknown[] = []
    for (let i = 0; i < 30; i++) {
      const { status, body } = await server.call('POST', '/checkout_vm', AS_ADMIN)
      if (status === 201) given.push(body['VM Details']['vm-Id'])
      else refused.push({ status, body })
    }
    server.kill('SIGKILL')
    await server.exited

    auditDatabase(data)
    const held = readDatabase(data, (all) =>
      all("SELECT id FROM vm WHERE state = 'leased'").map(({ id }) => id),
    )
    const lost = given.filter((id) => !held.includes(id))
    assert.deepEqual(lost, [], 'machines whose checkout was answered')
    assert.ok(held.length <= given.length + refused.length)
    assert.ok(given.length > 0, 'no sync succeeded')
    assert.ok(refused.length > 0, 'no sync failed')
    for (const no of refused)
      assert.deepEqual(no, {
        status: 503,
        body: { message: (no as { body: { message: string } }).body.message },
      })
    assert.equal(new Set(given).size, given.length, 'a machine was given out twice')
  })
})
