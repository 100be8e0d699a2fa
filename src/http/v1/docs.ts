/**
 * The OpenAPI document at /api/v1/openapi.json, and the same for people at /docs: one page, written once at the start, without
 * scripts and without anything from elsewhere. Each code of a problem has its place there.
 */
import { hash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { REFUSALS, type RefusalCode, refusal } from '../../domain/refusal.ts'
import { openApiOf, refusalsOf } from './openapi.ts'
import { type Route, route, said } from './route.ts'

export function documentRoute(routes: readonly Route[]): Route {
  let text = ''
  const document: Route = route({
    method: 'GET',
    path: '/openapi.json',
    id: 'getDocument',
    tag: 'document',
    summary: 'This document',
    auth: 'none',
    answers: {
      200: {
        description: 'OpenAPI 3.1',
        schema: Type.Unsafe<object>({ type: 'object', additionalProperties: true }),
      },
    },
    async handle() {
      return said(200, text, { 'content-type': 'application/json; charset=utf-8' })
    },
  })
  text = JSON.stringify(openApiOf([...routes, document]))
  return document
}

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #1b1f24; background: #fff }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; background: #f4f5f7; padding: .75rem; border-radius: 4px }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5d9de }
h3 { margin: 2rem 0 .25rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e6e9ec }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600 }
:target { background: #fff4c2 }
a { color: #0b57a4 }
@media (prefers-color-scheme: dark) {
  body { color: #e4e7ea; background: #16191d } pre { background: #20252b } a { color: #7db8f0 }
  h2 { border-color: #3a4149 } td, th { border-color: #2b3138 } :target { background: #4a4217 }
}`

export function docsRoute(app: FastifyInstance, routes: readonly Route[]): void {
  const page = pageOf(routes)
  const style = hash('sha256', STYLE, 'base64')
  const policy = `default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
  app.get('/docs', (_request, reply) =>
    reply
      .header('content-type', 'text/html; charset=utf-8')
      .header('content-security-policy', policy)
      .header('x-content-type-options', 'nosniff')
      .header('referrer-policy', 'no-referrer')
      .send(page),
  )
}

function pageOf(routes: readonly Route[]): string {
  const tags = [...new Set(routes.map(({ tag }) => tag))]
  const document = openApiOf(routes)
  const { schemas } = document.components as { schemas: Record<string, unknown> }
  const { description } = document.info as { description: string }
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Berth API</title><style>${STYLE}</style></head><body>
<h1>Berth API, version 1</h1>
${description
  .split('\n\n')
  .map((paragraph) => `<p>${marked(paragraph)}</p>`)
  .join('\n')}
<p>For programs: <a href="/api/v1/openapi.json">OpenAPI 3.1</a>.</p>
<nav><ul>${tags.map((tag) => `<li><a href="#tag-${tag}">${html(tag)}</a></li>`).join('')}
<li><a href="#problems">problems</a></li><li><a href="#schemas">schemas</a></li></ul></nav>
${tags
  .map(
    (tag) =>
      `<h2 id="tag-${tag}">${html(tag)}</h2>\n${routes
        .filter((row) => row.tag === tag)
        .map(routeOf)
        .join('\n')}`,
  )
  .join('\n')}
<h2 id="problems">Problems</h2>
<p>Every refusal is <code>application/problem+json</code> with these codes. In the texts, <code>&lt;name&gt;</code> stands for a value.</p>
<table><tr><th>code</th><th>status</th><th>text</th></tr>
${(Object.keys(REFUSALS) as RefusalCode[]).map(problemRow).join('\n')}
</table>
<h2 id="schemas">Schemas</h2>
${Object.entries(schemas)
  .map(([name, schema]) => `<h3 id="schema-${name}">${html(name)}</h3>\n<pre>${linked(schema)}</pre>`)
  .join('\n')}
</body></html>
`
}

function routeOf(row: Route): string {
  const rights =
    row.auth === 'bearer'
      ? 'needs a token'
      : row.auth === 'optional'
        ? 'a token if you have one'
        : 'needs no token'
  const action = row.action === undefined ? '' : `, and the right <code>${row.action}</code>`
  const parts: [string, string][] = []
  for (const [place, schema] of [
    ['path', row.params],
    ['query', row.query],
  ] as const)
    for (const [name, of] of Object.entries(schema?.properties ?? {}))
      parts.push([`${place}: <code>${html(name)}</code>`, `<code>${linked(of)}</code>`])
  if (row.body !== undefined) parts.push(['body', schemaOf(row.body)])
  for (const [status, { description, schema }] of Object.entries(row.answers))
    parts.push([status, `${html(description)}${schema === null ? '' : ` ${schemaOf(schema)}`}`])
  const codes = refusalsOf(row).map((code) => `<a href="#${code}">${code}</a>`)
  parts.push(['refused', codes.join(', ')])
  return `<h3 id="${row.id}"><span class="method">${row.method}</span><code>/api/v1${html(row.path)}</code></h3>
<p>${marked(row.summary)}; ${rights}${action}.${row.description === undefined ? '' : ` ${marked(row.description)}`}</p>
<table>${parts.map(([what, how]) => `<tr><td>${what}</td><td>${how}</td></tr>`).join('')}</table>`
}

function schemaOf(schema: object): string {
  const { title } = schema as { title?: string }
  return title === undefined
    ? `<pre>${linked(schema)}</pre>`
    : `<a href="#schema-${title}">${html(title)}</a>`
}

function linked(schema: unknown): string {
  return html(JSON.stringify(schema, null, 1)).replace(
    /&quot;#\/components\/schemas\/(\w+)&quot;/g,
    '<a href="#schema-$1">&quot;$1&quot;</a>',
  )
}

/** Details of which each shows its own name. */
const NAMES = new Proxy({}, { get: (_, name) => `<${String(name)}>` })

function problemRow(code: RefusalCode): string {
  const { status, message } = refusal(code, NAMES as never)
  return `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${html(message)}</td></tr>`
}

function marked(text: string): string {
  return html(text).replace(/`([^`]+)`/g, '<code>$1</code>')
}

function html(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`).replace(/&#34;/g, '&quot;')
}
