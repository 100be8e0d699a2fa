/** What is shown of a database's URL. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { withoutPassword } from './address.ts'

it('a URL is shown without its password, wherever that stands', () => {
  for (const [url, shown] of [
    ['postgres://ada:secret@db.example.org:5432/berth', 'postgres://ada:***@db.example.org:5432/berth'],
    [
      'postgres://ada@db.example.org/berth?sslmode=require',
      'postgres://ada@db.example.org/berth?sslmode=require',
    ],
    ['postgres://ada:se%40cret@db/berth', 'postgres://ada:***@db/berth'],
    ['postgres://ada:se@cret@db/berth', 'postgres://ada:***@db/berth'],
    ['postgres://db/berth?user=ada&password=secret', 'postgres://db/berth?user=ada&password=***'],
    ['postgres://db/berth?password=a&password=secret', 'postgres://db/berth?password=***'],
    ['postgres:///berth?host=/run/postgresql', 'postgres:///berth?host=/run/postgresql'],
    ['postgres://ada:secret@db:port/berth', 'postgres://***'],
    ['secret', 'postgres://***'],
  ] as const)
    assert.equal(withoutPassword(url), shown)
})
