"""libpq 18 through the gateway, by psycopg: TLS without asking first, protocol 3.2 with its longer
keys, and OAUTHBEARER; prints `done` when everything was as it should be."""

import ctypes
import os
import threading

import psycopg
from psycopg import pq

PORT = os.environ["PORT"]
# What a session credential of alice's is, where there is one; else a provider's token.
SECRET = os.environ.get("SECRET", os.environ["ALICE"])


def connect(**more):
    wanted = dict(
        host="localhost", hostaddr="127.0.0.1", port=PORT, dbname="customers", user="alice",
        sslmode="verify-full", sslrootcert=os.environ["CA"], connect_timeout="30", autocommit=True)
    return psycopg.connect(**{**wanted, **more})


def refused(**more):
    try:
        connect(**more).close()
    except psycopg.OperationalError as error:
        return str(error)
    raise AssertionError("it was let in")


assert pq.version() >= 180000, pq.version()

# --- TLS at once, and protocol 3.2 --------------------------------------------------------------

library = next(line.split()[-1] for line in open("/proc/self/maps") if "/libpq-" in line)
libpq = ctypes.CDLL(library)


def version(conn):
    libpq.PQfullProtocolVersion.argtypes = [ctypes.c_void_p]
    return libpq.PQfullProtocolVersion(conn.pgconn.pgconn_ptr)


LONG = "SELECT count(*) FROM generate_series(1, 2000000000)"


def cancels(conn, cancel):
    """Runs a long query and cancels it until it ends: a cancel that comes early hits nothing."""
    ended = []

    def run():
        try:
            conn.execute(LONG)
        except psycopg.errors.QueryCanceled as error:
            ended.append(error)

    running = threading.Thread(target=run)
    running.start()
    while running.is_alive():
        cancel(conn)
        running.join(0.1)
    assert ended, "it was not canceled"
    assert conn.execute("SELECT 1").fetchone() == (1,)


for direct in ({}, {"sslnegotiation": "direct"}):
    for asked, spoken in (
        ({}, 30000),
        ({"max_protocol_version": "latest"}, 30002),
        ({"min_protocol_version": "3.2", "max_protocol_version": "3.2"}, 30002),
    ):
        with connect(password=SECRET, **direct, **asked) as conn:
            row = conn.execute("SELECT id, email FROM customers WHERE id = 1").fetchone()
            assert row == (1, "<masked:pii.email>"), row
            assert version(conn) == spoken, (asked, version(conn))
            # Inside TLS, and in the clear as PQcancel always does.
            cancels(conn, lambda conn: conn.cancel_safe(timeout=20))
            cancels(conn, lambda conn: conn.cancel())

# --- OAUTHBEARER ---------------------------------------------------------------------------------


class Request(ctypes.Structure):
    """PGoauthBearerRequest of libpq-fe.h."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p), ("scope", ctypes.c_char_p),
        ("poll", ctypes.c_void_p), ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p), ("user", ctypes.c_void_p)]


asked = []
token = None


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def hook(kind, _conn, data):
    if kind != 1:  # PQAUTHDATA_OAUTH_BEARER_TOKEN
        return 0
    request = ctypes.cast(data, ctypes.POINTER(Request)).contents
    asked.append((request.openid_configuration, request.scope))
    request.token = token
    return 1


libpq.PQsetAuthDataHook(hook)
URL = f"https://localhost:{PORT}"
OAUTH = dict(options="-c weir.auth=oauth", oauth_issuer=URL, oauth_client_id="psql")

token = SECRET.encode()
for direct in ({}, {"sslnegotiation": "direct"}):
    with connect(**OAUTH, **direct, require_auth="oauth") as conn:
        row = conn.execute("SELECT email FROM customers WHERE id = 1").fetchone()
        assert row == ("<masked:pii.email>",), row
assert asked == [(f"{URL}/.well-known/openid-configuration".encode(), b"postgres")] * 2, asked

# A client that knows where already asks the gateway nothing and comes with its token at once.
with connect(**{**OAUTH, "oauth_issuer": f"{URL}/.well-known/openid-configuration"}) as conn:
    assert conn.execute("SELECT 1").fetchone() == (1,)

for bad in ("weir_s_" + "A" * 43, "nonsense"):
    token = bad.encode()
    said = refused(**OAUTH)
    assert "the credential was not accepted" in said and "weir login" in said, said
token = SECRET.encode()
said = refused(**{**OAUTH, "oauth_issuer": "https://elsewhere.example"})
assert "issuer" in said, said
said = refused(**{**OAUTH, "user": "dana"})
assert "connect with user=alice" in said, said
print("done")
