-- Whether the session's target was in observe mode when it began: 1 if so.
ALTER TABLE sessions ADD COLUMN observe BIGINT NOT NULL DEFAULT 0;
