//! Names of PostgreSQL's own functions, operators and types that do no more than compute.
//!
//! Allow-lists. A function is on it if it returns nothing but what its arguments, the clock, the
//! session or definitions say: no function that reads tables by name, runs SQL given as text,
//! reads files or large objects, changes anything, or waits. All names exist in versions 13 to 18
//! unless they are grouped as newer.

use crate::model::Effect;

/// Whether a function of `pg_catalog` with this name only computes.
pub(super) fn is_harmless_function(name: &str) -> bool {
    holds(FUNCTIONS, name)
}

/// Whether a name may follow a dot behind an expression: the fields of composite values that
/// built-in functions return.
pub(super) fn is_field(name: &str) -> bool {
    holds(FIELDS, name) || is_harmless_function(name)
}

/// The columns a built-in set-returning function gives, where they are not named after it.
pub(super) fn function_columns(name: &str) -> &'static [&'static str] {
    match name {
        "json_each" | "json_each_text" | "jsonb_each" | "jsonb_each_text" => &["key", "value"],
        "json_array_elements"
        | "json_array_elements_text"
        | "jsonb_array_elements"
        | "jsonb_array_elements_text" => &["value"],
        "aclexplode" => &["grantor", "grantee", "privilege_type", "is_grantable"],
        "pg_options_to_table" => &["option_name", "option_value"],
        "pg_get_keywords" => &["word", "catcode", "barelabel", "catdesc", "baredesc"],
        "_pg_expandarray" => &["x", "n"],
        "pg_partition_tree" => &["relid", "parentrelid", "isleaf", "level"],
        "pg_partition_ancestors" => &["relid"],
        _ => &[],
    }
}

/// Whether an operator of this name is one of `pg_catalog`'s.
pub(super) fn is_operator(name: &str) -> bool {
    holds(OPERATORS, name)
}

/// Whether a type of this name is one of `pg_catalog`'s whose input runs no foreign code.
pub(super) fn is_type(name: &str) -> bool {
    holds(TYPES, name)
}

/// What a function does beyond computing, if it is known.
pub(super) fn function_effects(name: &str) -> &'static [Effect] {
    match name {
        "nextval" | "setval" | "pg_notify" | "lo_creat" | "lo_create" | "lo_from_bytea"
        | "lo_put" | "lowrite" | "lo_truncate" | "lo_truncate64" => &[Effect::Write],
        "lo_open" | "lo_close" | "loread" | "lo_get" | "lo_lseek" | "lo_lseek64" | "lo_tell"
        | "lo_tell64" => &[Effect::Read],
        "lo_unlink" => &[Effect::Delete],
        "lo_import" => &[Effect::Write, Effect::Server],
        "set_config" | "setseed" | "currval" | "lastval" | "pg_export_snapshot" => {
            &[Effect::Session]
        }
        "query_to_xml"
        | "query_to_xmlschema"
        | "query_to_xml_and_xmlschema"
        | "table_to_xml"
        | "table_to_xmlschema"
        | "table_to_xml_and_xmlschema"
        | "schema_to_xml"
        | "schema_to_xmlschema"
        | "schema_to_xml_and_xmlschema"
        | "database_to_xml"
        | "database_to_xmlschema"
        | "database_to_xml_and_xmlschema"
        | "cursor_to_xml"
        | "cursor_to_xmlschema"
        | "ts_stat"
        | "ts_rewrite" => &[Effect::Execute, Effect::Opaque],
        _ => function_effects_by_prefix(name),
    }
}

/// Whether this is the name of a function of `pg_catalog` that is known here.
pub(super) fn is_known(name: &str) -> bool {
    is_harmless_function(name)
        || function_effects(name) != [Effect::Execute]
        || name.starts_with("pg_")
}

/// Whether the grammar uses this as an operator's name for a construct of its own.
pub(super) fn is_keyword(name: &str) -> bool {
    ["BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"].contains(&name)
}

fn function_effects_by_prefix(name: &str) -> &'static [Effect] {
    let begins = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    if begins(&["pg_advisory_", "pg_try_advisory_"]) {
        &[Effect::Session]
    } else if begins(&["pg_ls_", "pg_read_", "pg_stat_file", "pg_file_", "lo_export", "dblink"]) {
        &[Effect::Execute, Effect::Export]
    } else if begins(&["pg_logical_", "pg_create_logical_", "pg_create_physical_"]) {
        &[Effect::Server, Effect::Export]
    } else if begins(&[
        "pg_terminate_",
        "pg_cancel_",
        "pg_reload_",
        "pg_rotate_",
        "pg_promote",
        "pg_switch_",
        "pg_create_restore_",
        "pg_backup_",
        "pg_start_backup",
        "pg_stop_backup",
        "pg_wal_replay_",
        "pg_stat_reset",
        "pg_drop_replication_",
        "pg_copy_",
        "pg_replication_",
        "pg_import_",
        "pg_log_",
        "pg_restore_",
        "pg_clear_",
        "pg_sync_",
        "binary_upgrade_",
    ]) {
        &[Effect::Execute, Effect::Server]
    } else {
        &[Effect::Execute]
    }
}

fn holds(list: &[&str], name: &str) -> bool {
    list.iter().any(|line| line.split_ascii_whitespace().any(|word| word == name))
}

const FUNCTIONS: &[&str] = &[
    // Numbers
    "abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd",
    "cosh cot cotd degrees div exp factorial floor gcd lcm ln log log10 min_scale mod pi pow power",
    "radians random round scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket",
    // Text and bytes
    "ascii bit_length btrim char_length character_length chr concat concat_ws convert convert_from",
    "convert_to decode encode format get_bit get_byte initcap is_normalized left length lower lpad",
    "ltrim md5 normalize octet_length overlay parse_ident position quote_ident quote_literal",
    "quote_nullable regexp_match regexp_matches regexp_replace regexp_split_to_array",
    "regexp_split_to_table repeat replace reverse right rpad rtrim set_bit set_byte sha224 sha256",
    "sha384 sha512 split_part starts_with string_to_array strpos substr substring text textlen",
    "to_ascii to_hex translate upper like_escape similar_to_escape similar_escape",
    // Dates
    "age clock_timestamp date_bin date_part date_trunc extract isfinite justify_days justify_hours",
    "justify_interval make_date make_interval make_time make_timestamp make_timestamptz now overlaps",
    "statement_timestamp timeofday timezone to_char to_date to_number to_timestamp",
    "transaction_timestamp",
    // Casts in function form
    "bool bpchar date float4 float8 int2 int4 int8 interval name numeric oid time timestamp",
    "timestamptz timetz varchar",
    // Aggregates and windows
    "array_agg avg bit_and bit_or bool_and bool_or corr count covar_pop covar_samp cume_dist",
    "dense_rank every first_value lag last_value lead max min mode nth_value ntile percent_rank",
    "percentile_cont percentile_disc rank regr_avgx regr_avgy regr_count regr_intercept regr_r2",
    "regr_slope regr_sxx regr_sxy regr_syy row_number stddev stddev_pop stddev_samp string_agg sum",
    "var_pop var_samp variance",
    // Arrays, sets, enumerations, ranges
    "array_append array_cat array_dims array_fill array_length array_lower array_ndims",
    "array_position array_positions array_prepend array_remove array_replace array_to_string",
    "array_upper cardinality enum_first enum_last enum_range generate_series generate_subscripts",
    "int4range int8range isempty lower_inc lower_inf num_nonnulls num_nulls numrange daterange",
    "range_merge tsrange tstzrange unnest upper_inc upper_inf",
    // JSON and XML
    "array_to_json json_agg json_array_elements json_array_elements_text json_array_length",
    "json_build_array json_build_object json_each json_each_text json_extract_path",
    "json_extract_path_text json_object json_object_agg json_object_keys json_populate_record",
    "json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_agg",
    "jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array",
    "jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text",
    "jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match",
    "jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record",
    "jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record",
    "jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb xmlagg xmlcomment xmlexists xpath",
    "xpath_exists xml_is_well_formed",
    // Text search and UUIDs
    "numnode phraseto_tsquery plainto_tsquery querytree setweight strip to_tsquery to_tsvector",
    "ts_headline ts_rank ts_rank_cd websearch_to_tsquery gen_random_uuid",
    // Network addresses
    "abbrev broadcast family host hostmask inet_merge inet_same_family masklen netmask network",
    "set_masklen",
    // The session
    "current_database current_query current_schema current_schemas",
    "current_setting inet_client_addr inet_client_port inet_server_addr",
    "inet_server_port pg_backend_pid pg_client_encoding pg_conf_load_time pg_is_in_recovery",
    "pg_is_other_temp_schema pg_my_temp_schema pg_postmaster_start_time version",
    "nextval currval lastval pg_typeof pg_trigger_depth getdatabaseencoding",
    "pg_is_wal_replay_paused txid_current_if_assigned",
    // Definitions
    "_pg_expandarray aclexplode acldefault col_description format_type has_any_column_privilege",
    "has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege",
    "has_function_privilege has_language_privilege has_schema_privilege has_sequence_privilege",
    "has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege",
    "obj_description oidvectortypes pg_char_to_encoding pg_collation_for pg_collation_is_visible",
    "pg_column_is_updatable pg_conversion_is_visible pg_describe_object pg_encoding_max_length",
    "pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr",
    "pg_get_function_arg_default pg_get_function_arguments pg_get_function_identity_arguments",
    "pg_get_function_result pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef",
    "pg_get_keywords pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role",
    "pg_identify_object pg_identify_object_as_address pg_index_column_has_property",
    "pg_index_has_property pg_indexam_has_property pg_indexes_size pg_opclass_is_visible",
    "pg_operator_is_visible pg_opfamily_is_visible pg_options_to_table pg_partition_ancestors",
    "pg_partition_root pg_partition_tree pg_database_size pg_relation_is_publishable",
    "pg_relation_is_updatable pg_relation_size pg_size_bytes pg_size_pretty",
    "pg_statistics_obj_is_visible pg_table_is_visible pg_table_size pg_tablespace_location",
    "pg_tablespace_size pg_total_relation_size pg_ts_config_is_visible pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible row_security_active",
    "shobj_description to_regclass to_regnamespace to_regoper to_regoperator to_regproc",
    "to_regprocedure to_regrole to_regtype",
];

const FIELDS: &[&str] =
    &["n x grantor grantee privilege_type is_grantable key value option_name option_value word"];

const OPERATORS: &[&str] = &[
    "!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- /",
    "< <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ |",
    "|&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~*",
];

const TYPES: &[&str] = &[
    "aclitem bit bool box bpchar bytea char cid cidr circle date daterange float4 float8 inet int2",
    "int2vector int4 int4range int8 int8range interval json jsonb jsonpath line lseg macaddr macaddr8",
    "money name numeric numrange oid oidvector path pg_lsn point polygon record refcursor regclass",
    "regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure",
    "regrole regtype text tid time timestamp timestamptz timetz tsquery tsrange tstzrange tsvector",
    "uuid varbit varchar xid xid8 xml",
];
