-- Recordings that are kept whatever their time, until somebody lifts it.
CREATE TABLE legal_holds (
    session TEXT   PRIMARY KEY NOT NULL,
    gateway TEXT   NOT NULL,
    held_at BIGINT NOT NULL,
    held_by TEXT   NOT NULL,
    reason  TEXT   NOT NULL
);

-- When a session's recording was erased, or expired: nobody can read it any more.
ALTER TABLE sessions ADD COLUMN erased_at BIGINT;

-- Gateways whose index is being made again, and up to which session it is made.
CREATE TABLE reindexing (
    gateway TEXT PRIMARY KEY NOT NULL,
    reached TEXT NOT NULL
);
