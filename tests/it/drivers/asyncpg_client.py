"""asyncpg through the gateway; prints `done` when everything was as it should be."""

import asyncio
import datetime
import os
import ssl

import asyncpg


async def main():
    tls = ssl.create_default_context(cafile=os.environ["CA"])
    alice = await asyncpg.connect(
        host="localhost", port=int(os.environ["PORT"]), user="alice", database="customers",
        password=os.environ["ALICE"], ssl=tls)
    row = await alice.fetchrow("SELECT id, email, created_at FROM customers WHERE id = $1", 1)
    created = datetime.datetime(2024, 1, 8, 8, 12, tzinfo=datetime.timezone.utc)
    assert tuple(row) == (1, "<masked:pii.email>", created), row
    try:
        await alice.execute("DELETE FROM customers")
        raise AssertionError("it was not refused")
    except asyncpg.InsufficientPrivilegeError as error:
        assert error.detail == "decided by: customers.no-mass-delete" and "WHERE" in error.hint
    try:
        async with alice.transaction():
            await alice.execute("INSERT INTO notes (body) VALUES ('asyncpg-a')")
            await alice.fetch("SELECT upper(email) FROM customers WHERE id = $1", 1)
        raise AssertionError("it was not refused")
    except asyncpg.InsufficientPrivilegeError as error:
        assert "classified" in str(error)
    statement = await alice.prepare("SELECT national_id FROM customers WHERE id = $1")
    for number in range(5):
        assert await statement.fetchval(number + 1) == "<masked:pii.national_id>"
    async with alice.transaction():
        rows = [tuple(row) async for row in alice.cursor(
            "SELECT id, email FROM customers WHERE id < 6 ORDER BY id", prefetch=2)]
    assert rows == [(n, "<masked:pii.email>") for n in range(1, 6)], rows
    try:
        await alice.fetch("SELECT count(*) FROM generate_series(1, 2000000000)", timeout=0.5)
        raise AssertionError("it was not canceled")
    except asyncio.TimeoutError:
        pass
    assert await alice.fetchval("SELECT 41 + $1", 1) == 42
    await alice.close()
    print("done")


asyncio.run(main())
