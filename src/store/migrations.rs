//! The tables: `migrations/sqlite` and `migrations/postgres`, in the binary.

use sqlx::SqlStr;
use sqlx::migrate::Migration;
use sqlx::migrate::MigrationType;
use sqlx::migrate::Migrator;

/// Those for SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator([
        (
            1,
            "sessions and holds",
            include_str!("../../migrations/sqlite/0001_sessions_and_holds.sql"),
        ),
        (2, "observe mode", include_str!("../../migrations/sqlite/0002_observe_mode.sql")),
        (
            3,
            "gateways and logins",
            include_str!("../../migrations/sqlite/0003_gateways_and_logins.sql"),
        ),
        (
            4,
            "commands and keys",
            include_str!("../../migrations/sqlite/0004_commands_and_keys.sql"),
        ),
        (5, "retention", include_str!("../../migrations/sqlite/0005_retention.sql")),
        (6, "acting", include_str!("../../migrations/sqlite/0006_acting.sql")),
        (7, "names", include_str!("../../migrations/sqlite/0007_names.sql")),
    ])
}

/// Those for PostgreSQL. They begin with the third, which makes all that was before.
pub(super) fn postgres() -> Migrator {
    migrator([
        (3, "state", include_str!("../../migrations/postgres/0003_state.sql")),
        (
            4,
            "commands and keys",
            include_str!("../../migrations/postgres/0004_commands_and_keys.sql"),
        ),
        (5, "retention", include_str!("../../migrations/postgres/0005_retention.sql")),
        (6, "acting", include_str!("../../migrations/postgres/0006_acting.sql")),
        (7, "names", include_str!("../../migrations/postgres/0007_names.sql")),
    ])
}

fn migrator<const COUNT: usize>(all: [(i64, &'static str, &'static str); COUNT]) -> Migrator {
    let migration = |(number, name, text): (i64, &'static str, &'static str)| {
        let text = SqlStr::from_static(text);
        Migration::new(number, name.into(), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(all.into_iter().map(migration).collect())
}
