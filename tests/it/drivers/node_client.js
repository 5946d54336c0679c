// node-postgres through the gateway; prints `done` when everything was as it should be.
const assert = require("node:assert");
const fs = require("node:fs");
const { Client } = require("pg");

async function connect(person) {
  const client = new Client({
    host: "localhost",
    port: Number(process.env.PORT),
    user: person,
    password: process.env[person.toUpperCase()],
    database: "customers",
    ssl: { ca: fs.readFileSync(process.env.CA) },
  });
  await client.connect();
  return client;
}

async function refused(work, message) {
  const error = await work().then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(error.code, "42501", error.message);
  assert.ok(error.message.includes(message), error.message);
  return error;
}

async function main() {
  const alice = await connect("alice");
  const byId = "SELECT id, email, created_at FROM customers WHERE id = $1";
  const created = new Date("2024-01-08T08:12:00Z");
  for (const query of [{ text: byId }, { name: "q", text: byId }, { name: "q", text: byId }, { text: byId, binary: true }]) {
    const { rows } = await alice.query({ ...query, values: [1] });
    assert.deepEqual([rows[0].id, rows[0].email], [1, "<masked:pii.email>"]);
    assert.equal(rows[0].created_at.getTime(), created.getTime());
  }
  const error = await refused(() => alice.query("DELETE FROM customers"), "every row at once");
  assert.equal(error.detail, "decided by: customers.no-mass-delete");
  assert.ok(error.hint.includes("WHERE"));
  await refused(() => alice.query("SELECT lower(email) FROM customers WHERE id = $1", [1]), "classified");
  await alice.query("BEGIN");
  await alice.query("INSERT INTO notes (body) VALUES ($1)", ["node-a"]);
  await refused(() => alice.query("TRUNCATE customers"), "every row");
  assert.equal((await alice.query("COMMIT")).command, "ROLLBACK");
  // Queued without waiting.
  const many = await Promise.all([...Array(40).keys()].map((n) => alice.query("SELECT $1::int AS n", [n])));
  assert.deepEqual(many.map((result) => result.rows[0].n), [...Array(40).keys()]);
  await alice.end();
  const olaf = await connect("olaf");
  const { rows } = await olaf.query("SELECT email FROM customers WHERE id = $1", [1]);
  assert.equal(rows[0].email, "frieda.ackerbrot@example.com");
  await olaf.end();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
