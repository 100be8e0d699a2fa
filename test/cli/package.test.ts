/**
 * The package that is published works: packed from a copy of this working tree, installed with its dependencies into an
 * empty project, and run from there, as JavaScript and without anything else of this project.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startProgram, startServerProcess, temporaryFolder } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN } from '../support/test-server.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

it('packed, installed elsewhere and started, it serves, checks a machine out, and stops', async () => {
  const temporary = await temporaryFolder()
  const copy = join(temporary, 'copy')
  const project = join(temporary, 'project')
  await copyTree(copy)
  await npm(copy, 'pack', '--pack-destination', temporary)
  const tarball = (await readdir(temporary)).find((name) => name.endsWith('.tgz'))
  assert.ok(tarball, 'npm pack made no tarball')

  await mkdir(project)
  await writeFile(join(project, 'package.json'), '{ "name": "project", "private": true }')
  const install = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline']
  await npm(project, ...install, join(temporary, tarball))
  const installed = join(project, 'node_modules', 'berth')
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
  assert.equal(JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')).version, version)
  const files = await readdir(installed, { recursive: true })
  assert.ok(files.includes(join('dist', 'cli', 'main.js')))
  assert.deepEqual(
    files.filter((file) => /(^|\/)(src|test|bench|data)\/|\.test\.|(?<!\.d)\.ts$/.test(file)),
    [],
    'the package has files that nobody needs',
  )

  const program = { main: join(installed, 'dist', 'cli', 'main.js'), cwd: project }
  const help = startProgram(['--help'], program)
  assert.deepEqual(await help.exited, { code: 0, signal: null }, help.stderr.join('\n'))
  assert.ok(
    existsSync(join(project, 'node_modules', '.bin', 'berth')),
    'the command `berth` is not installed',
  )

  const server = await startServerProcess(program)
  const call = async (path: string, body: object) => {
    const reply = await server.call('POST', path, body)
    assert.equal(reply.status, 201, JSON.stringify(reply.body))
    return reply.body
  }
  await call('/user', ADMIN)
  await call('/create_resource_pool', { ...AS_ADMIN, pool_size: 2 })
  assert.equal((await call('/checkout_vm', AS_ADMIN))['VM Details']['vm-Id'], 1)
  server.kill('SIGTERM')
  assert.deepEqual(await server.exited, { code: 0, signal: null })
  assert.deepEqual(server.stderr, [])
})

/** What belongs to the project, as it lies here; with its dependencies, which packing needs to build. */
async function copyTree(to: string): Promise<void> {
  const { stdout } = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
    cwd: ROOT,
  })
  for (const file of stdout.split('\0')) {
    if (file === '' || !existsSync(join(ROOT, file))) continue
    await mkdir(dirname(join(to, file)), { recursive: true })
    await cp(join(ROOT, file), join(to, file))
  }
  await symlink(join(ROOT, 'node_modules'), join(to, 'node_modules'))
}

/** Runs npm as in a shell of its own: what an npm around this test has set for itself is not passed on. */
async function npm(cwd: string, ...args: string[]): Promise<void> {
  const own =
    /^(npm_(package|lifecycle|command|config_local_prefix|config_prefix|node_execpath)|INIT_CWD|NODE_TEST_)/
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)))
  const path = [dirname(process.execPath), process.env.PATH].join(':')
  try {
    await run('npm', args, { cwd, env: { ...env, PATH: path } })
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    assert.fail(`npm ${args.join(' ')}: ${(error as Error).message}\n${stdout}\n${stderr}`)
  }
}
