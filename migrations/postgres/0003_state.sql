-- The state of gateways that share one PostgreSQL: the tables of migrations/sqlite as they stand
-- after its third. From here on both folders have the same numbers. Times are microseconds since
-- 1970-01-01 UTC.

-- The index of sessions, holds and principals. The record itself is in the trails and the ledger
-- of the gateway that `gateway` names. `closed_at` is null while a session lives.
CREATE TABLE sessions (
    session    TEXT   PRIMARY KEY,
    opened_at  BIGINT NOT NULL,
    closed_at  BIGINT,
    reason     TEXT,
    issuer     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    country    TEXT,
    target     TEXT   NOT NULL,
    protocol   TEXT   NOT NULL,
    commands   BIGINT NOT NULL DEFAULT 0,
    denied     BIGINT NOT NULL DEFAULT 0,
    rows_out   BIGINT NOT NULL DEFAULT 0,
    bytes_out  BIGINT NOT NULL DEFAULT 0,
    masked     BIGINT NOT NULL DEFAULT 0,
    observe    BIGINT NOT NULL DEFAULT 0,
    gateway    TEXT   NOT NULL
);
CREATE INDEX sessions_by_time ON sessions (opened_at);
CREATE INDEX sessions_left_open ON sessions (gateway) WHERE closed_at IS NULL;

CREATE TABLE holds (
    hold       TEXT   PRIMARY KEY,
    session    TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    held_at    BIGINT NOT NULL,
    ended_at   BIGINT,
    ending     TEXT,
    decided_by TEXT,
    principal  TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    command    TEXT   NOT NULL,
    gateway    TEXT   NOT NULL
);
CREATE INDEX holds_by_time ON holds (held_at);
CREATE INDEX holds_left_open ON holds (gateway) WHERE ended_at IS NULL;

-- Who was seen last, as the claims were mapped then: for `weir policy explain --as NAME`.
CREATE TABLE principals (
    issuer  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    seen_at BIGINT NOT NULL,
    mapped  TEXT   NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX principals_by_name ON principals (name, seen_at);

-- One principal on one device. `ended_at` and `ended_why` are null while it stands, `refresh` is
-- the provider's refresh token, sealed. `changed_at` is when the row was written last.
CREATE TABLE logins (
    login          TEXT   PRIMARY KEY,
    issuer         TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    sid            TEXT,
    principal      TEXT   NOT NULL,
    authentication TEXT   NOT NULL,
    device         TEXT   NOT NULL,
    began_at       BIGINT NOT NULL,
    ends_at        BIGINT NOT NULL,
    good_until     BIGINT NOT NULL,
    refresh        BYTEA,
    ended_at       BIGINT,
    ended_why      TEXT,
    changed_at     BIGINT NOT NULL
);
CREATE INDEX logins_by_principal ON logins (issuer, subject);
CREATE INDEX logins_by_sid ON logins (sid);
CREATE INDEX logins_by_change ON logins (changed_at);

-- What clients show, as a SHA-256 digest: no secret is in this table.
CREATE TABLE credentials (
    credential TEXT   PRIMARY KEY,
    login      TEXT   NOT NULL REFERENCES logins (login) ON DELETE CASCADE,
    form       TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT,
    ended_why  TEXT,
    changed_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX credentials_by_digest ON credentials (digest);
CREATE INDEX credentials_by_login ON credentials (login);
CREATE INDEX credentials_by_change ON credentials (changed_at);
