-- What was asked, to be found by its words: a row for each different command of a session. It is
-- made from the recordings, and made again from them if it is lost. `digest` tells the commands of
-- a session apart; `cut` is 1 where `text` is only the beginning; `objects` has what is touched,
-- such as `read:table:public.customers`. `words` are cut by the gateway; those of `verb` and
-- `objects` have the weight A.
CREATE TABLE commands (
    command      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session      TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    verb         TEXT   NOT NULL,
    objects      TEXT   NOT NULL,
    text         TEXT   NOT NULL,
    cut          BIGINT NOT NULL,
    first_number BIGINT NOT NULL,
    first_at     BIGINT NOT NULL,
    last_at      BIGINT NOT NULL,
    times        BIGINT NOT NULL,
    denied       BIGINT NOT NULL,
    held         BIGINT NOT NULL,
    words        TSVECTOR NOT NULL
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX commands_by_digest ON commands (session, digest);
CREATE INDEX commands_denied ON commands (session) WHERE denied > 0;
CREATE INDEX commands_by_words ON commands USING gin (words);

-- Which classes the answers of a session's commands may have carried, shown (1) or masked (0), and
-- how much those answers were.
CREATE TABLE session_classes (
    session   TEXT   NOT NULL,
    class     TEXT   NOT NULL,
    shown     BIGINT NOT NULL,
    rows_out  BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    PRIMARY KEY (session, class, shown)
);
CREATE INDEX session_classes_by_class ON session_classes (class, session);

-- How many entries of a session's recording are in these tables. `forgotten_at`: the session was
-- erased, and is not read again.
CREATE TABLE indexed (
    session      TEXT   PRIMARY KEY,
    gateway      TEXT   NOT NULL,
    entries      BIGINT NOT NULL,
    forgotten_at BIGINT
);
CREATE INDEX indexed_by_gateway ON indexed (gateway) WHERE forgotten_at IS NULL;

-- The data keys of recordings, each wrapped by the key `kek`. `wrapped` is null once the key was
-- destroyed, and with it whatever the recording says.
CREATE TABLE recording_keys (
    session      TEXT   PRIMARY KEY,
    gateway      TEXT   NOT NULL,
    kek          TEXT   NOT NULL,
    wrapped      BYTEA,
    destroyed_at BIGINT,
    destroyed_by TEXT,
    reason       TEXT
);

CREATE INDEX holds_by_session ON holds (session);
