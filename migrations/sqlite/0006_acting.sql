-- In what capacity a session was asked for: what kind of asker, and which agents act for it. Null: the
-- row is older than this column; whoever reads the recording again fills it in.
ALTER TABLE sessions ADD COLUMN acting TEXT;
