// airtable.js, unmodified: only its endpoint and its key are the proxy's.
import assert from 'node:assert/strict'
import test from 'node:test'
import Airtable from 'airtable'
import { apiRoot, key, row, rows } from './mirror.mjs'

const airtable = new Airtable({ apiKey: key, endpointUrl: `${apiRoot}/api.airtable.com`, noRetryIfRateLimited: true })
const base = airtable.base('appFakeBase000001')
const products = base('Product Inventory')
const table = 'product_inventory'

test('create, find, update, replace and destroy one record', async () => {
	const made = await products.create({ Name: 'one', Quantity: 2, 'In Stock?': true, Tags: ['red'] })
	assert.equal(row(table, made.id).name, 'one')
	assert.equal(row(table, made.id).in_stock, true)
	assert.equal((await products.find(made.id)).get('Name'), 'one')

	await products.update(made.id, { Quantity: 3 })
	assert.deepEqual([row(table, made.id).name, row(table, made.id).quantity], ['one', 3])

	await products.replace(made.id, { Name: 'replaced' })
	const replaced = row(table, made.id)
	assert.deepEqual([replaced.name, replaced.quantity, replaced.in_stock, replaced.tags], ['replaced', null, false, null])

	assert.equal((await products.destroy(made.id)).id, made.id)
	assert.equal(row(table, made.id), undefined)
})

test('batches of ten', async () => {
	const made = await products.create([...Array(10).keys()].map(n => ({ fields: { Name: `batch ${n}` } })))
	assert.equal(made.length, 10)
	for (const [n, record] of made.entries()) assert.equal(row(table, record.id).name, `batch ${n}`)

	await products.update(made.map(record => ({ id: record.id, fields: { Quantity: 7 } })))
	assert.ok(made.every(record => row(table, record.id).quantity === 7))

	await products.replace(made.slice(0, 2).map(record => ({ id: record.id, fields: { Name: 'again' } })))
	assert.deepEqual([row(table, made[1].id).name, row(table, made[1].id).quantity], ['again', null])

	await products.destroy(made.map(record => record.id))
	assert.ok(made.every(record => row(table, record.id) === undefined))
})

test('upsert and typecast', async () => {
	const options = { performUpsert: { fieldsToMergeOn: ['Phone'] }, typecast: true }
	const first = await products.update([{ fields: { Phone: '77', Name: 'upserted', Status: 'Never seen' } }], options)
	const id = first[0].id
	assert.deepEqual([row(table, id).name, row(table, id).status], ['upserted', 'Never seen'])
	await products.update([{ fields: { Phone: '77', Name: 'again' } }], options)
	assert.equal(row(table, id).name, 'again')
})

test('a record changes through its own methods', async () => {
	const record = await products.find('recProd0000000001')
	await record.patchUpdate({ Notes: 'patched' })
	assert.equal(row(table, record.id).notes, 'patched')
	await record.putUpdate({ Name: 'put' })
	assert.deepEqual([row(table, record.id).name, row(table, record.id).notes], ['put', null])
	await record.destroy()
	assert.equal(row(table, record.id), undefined)
})

test('tables with awkward names', async () => {
	for (const [name, mirror] of [['A/B Tests', 'a_b_tests'], ['🚀 Launch Plan', 'launch_plan'], ['100% done?', '_100_done']]) {
		const made = await base(name).create({ Name: name })
		assert.equal(row(mirror, made.id).name, name)
		await base(name).destroy([made.id])
		assert.equal(row(mirror, made.id), undefined)
	}
})

test('reads come from the API', async () => {
	const suppliers = base('Suppliers')
	assert.equal((await suppliers.select({ pageSize: 2 }).firstPage()).length, 2)
	assert.equal((await suppliers.select({ pageSize: 2 }).all()).length, 5)
	let pages = 0
	await suppliers.select({ pageSize: 2, fields: ['Name'] }).eachPage((records, next) => { pages += records.length > 0; next() })
	assert.equal(pages, 3)
	// over 15,000 characters the client turns to POST .../listRecords
	const filterByFormula = `OR(${Array(900).fill("{Name}='Supplier 3'").join(',')})`
	assert.deepEqual((await suppliers.select({ filterByFormula }).all()).map(r => r.get('Name')), ['Supplier 3'])
})

test("the API's errors and the proxy's arrive as the client's own", async () => {
	const before = rows(table).length
	await assert.rejects(products.create({ Nope: 1 }), { error: 'UNKNOWN_FIELD_NAME', statusCode: 422 })
	await assert.rejects(products.find('recNotThere000000'), { statusCode: 404 })
	await assert.rejects(airtable.base('appFakeBase000002')('Only Table').create({ Name: 'x' }), { statusCode: 404 })
	const stranger = new Airtable({ apiKey: 'sqk_wrong', endpointUrl: `${apiRoot}/api.airtable.com` })
	await assert.rejects(stranger.base('appFakeBase000001')('Suppliers').create({ Name: 'x' }), { statusCode: 403 })
	assert.equal(rows(table).length, before)
})
