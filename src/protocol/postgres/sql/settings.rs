//! Settings that the gateway keeps by force, because its reading of statements rests on them.

/// Whether a setting is kept by force: it changes how text is read, which names mean what, who the
/// session is, or sends statements and parameters back as log messages.
pub fn forced_setting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FORCED.contains(&name.as_str()) || FORCED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether setting `name` to `value` leaves a forced setting as the gateway has set it.
pub(super) fn is_identical(name: &str, value: &str) -> bool {
    let plain: String =
        value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match name.to_ascii_lowercase().as_str() {
        "client_encoding" | "names" => matches!(plain.as_str(), "utf8" | "unicode"),
        "standard_conforming_strings" => matches!(plain.as_str(), "on" | "true" | "1" | "yes"),
        "search_path" => value.trim() == "public",
        "client_min_messages" => matches!(plain.as_str(), "notice" | "warning" | "error"),
        "row_security" => plain == "on",
        _ => false,
    }
}

/// What is said to whoever would change it.
pub(super) fn refusal(name: &str) -> String {
    format!("the setting `{}` is kept by the gateway", name.to_ascii_lowercase())
}

const FORCED: &[&str] = &[
    "search_path",
    "standard_conforming_strings",
    "backslash_quote",
    "escape_string_warning",
    "client_encoding",
    "names",
    "role",
    "session_authorization",
    "session_replication_role",
    "row_security",
    "client_min_messages",
    "transform_null_equals",
    "quote_all_identifiers",
    "local_preload_libraries",
    "session_preload_libraries",
    "dynamic_library_path",
    "jit_provider",
    "createrole_self_grant",
    "allow_system_table_mods",
];

const FORCED_PREFIXES: &[&str] = &["log_", "debug_", "trace_", "auto_explain.", "pgaudit."];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reading_rests_on_is_kept() {
        for name in ["search_path", "Search_Path", "role", "log_statement", "debug_print_plan"] {
            assert!(forced_setting(name), "{name}");
        }
        for name in ["timezone", "datestyle", "application_name", "my.setting", "work_mem"] {
            assert!(!forced_setting(name), "{name}");
        }
    }

    #[test]
    fn the_gateways_own_values_are_harmless() {
        assert!(is_identical("client_encoding", "UTF8"));
        assert!(is_identical("client_encoding", "utf-8"));
        assert!(is_identical("standard_conforming_strings", "on"));
        assert!(!is_identical("client_encoding", "SJIS"));
        assert!(!is_identical("search_path", "public, other"));
        assert!(!is_identical("role", "none"));
        assert!(!is_identical("client_min_messages", "debug5"));
    }
}
