-- The index of sessions, holds and principals. The record itself is in the trails and the ledger; this index
-- answers "which sessions were there?" without reading them all. Times are microseconds since
-- 1970-01-01 UTC. `closed_at` is null while a session lives.
CREATE TABLE sessions (
    session    TEXT   PRIMARY KEY NOT NULL,
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
    masked     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_time ON sessions (opened_at);

CREATE TABLE holds (
    hold       TEXT   PRIMARY KEY NOT NULL,
    session    TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    held_at    BIGINT NOT NULL,
    ended_at   BIGINT,
    ending     TEXT,
    decided_by TEXT,
    principal  TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    command    TEXT   NOT NULL
);
CREATE INDEX holds_by_time ON holds (held_at);

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
