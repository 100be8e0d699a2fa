/**
 * The real program as a process of its own, for what only a process can show: being killed, started again, told to stop.
 * Only processes that were started here are ended, by their pid, and none outlives the test file.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Reply } from './test-server.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Where node keeps what it has compiled of the program: it then starts in half the time. */
const COMPILED = fileURLToPath(new URL('../../node_modules/.cache/compiled', import.meta.url))

interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ProgramProcess {
  readonly pid: number
  /** What it has printed so far, line by line. */
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  /** Resolves once it has ended and all that it printed is here. */
  readonly exited: Promise<Exit>
  kill(signal: NodeJS.Signals): void
}

export interface ServerProcess extends ProgramProcess {
  readonly url: string
  /** The data folder. */
  readonly folder: string
  /** Sends a request with a JSON body, when one is given, and reads the answer. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>
}

export interface ProgramSettings {
  readonly env?: Readonly<Record<string, string>>
  /** The program's file; unless given, the one in src. */
  readonly main?: string
  readonly cwd?: string
  /** A command that the program is run under, in the same process (as `strace -D`). */
  readonly under?: readonly string[]
}

const running = new Set<ChildProcess>()
const folders = new Set<string>()

function endAll(): void {
  for (const child of running) child.kill('SIGKILL')
  running.clear()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
  folders.clear()
}

process.on('exit', endAll)
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  process.once(signal, () => {
    endAll()
    process.kill(process.pid, signal)
  })
after(endAll)

/** A folder that is removed when the test file has ended. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-'))
  folders.add(folder)
  return folder
}

/** Starts `berth` with these arguments. Its environment has no setting of Berth but those in `env`. */
export function startProgram(args: readonly string[], settings: ProgramSettings = {}): ProgramProcess {
  const { env = {}, main = MAIN, cwd, under = [] } = settings
  const [command = '', ...rest] = [...under, process.execPath, main, ...args]
  const outer = Object.entries(process.env).filter(([name]) => !/^(BERTH_|NODE_TEST_)/.test(name))
  const child = spawn(command, rest, {
    cwd: cwd ?? process.cwd(),
    env: {
      ...Object.fromEntries(outer),
      ...(main === MAIN ? { NODE_COMPILE_CACHE: COMPILED } : {}),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal })
    })
  })
  // Whoever does not ask how it ended is not told by an unhandled rejection either.
  exited.catch(() => running.delete(child))
  return {
    pid: child.pid ?? 0,
    stdout: linesOf(child.stdout),
    stderr: linesOf(child.stderr),
    exited,
    kill(signal) {
      child.kill(signal)
    },
  }
}

function linesOf(stream: NodeJS.ReadableStream): string[] {
  const lines: string[] = []
  createInterface({ input: stream }).on('line', (line) => lines.push(line))
  return lines
}

/** Starts `berth serve` on a free port of 127.0.0.1 and waits until it listens. Rejects with what it printed when it ends instead. */
export async function startServerProcess(
  settings: ProgramSettings & { readonly data?: string; readonly args?: readonly string[] } = {},
): Promise<ServerProcess> {
  const folder = settings.data ?? join(await temporaryFolder(), 'data')
  const port = settings.args?.includes('--port') || settings.env?.BERTH_PORT !== undefined
  const database = settings.args?.includes('--database') ? [] : ['--data', folder]
  const args = ['serve', ...(port ? [] : ['--port', '0']), ...database, ...(settings.args ?? [])]
  const program = startProgram(args, settings)
  const { url } = await listeningLine(program)
  return { ...program, url, folder, call: callsTo(url) }
}

/** The log line of a server that listens. Rejects when the program ends without it. */
export async function listeningLine(program: ProgramProcess): Promise<{ url: string; data: string }> {
  let ended: Exit | null = null
  void program.exited.then((exit) => {
    ended = exit
  })
  return until(() => {
    const entry = program.stdout.map(parsed).find((entry) => entry?.msg === 'listening')
    if (entry !== undefined) return entry as { msg: string; url: string; data: string }
    if (ended === null) return null
    const printed = [...program.stdout, ...program.stderr].join('\n')
    throw new Error(`the server ended (${JSON.stringify(ended)}) before it listened; it printed:\n${printed}`)
  })
}

/** A line of the log as an object; null for any other line. */
export function parsed(line: string): { readonly msg?: string } | null {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}

function callsTo(url: string): ServerProcess['call'] {
  return async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text), headers: response.headers }
  }
}

/** A fact that has not come true by then never will. */
const PATIENCE_MS = 60_000

/** Asks again and again until `fact` answers something else than false or null, and returns it. */
export async function until<T>(fact: () => Promise<T | false | null> | T | false | null): Promise<T> {
  const endMs = performance.now() + PATIENCE_MS
  for (;;) {
    const answer = await fact()
    if (answer !== false && answer !== null) return answer
    if (performance.now() > endMs) throw new Error(`this did not come true: ${fact}`)
    await pause(5)
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
