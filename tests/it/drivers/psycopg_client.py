"""psycopg through the gateway; prints `done` when everything was as it should be."""

import datetime
import os

import psycopg
from psycopg import errors


def connect(person, **more):
    return psycopg.connect(
        host="localhost", hostaddr="127.0.0.1", port=os.environ["PORT"], dbname="customers",
        user=person, password=os.environ[person.upper()], sslmode="verify-full",
        sslrootcert=os.environ["CA"], **more)


def refused(work, message):
    try:
        work()
    except errors.InsufficientPrivilege as error:
        assert error.sqlstate == "42501" and message in str(error), error
        return error
    raise AssertionError("it was not refused")


BY_ID = "SELECT id, email, created_at FROM customers WHERE id = %s"
CREATED = datetime.datetime(2024, 1, 8, 8, 12, tzinfo=datetime.timezone.utc)

alice = connect("alice", autocommit=True)
for binary in (False, True):
    row = alice.cursor(binary=binary).execute(BY_ID, (1,)).fetchone()
    assert row == (1, "<masked:pii.email>", CREATED), row
for turn in range(8):
    row = alice.execute(BY_ID, (1,), prepare=True).fetchone()
    assert row[1] == "<masked:pii.email>", row
error = refused(lambda: alice.execute("DELETE FROM customers"), "every row at once")
assert error.diag.message_detail == "decided by: customers.no-mass-delete", error.diag.message_detail
assert "WHERE" in error.diag.message_hint
refused(lambda: alice.execute("SELECT lower(email) FROM customers WHERE id = %s", (1,)), "classified")
try:
    alice.execute("SELECT 1 +")
    raise AssertionError("a syntax error was taken")
except errors.SyntaxError as error:
    assert error.diag.statement_position == "11", error.diag.statement_position
try:
    alice.execute("INSERT INTO notes (id, body) VALUES (1, 'psycopg-a')")
    raise AssertionError("a key was taken twice")
except errors.UniqueViolation:
    pass
assert alice.execute("SELECT 1").fetchone() == (1,)

block = connect("alice")
block.execute("INSERT INTO notes (body) VALUES (%s)", ("psycopg-b",))
refused(lambda: block.execute("DELETE FROM customers"), "every row")
assert block.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
block.commit()
with block.transaction():
    try:
        with block.transaction():
            block.execute("INSERT INTO notes (body) VALUES ('psycopg-c')")
            block.execute("TRUNCATE customers")
        raise AssertionError("it was not refused")
    except errors.InsufficientPrivilege:
        pass
    assert block.execute("SELECT 'the savepoint holds'").fetchone()


def pipelined():
    with alice.pipeline():
        alice.execute("INSERT INTO notes (body) VALUES (%s)", ("psycopg-d",))
        alice.execute("DELETE FROM customers")
        alice.execute("INSERT INTO notes (body) VALUES (%s)", ("psycopg-e",))


refused(pipelined, "every row")
with alice.pipeline():
    cursors = [alice.execute("SELECT email, %s::int FROM customers LIMIT 1", (n,)) for n in range(50)]
assert [cursor.fetchone()[1] for cursor in cursors] == list(range(50))

# A cursor of SQL: refused where something is hidden, and the session goes on.
with block.cursor("named") as cursor:
    cursor.execute("SELECT id, city FROM customers ORDER BY id")
    refused(lambda: cursor.fetchmany(2), "cursor")
block.rollback()
refused(lambda: alice.execute("COPY notes TO STDOUT"), "COPY")
assert block.execute("SELECT 1").fetchone() == (1,)

olaf = connect("olaf")
with olaf.cursor("named") as cursor:
    cursor.execute("SELECT id, email FROM customers WHERE id < 4 ORDER BY id")
    assert cursor.fetchmany(1) == [(1, "frieda.ackerbrot@example.com")]
    assert len(cursor.fetchall()) == 2
refused(lambda: olaf.execute("INSERT INTO notes (body) VALUES ('psycopg-f')"), "")
print("done")
