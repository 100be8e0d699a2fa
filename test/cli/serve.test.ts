/**
 * `berth serve` as whoever operates it meets it: what cannot work is one line and exit code 1, the help tells every setting,
 * settings come from the environment too, and a stop answers what is under way and leaves the folder in order.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { Command } from 'commander'
import { addServeOptions, type ServeSettings } from '../../src/cli/settings.ts'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { rawRequest } from '../support/raw-request.ts'
import {
  listeningLine,
  type ProgramSettings,
  parsed,
  type ServerProcess,
  startProgram,
  startServerProcess,
  temporaryFolder,
  until,
} from '../support/server-process.ts'
import { ADMIN, AS_ADMIN } from '../support/test-server.ts'

/** Below the line that names a wrong option there may be hints, such as where the options are told. */
const HINT = /^\(.*\)$/

/** A stop that waits for what it should not wait for takes longer than this. */
const QUICK = { timeout: 20_000 }

/** Runs a server that cannot start, and returns the one line that it ends with. */
async function refusal(args: readonly string[], settings: ProgramSettings = {}): Promise<string> {
  const program = startProgram(['serve', ...args], settings)
  const { code } = await program.exited
  const lines = program.stderr.filter((line) => line !== '' && !HINT.test(line))
  assert.deepEqual(
    { code, lines: lines.length, stdout: program.stdout },
    { code: 1, lines: 1, stdout: [] },
    [...program.stderr, ...program.stdout].join('\n'),
  )
  return lines[0] ?? ''
}

async function stop(server: ServerProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  server.kill(signal)
  assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
}

async function must(status: number, reply: ReturnType<ServerProcess['call']>): Promise<void> {
  const got = await reply
  assert.equal(got.status, status, JSON.stringify(got.body))
}

describe('a server that cannot start says why in one line and ends with code 1', () => {
  it('the port is in use', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    const data = await temporaryFolder()
    assert.equal(
      await refusal(['--data', data, '--port', `${port}`]),
      `berth: port ${port} on 127.0.0.1 is in use by another program: stop it, or choose another with --port`,
    )
    other.close()
  })

  it('the address is not this machine’s', async () => {
    const data = await temporaryFolder()
    assert.match(
      await refusal(['--data', data, '--host', '192.0.2.1', '--port', '0']),
      /^berth: 192\.0\.2\.1 is not an address of this machine: choose another with --host$/,
    )
  })

  it('the data folder cannot be made', async () => {
    const file = join(await temporaryFolder(), 'file')
    await writeFile(file, '')
    const data = join(file, 'data')
    const line = await refusal(['--data', data, '--port', '0'])
    assert.ok(line.startsWith(`berth: the data folder ${data} cannot be written: `), line)
  })

  it('another server has the data folder', async () => {
    const server = await startServerProcess()
    const line = await refusal(['--data', server.folder, '--port', '0'])
    assert.equal(line, `berth: the data folder ${server.folder} is in use by another Berth server`)
    assert.equal((await server.call('GET', '/healthz')).status, 200)
    await stop(server)
  })

  it('the database was written by a newer program: it is left as it is', async () => {
    const server = await startServerProcess()
    await must(201, server.call('POST', '/user', ADMIN))
    await stop(server)
    const db = new DatabaseSync(join(server.folder, 'berth.db'))
    db.exec("INSERT INTO migration VALUES (9999, 'from the future', 0)")
    db.close()
    const line = await refusal(['--data', server.folder, '--port', '0'])
    assert.match(
      line,
      /^berth: the database was written by a newer Berth \(.*9999.*\): start the newer program$/,
    )
    assert.deepEqual(
      readDatabase(server.folder, (all) => all('SELECT email FROM user').map(({ email }) => email)),
      [ADMIN.email],
    )
  })

  it('the database is no database', async () => {
    const data = await temporaryFolder()
    await writeFile(
      join(data, 'berth.db'),
      'something else entirely, and long enough to look at. '.repeat(100),
    )
    const line = await refusal(['--data', data, '--port', '0'])
    assert.match(line, /^berth: the database .*berth\.db cannot be opened: file is not a database$/)
  })

  it('a setting makes no sense', async () =>
    assert.match(await refusal(['--port', 'http']), /'--port <number>'.*'http'.* from 0 to 65535/))

  it('nobody knows the option', async () =>
    assert.match(await refusal(['--prot', '80']), /unknown option '--prot'/))
})

describe('a setting that makes no sense is refused by its name, with what is allowed', () => {
  const wrong: [args: string[], line: RegExp][] = [
    [['--port', '65536'], /'--port <number>'.*'65536'.* from 0 to 65535/],
    [['--port', ''], /'--port <number>'.* from 0 to 65535/],
    [['--port', '80.5'], /'--port <number>'.*'80.5'.* from 0 to 65535/],
    [['--log-level', 'loud'], /'--log-level <level>'.*'loud'.*fatal, error, warn, info, debug/],
    [['--allow-reset', 'perhaps'], /'--allow-reset \[yes\|no\]'.*'perhaps'.* yes or no/],
    [['--original-api', 'maybe'], /'--original-api.*'maybe'.*on, off/],
    [['--pool-cleaning', 'never'], /'--pool-cleaning.*'never'.*manual, automatic/],
    [['--type-mix', 'small'], /'--type-mix.*'small' is not TYPE=SHARE/],
    [['--type-mix', 'small=0'], /'--type-mix.*'small=0' is not TYPE=SHARE/],
    [['--type-mix', 'tiny=1'], /'--type-mix.*small, medium, large, xlarge/],
    [['--provider-seconds-max', '0'], /'--provider-seconds-max.*'0'.* from 1 to 86400/],
    [['--simulated-delay-ms', '-5'], /'--simulated-delay-ms.*'-5'.* from 0 to/],
    [['--simulated-fault-rate', '1.5'], /'--simulated-fault-rate.*'1.5'.* from 0 to 1/],
    [['--simulated-seed', '0.5'], /'--simulated-seed.*'0.5'.*whole number/],
  ]
  for (const [args, line] of wrong)
    it(args.join(' '), () => {
      const told = complaint(args)
      assert.match(told, line)
      assert.equal(told.trim().split('\n').length, 1)
    })

  it('a word that belongs to no option', () => assert.match(complaint(['now']), /too many arguments.*now/))

  it('BERTH_PORT=http', () => {
    const told = withEnv({ BERTH_PORT: 'http' }, () => complaint([]))
    assert.match(told, /'http' from env 'BERTH_PORT'.* from 0 to 65535/)
  })
})

/** What the program says about options that it refuses. */
function complaint(args: readonly string[]): string {
  let told = ''
  const writeErr = (text: string) => {
    told += text
  }
  const command = addServeOptions(new Command('serve')).exitOverride().configureOutput({ writeErr })
  assert.throws(() => command.parse(args, { from: 'user' }))
  return told
}

function settingsFrom(args: readonly string[], env: Record<string, string>): ServeSettings {
  const command = addServeOptions(new Command('serve'))
  return withEnv(env, () => command.parse(args, { from: 'user' })).opts()
}

function withEnv<T>(env: Record<string, string>, act: () => T): T {
  const before = { ...process.env }
  Object.assign(process.env, env)
  try {
    return act()
  } finally {
    for (const name of Object.keys(env))
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
  }
}

describe('berth serve --help', () => {
  interface Told {
    readonly flag: string
    readonly env: string
    readonly fallback: string
    readonly unit?: string
  }
  const SETTINGS: Record<keyof ServeSettings, Told> = {
    host: { flag: '--host <address>', env: 'BERTH_HOST', fallback: '"127.0.0.1"' },
    port: { flag: '--port <number>', env: 'BERTH_PORT', fallback: '8080', unit: '0 to 65535' },
    data: { flag: '--data <folder>', env: 'BERTH_DATA', fallback: '"./data"' },
    database: { flag: '--database <urls>', env: 'BERTH_DATABASE', fallback: 'the embedded database' },
    databaseSchema: {
      flag: '--database-schema <name>',
      env: 'BERTH_DATABASE_SCHEMA',
      fallback: 'the first of the search path',
    },
    databaseConnections: {
      flag: '--database-connections <number>',
      env: 'BERTH_DATABASE_CONNECTIONS',
      fallback: '16',
      unit: '3 to 500',
    },
    setupCode: {
      flag: '--setup-code <code>',
      env: 'BERTH_SETUP_CODE',
      fallback: 'each server draws one and prints it',
      unit: '16 characters at least',
    },
    logLevel: { flag: '--log-level <level>', env: 'BERTH_LOG_LEVEL', fallback: '"info"' },
    allowReset: { flag: '--allow-reset [yes|no]', env: 'BERTH_ALLOW_RESET', fallback: 'no' },
    allowedHosts: { flag: '--allowed-hosts <names>', env: 'BERTH_ALLOWED_HOSTS', fallback: 'none' },
    originalApi: { flag: '--original-api <on|off>', env: 'BERTH_ORIGINAL_API', fallback: '"on"' },
    rateLimit: {
      flag: '--rate-limit <calls>',
      env: 'BERTH_RATE_LIMIT',
      fallback: '6000',
      unit: 'in a minute',
    },
    rateLimitAddress: {
      flag: '--rate-limit-address <calls>',
      env: 'BERTH_RATE_LIMIT_ADDRESS',
      fallback: '600',
      unit: 'in a minute',
    },
    poolCleaning: {
      flag: '--pool-cleaning <manual|automatic>',
      env: 'BERTH_POOL_CLEANING',
      fallback: '"manual"',
    },
    typeMix: { flag: '--type-mix <mix>', env: 'BERTH_TYPE_MIX', fallback: 'all types evenly' },
    providerSecondsMax: {
      flag: '--provider-seconds-max <seconds>',
      env: 'BERTH_PROVIDER_SECONDS_MAX',
      fallback: '600',
      unit: '1 to 86400 seconds',
    },
    simulatedDelayMs: {
      flag: '--simulated-delay-ms <ms>',
      env: 'BERTH_SIMULATED_DELAY_MS',
      fallback: '0',
      unit: 'milliseconds',
    },
    simulatedFaultRate: {
      flag: '--simulated-fault-rate <share>',
      env: 'BERTH_SIMULATED_FAULT_RATE',
      fallback: '0',
      unit: '0 to 1',
    },
    simulatedSeed: { flag: '--simulated-seed <number>', env: 'BERTH_SIMULATED_SEED', fallback: '1' },
  }

  it('tells every option with its environment variable, unit and default, and ends with code 0', async () => {
    const program = startProgram(['serve', '--help'])
    assert.deepEqual(await program.exited, { code: 0, signal: null })
    assert.deepEqual(program.stderr, [])
    const help = program.stdout.join(' ').replaceAll(/\s+/g, ' ')
    const options = addServeOptions(new Command()).options.map((option) => option.attributeName())
    assert.deepEqual(options.sort(), Object.keys(SETTINGS).sort(), 'this test does not know all options')
    for (const { flag, env, fallback, unit } of Object.values(SETTINGS)) {
      const begins = help.indexOf(` ${flag} `)
      assert.ok(begins >= 0, `${flag} is not told`)
      const text = help.slice(begins + 1, help.indexOf(`env: ${env})`) + `env: ${env})`.length)
      assert.equal(text.match(/env: /g)?.length, 1, `${flag} has no environment variable ${env}`)
      assert.ok(text.includes(`default: ${fallback},`), `${text}: no default ${fallback}`)
      if (unit !== undefined) assert.ok(text.includes(unit), `${text}: no unit`)
    }
  })
})

describe('settings from the environment', () => {
  it('count like options', async () => {
    const data = join(await temporaryFolder(), 'made', 'here')
    const program = startProgram(['serve'], {
      env: {
        BERTH_HOST: 'localhost',
        BERTH_PORT: '0',
        BERTH_DATA: data,
        BERTH_LOG_LEVEL: 'debug',
        BERTH_ALLOW_RESET: 'true',
        BERTH_ALLOWED_HOSTS: 'berth.example, other.example',
        BERTH_POOL_CLEANING: 'automatic',
        BERTH_TYPE_MIX: 'small=1,large=3',
        BERTH_SIMULATED_SEED: '7',
      },
    })
    const listening = await listeningLine(program)
    assert.equal(listening.data, data)
    const post = async (path: string, body: object, status = 201) => {
      const headers = { 'content-type': 'application/json', host: 'berth.example' }
      const sent = { method: 'POST', path, headers, body: JSON.stringify(body) }
      const reply = await rawRequest(listening.url, sent)
      assert.equal(reply.status, status, reply.text)
    }
    const get = async (path: string, host = 'other.example') =>
      rawRequest(listening.url, { method: 'GET', path, headers: { host } })
    await post('/user', ADMIN)
    await post('/create_resource_pool', { ...AS_ADMIN, pool_size: 8 })
    const rows = Object.values(JSON.parse((await get('/vmdetails')).text).VM_details) as { vm_type: string }[]
    assert.deepEqual(
      ['small', 'medium', 'large', 'xlarge'].map((type) => rows.filter((row) => row.vm_type === type).length),
      [2, 0, 6, 0],
    )
    assert.equal((await get('/vmdetails', 'berth.elsewhere')).status >= 400, true)
    await post('/checkout_vm', { ...AS_ADMIN, vmid: 1 })
    await post('/checkin_vm', { ...AS_ADMIN, vmid: 1 })
    await until(async () => (await get('/vmdetails/maped_to/maintenance')).text === '{"VM_details":""}')
    assert.ok(
      program.stdout.some((line) => parsed(line)?.msg === 'request'),
      'debug logs each request',
    )
    assert.equal((await get('/truncate_tables')).status, 201)
    program.kill('SIGTERM')
    assert.deepEqual(await program.exited, { code: 0, signal: null })
    auditDatabase(data)
  })

  it('turn the original API off', async () => {
    const server = await startServerProcess({ env: { BERTH_ORIGINAL_API: 'off' } })
    assert.equal((await server.call('GET', '/vmdetails')).status, 404)
    assert.equal((await server.call('GET', '/readyz')).status, 200)
    await stop(server)
  })

  it('give way to options', () => {
    const env = { BERTH_PORT: '81', BERTH_ORIGINAL_API: 'off' }
    const { port, originalApi } = settingsFrom(['--port', '82'], env)
    assert.deepEqual({ port, originalApi }, { port: 82, originalApi: 'off' })
  })

  it('say no with the words that say no', () => {
    for (const no of ['false', 'no', 'off', '0', ''])
      assert.equal(settingsFrom([], { BERTH_ALLOW_RESET: no }).allowReset, false, no)
    for (const yes of ['true', 'yes', 'on', '1'])
      assert.equal(settingsFrom([], { BERTH_ALLOW_RESET: yes }).allowReset, true, yes)
  })
})

describe('the first user of a server', () => {
  const codeOf = (server: ServerProcess) =>
    server.stderr.flatMap((line) => /X-Setup-Code: (\S+)$/.exec(line)?.[1] ?? [])

  it('needs the code that is printed when others can reach the address, until there is a user', async () => {
    const args = ['--host', '0.0.0.0']
    const server = await startServerProcess({ args })
    const code = await until(() => codeOf(server)[0] ?? null)
    assert.equal(server.stderr.length, 1)
    const url = server.url.replace('0.0.0.0', '127.0.0.1')
    const post = async (headers: Record<string, string>) => {
      const body = JSON.stringify(ADMIN)
      const sent = { method: 'POST', path: '/user', body }
      return (await rawRequest(url, { ...sent, headers: { 'content-type': 'application/json', ...headers } }))
        .status
    }
    assert.equal(await post({}), 401)
    assert.equal(await post({ 'x-setup-code': 'guess' }), 401)
    assert.equal(await post({ 'x-setup-code': code }), 201)
    assert.equal(server.stdout.filter((line) => line.includes('need no credentials')).length, 1)
    assert.ok(!server.stdout.join('\n').includes(code), 'the code is in the log')
    await stop(server)
    const again = await startServerProcess({ data: server.folder, args })
    await stop(again)
    assert.deepEqual(again.stderr, [])
  })

  it('needs none on a loopback address, and none is printed', async () => {
    const server = await startServerProcess()
    await must(201, server.call('POST', '/user', ADMIN))
    await stop(server)
    assert.deepEqual(server.stderr, [])
    assert.ok(!server.stdout.join('\n').includes('credentials'))
  })
})

describe('a server that is told to stop', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    it(
      `by ${signal} answers the request under way, ends with code 0, and the folder can be opened again`,
      QUICK,
      async () => {
        const server = await startServerProcess({ args: ['--simulated-delay-ms', '600'] })
        await must(201, server.call('POST', '/user', ADMIN))
        const resize = server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 3 })
        await until(async () => (await server.call('GET', '/vmpoolsize')).body['vm pool size'] === '3')
        const stopped = stop(server, signal)
        const { status, body } = await resize
        assert.deepEqual({ status, body }, { status: 201, body: { message: 'Resources Created.' } })
        await stopped
        assert.deepEqual(server.stderr, [])
        auditDatabase(server.folder)
        const next = await startServerProcess({ data: server.folder })
        assert.equal((await next.call('GET', '/vmdetails/maped_to/idle')).body.VM_details[3].id, 3)
        await stop(next)
      },
    )

  it('under load has answered everything that it did', async () => {
    const server = await startServerProcess()
    await must(201, server.call('POST', '/user', ADMIN))
    await must(201, server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 1_000 }))
    await must(400, server.call('POST', '/maintenance', { ...AS_ADMIN, vmid: 'none' }))
    const agent = new Agent({ keepAlive: true, maxSockets: 16 })
    let answered = 0
    let stopping = false
    let exited = false
    void server.exited.then(() => {
      exited = true
    })
    const client = async () => {
      while (!exited) {
        const headers = { 'content-type': 'application/json' }
        const sent = { method: 'POST', path: '/checkout_vm', headers, body: JSON.stringify(AS_ADMIN), agent }
        try {
          const { status, text } = await rawRequest(server.url, sent)
          assert.equal(status, 201, text)
        } catch (error) {
          // Between two requests a connection may be closed, and new ones are refused.
          if (stopping && (error as { code?: string }).code !== undefined) return
          throw error
        }
        if (++answered === 100) {
          stopping = true
          server.kill('SIGTERM')
        }
      }
    }
    await Promise.all(Array.from({ length: 16 }, client))
    assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
    agent.destroy()
    auditDatabase(server.folder)
    assert.equal(
      readDatabase(server.folder, (all) => all("SELECT id FROM vm WHERE state = 'leased'").length),
      answered,
    )
  })

  it('does not wait for connections on which nothing is under way', QUICK, async () => {
    const server = await startServerProcess()
    const agent = new Agent({ keepAlive: true })
    const idle = Array.from({ length: 8 }, () =>
      rawRequest(server.url, { method: 'GET', path: '/healthz', agent }),
    )
    await Promise.all(idle)
    assert.equal(Object.values(agent.freeSockets).flat().length, 8)
    await stop(server)
    agent.destroy()
  })

  it('does not wait for connections on which nothing was ever sent', QUICK, async () => {
    const server = await startServerProcess()
    const { hostname, port } = new URL(server.url)
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('connect', resolve))
    await must(200, server.call('GET', '/healthz'))
    await stop(server)
    socket.destroy()
  })

  it(
    'does not wait for a provider that takes for ever when nobody waits for its machines',
    QUICK,
    async () => {
      const server = await startServerProcess({ args: ['--simulated-delay-ms', '86400000'] })
      await must(201, server.call('POST', '/user', ADMIN))
      const gone = new AbortController()
      const resize = fetch(`${server.url}/create_resource_pool`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...AS_ADMIN, pool_size: 3 }),
        signal: gone.signal,
      }).catch(() => {})
      await until(
        async () => (await server.call('GET', '/maintenance')).body.Maintenance_VM_details[3] !== undefined,
      )
      gone.abort()
      await resize
      await stop(server)
      auditDatabase(server.folder)
    },
  )
})

it('after kill -9 the data folder is free at once', async () => {
  const server = await startServerProcess()
  await must(201, server.call('POST', '/user', ADMIN))
  server.kill('SIGKILL')
  assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL' })
  const next = await startServerProcess({ data: server.folder })
  assert.equal((await next.call('GET', '/user')).body.User_Details[1].email, ADMIN.email)
  await stop(next)
})
