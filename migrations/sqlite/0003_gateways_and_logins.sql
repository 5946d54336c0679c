-- Several gateways may share one database: whose a session and a hold are. Rows from before are
-- this gateway's own.
ALTER TABLE sessions ADD COLUMN gateway TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN gateway TEXT NOT NULL DEFAULT '';
CREATE INDEX sessions_left_open ON sessions (gateway) WHERE closed_at IS NULL;
CREATE INDEX holds_left_open ON holds (gateway) WHERE ended_at IS NULL;

-- One principal on one device. `ended_at` and `ended_why` are null while it stands, `refresh` is
-- the provider's refresh token, sealed. `changed_at` is when the row was written last.
CREATE TABLE logins (
    login          TEXT   PRIMARY KEY NOT NULL,
    issuer         TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    sid            TEXT,
    principal      TEXT   NOT NULL,
    authentication TEXT   NOT NULL,
    device         TEXT   NOT NULL,
    began_at       BIGINT NOT NULL,
    ends_at        BIGINT NOT NULL,
    good_until     BIGINT NOT NULL,
    refresh        BLOB,
    ended_at       BIGINT,
    ended_why      TEXT,
    changed_at     BIGINT NOT NULL
);
CREATE INDEX logins_by_principal ON logins (issuer, subject);
CREATE INDEX logins_by_sid ON logins (sid);
CREATE INDEX logins_by_change ON logins (changed_at);

-- What clients show, as a SHA-256 digest: no secret is in this table.
CREATE TABLE credentials (
    credential TEXT   PRIMARY KEY NOT NULL,
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
