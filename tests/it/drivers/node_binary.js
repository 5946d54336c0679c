// node-postgres' own reading of binary values, straight from the server and through the gateway: the
// same, whatever it is. Prints `done`.
const assert = require("node:assert");
const fs = require("node:fs");
const { Client } = require("pg");

const TEXT = `SELECT created_at, created_at::timestamp AS plain, id, id::bigint AS big, id::float8 AS float,
  id::numeric AS numeric, id > 1 AS bool, city, now() > created_at AS later FROM customers WHERE id < $1 ORDER BY id`;

async function rows(settings, binary) {
  const client = new Client(settings);
  await client.connect();
  const { rows } = await client.query({ text: TEXT, values: [6], binary });
  await client.end();
  return rows;
}

async function main() {
  const through = {
    host: "localhost", port: Number(process.env.PORT), user: "olaf", password: process.env.OLAF,
    database: "customers", ssl: { ca: fs.readFileSync(process.env.CA) },
  };
  const straight = {
    host: "127.0.0.1", port: Number(process.env.DIRECT_PORT), user: process.env.DIRECT_USER,
    password: process.env.DIRECT_PASSWORD, database: "customers", ssl: { rejectUnauthorized: false },
  };
  for (const binary of [false, true]) {
    const [ours, theirs] = [await rows(through, binary), await rows(straight, binary)];
    assert.equal(ours.length, 5);
    // As text: dates of the binary reading carry functions, which are never the same.
    assert.equal(JSON.stringify(ours), JSON.stringify(theirs));
  }
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
