import * as fc from 'fast-check'
import t from 'tap'
import { readItems } from './list-items.js'

const LIMIT = 1 << 20

async function read(text: string, sizes: readonly number[], limit = LIMIT) {
  const bytes = Buffer.from(text)
  const chunks = async function* () {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const size = sizes[i % sizes.length] ?? 1
      yield bytes.subarray(at, at + size)
      at += size
    }
  }
  const items: unknown[] = []
  const reader = readItems(chunks(), limit)
  for (;;) {
    const { done, value } = await reader.next()
    if (done === true) return { items, list: value }
    items.push(value)
  }
}

t.test(
  'whatever a list holds, and however it is cut, it is what JSON.parse makes of it',
  async (t) => {
    const member = fc.dictionary(fc.oneof(fc.string(), fc.constant('items')), fc.jsonValue())
    const space = fc.constantFrom(undefined, 1, '\t')
    await fc.assert(
      fc.asyncProperty(
        fc.array(member),
        member,
        member,
        space,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        async (items, before, after, indent, sizes) => {
          // Members that are called so before the real one would be lists of their own.
          const rest = (fields: object) =>
            Object.fromEntries(Object.entries(fields).filter(([name]) => name !== 'items'))
          const whole = { ...rest(before), items, ...rest(after) }
          const text = JSON.stringify(whole, null, indent)
          const { list, items: found } = await read(text, sizes)
          const twin = JSON.parse(text) as { items: unknown[] }
          t.same(found, twin.items)
          t.same(list, { ...twin, items: [] })
        },
      ),
      { numRuns: 500 },
    )
  },
)

t.test('what is no list', async (t) => {
  t.same(await read('{"a":[{"items":[{"b":1}]}],"c":"\\"items\\":["}', [3]), {
    items: [],
    list: { a: [{ items: [{ b: 1 }] }], c: '"items":[' },
  })
  t.same(await read('{"items":null}', [2]), { items: [], list: { items: null } })
  t.same(await read('{"items":[7,"x",{"a":1}]}', [2]), { items: [{ a: 1 }], list: { items: [] } })
  for (const text of ['', '<html>', '{"items":[{"a":1}', '{"items":[{]}', '{"items":[{"a":}]}']) {
    await t.rejects(read(text, [4]), SyntaxError, text)
  }
  await t.rejects(read(`{"items":[{"a":"${'x'.repeat(99)}"}]}`, [5], 90), /more than 90 bytes/)
  await t.rejects(read(`{"a":"${'x'.repeat(99)}"}`, [5], 90), /more than 90 bytes/)
})
