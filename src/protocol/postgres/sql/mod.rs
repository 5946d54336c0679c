//! What an SQL statement does, read with PostgreSQL's own grammar.
