// @hubspot/api-client, unmodified: only its base path and its access token are the proxy's.
import assert from 'node:assert/strict'
import test from 'node:test'
import { Client } from '@hubspot/api-client'
import { apiRoot, key, row, rows } from './mirror.mjs'

const hubspot = new Client({ accessToken: key, basePath: `${apiRoot}/api.hubapi.com` })
const { contacts, companies, associations } = hubspot.crm
const email = name => `${name}@clients.example.com`

test('create, read, update and archive one contact', async () => {
	const made = await contacts.basicApi.create({ properties: { email: email('ada'), firstname: 'Ada' }, associations: [] })
	assert.deepEqual([row('contact', made.id).email, row('contact', made.id).firstname], [email('ada'), 'Ada'])

	const read = await contacts.basicApi.getById(made.id, ['email', 'firstname'])
	assert.equal(read.properties.firstname, 'Ada')

	await contacts.basicApi.update(made.id, { properties: { lastname: 'Lovelace' } })
	assert.deepEqual([row('contact', made.id).firstname, row('contact', made.id).lastname], ['Ada', 'Lovelace'])

	await contacts.basicApi.update(email('ada'), { properties: { firstname: 'Augusta' } }, 'email')
	assert.equal(row('contact', made.id).firstname, 'Augusta')

	await contacts.basicApi.archive(made.id)
	assert.equal(row('contact', made.id), undefined)
})

test('batches', async () => {
	const inputs = [...Array(5).keys()].map(n => ({ properties: { email: email(`batch${n}`), firstname: `B${n}` }, associations: [] }))
	const made = (await contacts.batchApi.create({ inputs })).results
	assert.equal(made.length, 5)
	for (const contact of made) assert.equal(row('contact', contact.id).email, contact.properties.email)

	await contacts.batchApi.update({ inputs: made.map(({ id }) => ({ id, properties: { lastname: 'Batch' } })) })
	assert.ok(made.every(({ id }) => row('contact', id).lastname === 'Batch'))

	await contacts.batchApi.upsert({ inputs: [
		{ id: email('batch0'), idProperty: 'email', properties: { firstname: 'Upserted' } },
		{ id: email('fresh'), idProperty: 'email', properties: { email: email('fresh'), firstname: 'Fresh' } }] })
	assert.deepEqual(rows('contact', `email IN ('${email('batch0')}', '${email('fresh')}')`).map(r => r.firstname).sort(), ['Fresh', 'Upserted'])

	const read = await contacts.batchApi.read({ inputs: made.map(({ id }) => ({ id })), properties: ['lastname'], propertiesWithHistory: [] })
	assert.ok(read.results.every(r => r.properties.lastname === 'Batch'))

	await contacts.batchApi.archive({ inputs: made.map(({ id }) => ({ id })) })
	assert.ok(made.every(({ id }) => row('contact', id) === undefined))
})

test('search is a read', async () => {
	const before = rows('contact').length
	const found = await contacts.searchApi.doSearch({ limit: 3, properties: ['email'], filterGroups: [] })
	assert.equal(found.results.length, 3)
	assert.equal(rows('contact').length, before)
	assert.ok((await companies.basicApi.getPage(2)).results.length > 0)
})

test('associations with and without labels', async () => {
	const contact = await contacts.basicApi.create({ properties: { email: email('linked') }, associations: [] })
	const company = await companies.basicApi.create({ properties: { name: 'Linked Ltd' }, associations: [] })
	const pair = () => rows('associations_company_contact', `contact_id = '${contact.id}' AND company_id = '${company.id}'`)

	await associations.v4.basicApi.createDefault('contacts', contact.id, 'companies', company.id)
	assert.equal(pair().length, 1)
	const listed = await associations.v4.basicApi.getPage('contacts', contact.id, 'companies')
	assert.deepEqual(listed.results.map(r => String(r.toObjectId)), [company.id])

	await associations.v4.basicApi.create('contacts', contact.id, 'companies', company.id, [
		{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 1 }])
	assert.deepEqual(pair().map(r => r.labels), [['Primary']])

	await associations.v4.basicApi.archive('contacts', contact.id, 'companies', company.id)
	assert.equal(pair().length, 0)

	await associations.v4.batchApi.create('contacts', 'companies', { inputs: [{ _from: { id: contact.id }, to: { id: company.id },
		types: [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 279 }] }] })
	assert.equal(pair().length, 1)
	await companies.basicApi.archive(company.id)
	assert.equal(pair().length, 0)
})

test("the API's errors and the proxy's arrive as the client's own", async () => {
	const made = await contacts.basicApi.create({ properties: { email: email('twice') }, associations: [] })
	await assert.rejects(contacts.basicApi.create({ properties: { email: email('twice') }, associations: [] }), { code: 409 })
	assert.equal(rows('contact', `email = '${email('twice')}'`).length, 1)
	await contacts.basicApi.archive(made.id)
	const stranger = new Client({ accessToken: 'sqk_wrong', basePath: `${apiRoot}/api.hubapi.com` })
	await assert.rejects(stranger.crm.contacts.basicApi.getById(made.id), { code: 403 })
})
