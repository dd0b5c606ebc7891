// What the clients' tests need of their surroundings: environment variables, and a look into the mirror.
import { execFileSync } from 'node:child_process'

function required(name) {
	const value = process.env[name]
	if (!value) throw new Error(`${name} is not set: test/e2e/test_clients.py starts these tests`)
	return value
}

export const apiRoot = required('SEQUIN_API_ROOT')
export const key = required('SEQUIN_KEY')
const schema = required('SEQUIN_SCHEMA')
const psql = JSON.parse(required('SEQUIN_PSQL'))	// the command with its arguments

function query(sql) {
	const out = execFileSync(psql[0], [...psql.slice(1), '-XAtc', `SELECT COALESCE(json_agg(r), '[]') FROM (${sql}) AS r`])
	return JSON.parse(out)
}

const literal = text => `'${String(text).replaceAll("'", "''")}'`

// The row as it is now: right after the client's promise, without any waiting.
export function row(table, id) {
	return query(`SELECT * FROM "${schema}"."${table}" WHERE id = ${literal(id)}`)[0]
}

export function rows(table, where = 'true') {
	return query(`SELECT * FROM "${schema}"."${table}" WHERE ${where}`)
}
