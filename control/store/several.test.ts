import t from 'tap'
import { mapSeveral } from './several.js'

t.test('results are in order, whatever the order of the answers', async (t) => {
  const list = Array.from({ length: 100 }, (_, i) => i)
  let underWay = 0
  let most = 0
  const results = await mapSeveral(list, async (n) => {
    most = Math.max(most, ++underWay)
    await new Promise((resolve) => setTimeout(resolve, (n * 7) % 5))
    underWay--
    return n * 2
  })
  t.same(
    results,
    list.map((n) => n * 2),
  )
  t.equal(most, 16, 'several at a time, and not more')
  t.same(await mapSeveral([], () => Promise.reject(new Error('never called'))), [])
})

t.test('a call that fails ends it, and nothing more is begun', async (t) => {
  const begun: number[] = []
  const failing = mapSeveral(
    Array.from({ length: 100 }, (_, i) => i),
    async (n) => {
      begun.push(n)
      await new Promise((resolve) => setTimeout(resolve, 1))
      if (n === 20) throw new Error('20 is bad')
    },
  )
  await t.rejects(failing, { message: '20 is bad' })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.ok(begun.length < 60, `${begun.length} begun`)
})
