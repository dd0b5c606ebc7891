/*
 * server.mjs - the peer of the benchmark: a service as a careful Node developer would write it.
 *
 * Forwards each request to UPSTREAM over kept-alive connections, and after a 2xx upserts the record into
 * Postgres (a pool, one prepared statement) before it answers.  It has no rate limit, no journal and no
 * recovery, so it does less than the proxy.  PORT, UPSTREAM (http://host:port), PGHOST, PGPORT and
 * COLUMNS (JSON: property -> is it a list) come from the environment.
 */
import http from 'node:http'
import pg from 'pg'

const upstream = new URL(process.env.UPSTREAM)
const columns = JSON.parse(process.env.COLUMNS)
const names = Object.keys(columns)
const agent = new http.Agent({ keepAlive: true, maxSockets: 256, maxFreeSockets: 256 })
const pool = new pg.Pool({ max: 16, user: 'postgres', database: 'postgres' })

const all = ['id', 'created_at', 'updated_at', ...names]
const upsert = {
  name: 'upsert',
  text: `INSERT INTO peer.contact (${all.join(', ')}, _sync_updated_at) VALUES (${all.map((_, i) => `$${i + 1}`).join(', ')}, now())
    ON CONFLICT (id) DO UPDATE SET ${all.slice(1).map((c) => `${c} = excluded.${c}`).join(', ')}, _sync_updated_at = now()
    WHERE contact.updated_at <= excluded.updated_at`,
}

function body(stream) {
  return new Promise((resolve, reject) => {
    const chunks = []
    stream.on('data', (c) => chunks.push(c))
    stream.on('end', () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)))
    stream.on('error', reject)
  })
}

function forward(request, sent) {
  return new Promise((resolve, reject) => {
    const headers = { ...request.headers, host: upstream.host, authorization: 'Bearer x' }
    const up = http.request({ agent, host: upstream.hostname, port: upstream.port, method: request.method, path: request.url, headers }, resolve)
    up.on('error', reject)
    up.end(sent)
  })
}

async function save(record) {
  const p = record.properties
  const values = names.map((n) => (p[n] === undefined || p[n] === '' ? null : columns[n] && p[n] !== null ? p[n].split(';') : p[n]))
  await pool.query({ ...upsert, values: [record.id, record.createdAt, record.updatedAt, ...values] })
}

async function serve(request, response) {
  const answer = await forward(request, await body(request))
  const bytes = await body(answer)
  if (request.method !== 'GET' && answer.statusCode >= 200 && answer.statusCode < 300)
    await save(JSON.parse(bytes))
  response.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'], 'content-length': bytes.length })
  response.end(bytes)
}

http.createServer((request, response) => {
  serve(request, response).catch((error) => {
    response.writeHead(502)
    response.end(String(error))
  })
}).listen(Number(process.env.PORT), '127.0.0.1')
