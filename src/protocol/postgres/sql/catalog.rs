//! The relations of `pg_catalog` and `information_schema` that carry definitions and no data.
//!
//! An allow-list: statistics, activity, large objects, passwords, sequences' values and whatever a
//! later version adds are not on it, so whoever may not see all classes cannot read them. Columns
//! that may hold values are left out of their relation. It knows names, and nothing of statements.

/// The columns of a relation on the list, if it is on it; their order is that of version 15 and
/// means nothing for other versions.
pub(super) fn columns(schema: &str, relation: &str) -> Option<impl Iterator<Item = &'static str>> {
    let list = match schema {
        "pg_catalog" => PG_CATALOG,
        "information_schema" => INFORMATION_SCHEMA,
        _ => return None,
    };
    let (_, columns) = list.iter().find(|(name, _)| *name == relation)?;
    Some(columns.split_ascii_whitespace())
}

/// Whether all columns of the relation may be read at once (`*`, whole rows): of some, a column
/// that is left out here may hold values, such as the bounds of partitions in `pg_class`.
pub(super) fn is_whole(relation: &str) -> bool {
    !["pg_class", "pg_attribute", "pg_statistic_ext"].contains(&relation)
}

/// Whether an unqualified name means a relation of `pg_catalog`, which is searched first. All of
/// its relations begin with `pg_`; extensions put theirs elsewhere.
pub(super) fn is_system_name(relation: &str) -> bool {
    relation.starts_with("pg_")
}

const PG_CATALOG: &[(&str, &str)] = &[
    (
        "pg_aggregate",
        "aggfnoid aggkind aggnumdirectargs aggtransfn aggfinalfn aggcombinefn aggserialfn \
         aggdeserialfn aggmtransfn aggminvtransfn aggmfinalfn aggfinalextra aggmfinalextra \
         aggfinalmodify aggmfinalmodify aggsortop aggtranstype aggtransspace aggmtranstype \
         aggmtransspace agginitval aggminitval",
    ),
    ("pg_am", "oid amname amhandler amtype"),
    (
        "pg_amop",
        "oid amopfamily amoplefttype amoprighttype amopstrategy amoppurpose amopopr \
         amopmethod amopsortfamily",
    ),
    ("pg_amproc", "oid amprocfamily amproclefttype amprocrighttype amprocnum amproc"),
    ("pg_attrdef", "oid adrelid adnum adbin"),
    (
        "pg_attribute",
        "attrelid attname atttypid attstattarget attlen attnum attndims attcacheoff atttypmod \
         attbyval attalign attstorage attcompression attnotnull atthasdef atthasmissing \
         attidentity attgenerated attisdropped attislocal attinhcount attcollation attacl \
         attoptions attfdwoptions",
    ),
    ("pg_auth_members", "roleid member grantor admin_option oid inherit_option set_option"),
    (
        "pg_available_extension_versions",
        "name version installed superuser trusted relocatable schema requires comment",
    ),
    ("pg_available_extensions", "name default_version installed_version comment"),
    ("pg_cast", "oid castsource casttarget castfunc castcontext castmethod"),
    (
        "pg_class",
        "oid relname relnamespace reltype reloftype relowner relam relfilenode reltablespace \
         relpages reltuples relallvisible reltoastrelid relhasindex relisshared \
         relpersistence relkind relnatts relchecks relhasrules relhastriggers relhassubclass \
         relrowsecurity relforcerowsecurity relispopulated relreplident relispartition \
         relrewrite relfrozenxid relminmxid relacl reloptions relallfrozen",
    ),
    (
        "pg_collation",
        "oid collname collnamespace collowner collprovider collisdeterministic collencoding \
         collcollate collctype colliculocale collversion colllocale collicurules",
    ),
    (
        "pg_constraint",
        "oid conname connamespace contype condeferrable condeferred convalidated conrelid \
         contypid conindid conparentid confrelid confupdtype confdeltype confmatchtype \
         conislocal coninhcount connoinherit conkey confkey conpfeqop conppeqop conffeqop \
         confdelsetcols conexclop conbin conenforced conperiod",
    ),
    (
        "pg_conversion",
        "oid conname connamespace conowner conforencoding contoencoding conproc condefault",
    ),
    (
        "pg_database",
        "oid datname datdba encoding datlocprovider datistemplate datallowconn datconnlimit \
         datfrozenxid datminmxid dattablespace datcollate datctype daticulocale \
         datcollversion datacl datlocale daticurules dathasloginevt datlastsysoid",
    ),
    ("pg_db_role_setting", "setdatabase setrole setconfig"),
    ("pg_default_acl", "oid defaclrole defaclnamespace defaclobjtype defaclacl"),
    ("pg_depend", "classid objid objsubid refclassid refobjid refobjsubid deptype"),
    ("pg_description", "objoid classoid objsubid description"),
    ("pg_enum", "oid enumtypid enumsortorder enumlabel"),
    ("pg_event_trigger", "oid evtname evtevent evtowner evtfoid evtenabled evttags"),
    (
        "pg_extension",
        "oid extname extowner extnamespace extrelocatable extversion extconfig extcondition",
    ),
    ("pg_foreign_data_wrapper", "oid fdwname fdwowner fdwhandler fdwvalidator fdwacl fdwoptions"),
    ("pg_foreign_server", "oid srvname srvowner srvfdw srvtype srvversion srvacl srvoptions"),
    ("pg_foreign_table", "ftrelid ftserver ftoptions"),
    ("pg_group", "groname grosysid grolist"),
    (
        "pg_index",
        "indexrelid indrelid indnatts indnkeyatts indisunique indnullsnotdistinct \
         indisprimary indisexclusion indimmediate indisclustered indisvalid indcheckxmin \
         indisready indislive indisreplident indkey indcollation indclass indoption indexprs \
         indpred",
    ),
    ("pg_indexes", "schemaname tablename indexname tablespace indexdef"),
    ("pg_inherits", "inhrelid inhparent inhseqno inhdetachpending"),
    ("pg_init_privs", "objoid classoid objsubid privtype initprivs"),
    (
        "pg_language",
        "oid lanname lanowner lanispl lanpltrusted lanplcallfoid laninline lanvalidator \
         lanacl",
    ),
    (
        "pg_matviews",
        "schemaname matviewname matviewowner tablespace hasindexes ispopulated definition",
    ),
    ("pg_namespace", "oid nspname nspowner nspacl"),
    (
        "pg_opclass",
        "oid opcmethod opcname opcnamespace opcowner opcfamily opcintype opcdefault \
         opckeytype",
    ),
    (
        "pg_operator",
        "oid oprname oprnamespace oprowner oprkind oprcanmerge oprcanhash oprleft oprright \
         oprresult oprcom oprnegate oprcode oprrest oprjoin",
    ),
    ("pg_opfamily", "oid opfmethod opfname opfnamespace opfowner"),
    ("pg_parameter_acl", "oid parname paracl"),
    (
        "pg_partitioned_table",
        "partrelid partstrat partnatts partdefid partattrs partclass partcollation partexprs",
    ),
    ("pg_policies", "schemaname tablename policyname permissive roles cmd qual with_check"),
    ("pg_policy", "oid polname polrelid polcmd polpermissive polroles polqual polwithcheck"),
    (
        "pg_proc",
        "oid proname pronamespace proowner prolang procost prorows provariadic prosupport \
         prokind prosecdef proleakproof proisstrict proretset provolatile proparallel \
         pronargs pronargdefaults prorettype proargtypes proallargtypes proargmodes \
         proargnames proargdefaults protrftypes prosrc probin prosqlbody proconfig proacl",
    ),
    (
        "pg_publication",
        "oid pubname pubowner puballtables pubinsert pubupdate pubdelete pubtruncate \
         pubviaroot pubgencols",
    ),
    ("pg_publication_namespace", "oid pnpubid pnnspid"),
    ("pg_publication_rel", "oid prpubid prrelid prqual prattrs"),
    ("pg_publication_tables", "pubname schemaname tablename attnames rowfilter"),
    (
        "pg_range",
        "rngtypid rngsubtype rngmultitypid rngcollation rngsubopc rngcanonical rngsubdiff",
    ),
    ("pg_rewrite", "oid rulename ev_class ev_type ev_enabled is_instead ev_qual ev_action"),
    (
        "pg_roles",
        "rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication \
         rolconnlimit rolpassword rolvaliduntil rolbypassrls rolconfig oid",
    ),
    ("pg_rules", "schemaname tablename rulename definition"),
    ("pg_sequence", "seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle"),
    (
        "pg_settings",
        "name setting unit category short_desc extra_desc context vartype source min_val \
         max_val enumvals boot_val reset_val sourcefile sourceline pending_restart",
    ),
    ("pg_shdepend", "dbid classid objid objsubid refclassid refobjid deptype"),
    ("pg_shdescription", "objoid classoid description"),
    (
        "pg_statistic_ext",
        "oid stxrelid stxname stxnamespace stxowner stxstattarget stxkeys stxkind",
    ),
    (
        "pg_tables",
        "schemaname tablename tableowner tablespace hasindexes hasrules hastriggers \
         rowsecurity",
    ),
    ("pg_tablespace", "oid spcname spcowner spcacl spcoptions"),
    ("pg_timezone_abbrevs", "abbrev utc_offset is_dst"),
    ("pg_timezone_names", "name abbrev utc_offset is_dst"),
    ("pg_transform", "oid trftype trflang trffromsql trftosql"),
    (
        "pg_trigger",
        "oid tgrelid tgparentid tgname tgfoid tgtype tgenabled tgisinternal tgconstrrelid \
         tgconstrindid tgconstraint tgdeferrable tginitdeferred tgnargs tgattr tgargs tgqual \
         tgoldtable tgnewtable",
    ),
    ("pg_ts_config", "oid cfgname cfgnamespace cfgowner cfgparser"),
    ("pg_ts_config_map", "mapcfg maptokentype mapseqno mapdict"),
    ("pg_ts_dict", "oid dictname dictnamespace dictowner dicttemplate dictinitoption"),
    ("pg_ts_parser", "oid prsname prsnamespace prsstart prstoken prsend prsheadline prslextype"),
    ("pg_ts_template", "oid tmplname tmplnamespace tmplinit tmpllexize"),
    (
        "pg_type",
        "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred \
         typisdefined typdelim typrelid typsubscript typelem typarray typinput typoutput \
         typreceive typsend typmodin typmodout typanalyze typalign typstorage typnotnull \
         typbasetype typtypmod typndims typcollation typdefaultbin typdefault typacl",
    ),
    (
        "pg_user",
        "usename usesysid usecreatedb usesuper userepl usebypassrls passwd valuntil useconfig",
    ),
    ("pg_views", "schemaname viewname viewowner definition"),
];

const INFORMATION_SCHEMA: &[(&str, &str)] = &[
    ("administrable_role_authorizations", "grantee role_name is_grantable"),
    ("applicable_roles", "grantee role_name is_grantable"),
    (
        "attributes",
        "udt_catalog udt_schema udt_name attribute_name ordinal_position attribute_default \
         is_nullable data_type character_maximum_length character_octet_length \
         character_set_catalog character_set_schema character_set_name collation_catalog \
         collation_schema collation_name numeric_precision numeric_precision_radix \
         numeric_scale datetime_precision interval_type interval_precision \
         attribute_udt_catalog attribute_udt_schema attribute_udt_name scope_catalog \
         scope_schema scope_name maximum_cardinality dtd_identifier \
         is_derived_reference_attribute",
    ),
    (
        "character_sets",
        "character_set_catalog character_set_schema character_set_name character_repertoire \
         form_of_use default_collate_catalog default_collate_schema default_collate_name",
    ),
    (
        "check_constraint_routine_usage",
        "constraint_catalog constraint_schema constraint_name specific_catalog \
         specific_schema specific_name",
    ),
    ("check_constraints", "constraint_catalog constraint_schema constraint_name check_clause"),
    (
        "collation_character_set_applicability",
        "collation_catalog collation_schema collation_name character_set_catalog \
         character_set_schema character_set_name",
    ),
    ("collations", "collation_catalog collation_schema collation_name pad_attribute"),
    ("column_column_usage", "table_catalog table_schema table_name column_name dependent_column"),
    (
        "column_domain_usage",
        "domain_catalog domain_schema domain_name table_catalog table_schema table_name \
         column_name",
    ),
    (
        "column_options",
        "table_catalog table_schema table_name column_name option_name option_value",
    ),
    (
        "column_privileges",
        "grantor grantee table_catalog table_schema table_name column_name privilege_type \
         is_grantable",
    ),
    (
        "column_udt_usage",
        "udt_catalog udt_schema udt_name table_catalog table_schema table_name column_name",
    ),
    (
        "columns",
        "table_catalog table_schema table_name column_name ordinal_position column_default \
         is_nullable data_type character_maximum_length character_octet_length \
         numeric_precision numeric_precision_radix numeric_scale datetime_precision \
         interval_type interval_precision character_set_catalog character_set_schema \
         character_set_name collation_catalog collation_schema collation_name domain_catalog \
         domain_schema domain_name udt_catalog udt_schema udt_name scope_catalog scope_schema \
         scope_name maximum_cardinality dtd_identifier is_self_referencing is_identity \
         identity_generation identity_start identity_increment identity_maximum \
         identity_minimum identity_cycle is_generated generation_expression is_updatable",
    ),
    (
        "constraint_column_usage",
        "table_catalog table_schema table_name column_name constraint_catalog \
         constraint_schema constraint_name",
    ),
    (
        "constraint_table_usage",
        "table_catalog table_schema table_name constraint_catalog constraint_schema \
         constraint_name",
    ),
    ("data_type_privileges", "object_catalog object_schema object_name object_type dtd_identifier"),
    (
        "domain_constraints",
        "constraint_catalog constraint_schema constraint_name domain_catalog domain_schema \
         domain_name is_deferrable initially_deferred",
    ),
    (
        "domain_udt_usage",
        "udt_catalog udt_schema udt_name domain_catalog domain_schema domain_name",
    ),
    (
        "domains",
        "domain_catalog domain_schema domain_name data_type character_maximum_length \
         character_octet_length character_set_catalog character_set_schema character_set_name \
         collation_catalog collation_schema collation_name numeric_precision \
         numeric_precision_radix numeric_scale datetime_precision interval_type \
         interval_precision domain_default udt_catalog udt_schema udt_name scope_catalog \
         scope_schema scope_name maximum_cardinality dtd_identifier",
    ),
    (
        "element_types",
        "object_catalog object_schema object_name object_type collection_type_identifier \
         data_type character_maximum_length character_octet_length character_set_catalog \
         character_set_schema character_set_name collation_catalog collation_schema \
         collation_name numeric_precision numeric_precision_radix numeric_scale \
         datetime_precision interval_type interval_precision domain_default udt_catalog \
         udt_schema udt_name scope_catalog scope_schema scope_name maximum_cardinality \
         dtd_identifier",
    ),
    ("enabled_roles", "role_name"),
    (
        "foreign_data_wrappers",
        "foreign_data_wrapper_catalog foreign_data_wrapper_name authorization_identifier \
         library_name foreign_data_wrapper_language",
    ),
    (
        "foreign_servers",
        "foreign_server_catalog foreign_server_name foreign_data_wrapper_catalog \
         foreign_data_wrapper_name foreign_server_type foreign_server_version \
         authorization_identifier",
    ),
    (
        "foreign_tables",
        "foreign_table_catalog foreign_table_schema foreign_table_name foreign_server_catalog \
         foreign_server_name",
    ),
    ("information_schema_catalog_name", "catalog_name"),
    (
        "key_column_usage",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema \
         table_name column_name ordinal_position position_in_unique_constraint",
    ),
    (
        "parameters",
        "specific_catalog specific_schema specific_name ordinal_position parameter_mode \
         is_result as_locator parameter_name data_type character_maximum_length \
         character_octet_length character_set_catalog character_set_schema character_set_name \
         collation_catalog collation_schema collation_name numeric_precision \
         numeric_precision_radix numeric_scale datetime_precision interval_type \
         interval_precision udt_catalog udt_schema udt_name scope_catalog scope_schema \
         scope_name maximum_cardinality dtd_identifier parameter_default",
    ),
    (
        "referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog \
         unique_constraint_schema unique_constraint_name match_option update_rule delete_rule",
    ),
    (
        "role_column_grants",
        "grantor grantee table_catalog table_schema table_name column_name privilege_type \
         is_grantable",
    ),
    (
        "role_routine_grants",
        "grantor grantee specific_catalog specific_schema specific_name routine_catalog \
         routine_schema routine_name privilege_type is_grantable",
    ),
    (
        "role_table_grants",
        "grantor grantee table_catalog table_schema table_name privilege_type is_grantable \
         with_hierarchy",
    ),
    (
        "role_udt_grants",
        "grantor grantee udt_catalog udt_schema udt_name privilege_type is_grantable",
    ),
    (
        "role_usage_grants",
        "grantor grantee object_catalog object_schema object_name object_type privilege_type \
         is_grantable",
    ),
    (
        "routine_column_usage",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name table_catalog table_schema table_name column_name",
    ),
    (
        "routine_privileges",
        "grantor grantee specific_catalog specific_schema specific_name routine_catalog \
         routine_schema routine_name privilege_type is_grantable",
    ),
    (
        "routine_routine_usage",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name",
    ),
    (
        "routine_sequence_usage",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name sequence_catalog sequence_schema sequence_name",
    ),
    (
        "routine_table_usage",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name table_catalog table_schema table_name",
    ),
    (
        "routines",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name routine_type module_catalog module_schema module_name udt_catalog \
         udt_schema udt_name data_type character_maximum_length character_octet_length \
         character_set_catalog character_set_schema character_set_name collation_catalog \
         collation_schema collation_name numeric_precision numeric_precision_radix \
         numeric_scale datetime_precision interval_type interval_precision type_udt_catalog \
         type_udt_schema type_udt_name scope_catalog scope_schema scope_name \
         maximum_cardinality dtd_identifier routine_body routine_definition external_name \
         external_language parameter_style is_deterministic sql_data_access is_null_call \
         sql_path schema_level_routine max_dynamic_result_sets is_user_defined_cast \
         is_implicitly_invocable security_type to_sql_specific_catalog to_sql_specific_schema \
         to_sql_specific_name as_locator created last_altered new_savepoint_level \
         is_udt_dependent result_cast_from_data_type result_cast_as_locator \
         result_cast_char_max_length result_cast_char_octet_length \
         result_cast_char_set_catalog result_cast_char_set_schema result_cast_char_set_name \
         result_cast_collation_catalog result_cast_collation_schema \
         result_cast_collation_name result_cast_numeric_precision \
         result_cast_numeric_precision_radix result_cast_numeric_scale \
         result_cast_datetime_precision result_cast_interval_type \
         result_cast_interval_precision result_cast_type_udt_catalog \
         result_cast_type_udt_schema result_cast_type_udt_name result_cast_scope_catalog \
         result_cast_scope_schema result_cast_scope_name result_cast_maximum_cardinality \
         result_cast_dtd_identifier",
    ),
    (
        "schemata",
        "catalog_name schema_name schema_owner default_character_set_catalog \
         default_character_set_schema default_character_set_name sql_path",
    ),
    (
        "sequences",
        "sequence_catalog sequence_schema sequence_name data_type numeric_precision \
         numeric_precision_radix numeric_scale start_value minimum_value maximum_value \
         increment cycle_option",
    ),
    (
        "sql_features",
        "feature_id feature_name sub_feature_id sub_feature_name is_supported is_verified_by \
         comments",
    ),
    (
        "sql_implementation_info",
        "implementation_info_id implementation_info_name integer_value character_value \
         comments",
    ),
    ("sql_parts", "feature_id feature_name is_supported is_verified_by comments"),
    ("sql_sizing", "sizing_id sizing_name supported_value comments"),
    (
        "table_constraints",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema \
         table_name constraint_type is_deferrable initially_deferred enforced nulls_distinct",
    ),
    (
        "table_privileges",
        "grantor grantee table_catalog table_schema table_name privilege_type is_grantable \
         with_hierarchy",
    ),
    (
        "tables",
        "table_catalog table_schema table_name table_type self_referencing_column_name \
         reference_generation user_defined_type_catalog user_defined_type_schema \
         user_defined_type_name is_insertable_into is_typed commit_action",
    ),
    (
        "transforms",
        "udt_catalog udt_schema udt_name specific_catalog specific_schema specific_name \
         group_name transform_type",
    ),
    (
        "triggered_update_columns",
        "trigger_catalog trigger_schema trigger_name event_object_catalog event_object_schema \
         event_object_table event_object_column",
    ),
    (
        "triggers",
        "trigger_catalog trigger_schema trigger_name event_manipulation event_object_catalog \
         event_object_schema event_object_table action_order action_condition \
         action_statement action_orientation action_timing action_reference_old_table \
         action_reference_new_table action_reference_old_row action_reference_new_row created",
    ),
    (
        "udt_privileges",
        "grantor grantee udt_catalog udt_schema udt_name privilege_type is_grantable",
    ),
    (
        "usage_privileges",
        "grantor grantee object_catalog object_schema object_name object_type privilege_type \
         is_grantable",
    ),
    (
        "user_defined_types",
        "user_defined_type_catalog user_defined_type_schema user_defined_type_name \
         user_defined_type_category is_instantiable is_final ordering_form ordering_category \
         ordering_routine_catalog ordering_routine_schema ordering_routine_name \
         reference_type data_type character_maximum_length character_octet_length \
         character_set_catalog character_set_schema character_set_name collation_catalog \
         collation_schema collation_name numeric_precision numeric_precision_radix \
         numeric_scale datetime_precision interval_type interval_precision \
         source_dtd_identifier ref_dtd_identifier",
    ),
    (
        "view_column_usage",
        "view_catalog view_schema view_name table_catalog table_schema table_name column_name",
    ),
    (
        "view_routine_usage",
        "table_catalog table_schema table_name specific_catalog specific_schema specific_name",
    ),
    (
        "view_table_usage",
        "view_catalog view_schema view_name table_catalog table_schema table_name",
    ),
    (
        "views",
        "table_catalog table_schema table_name view_definition check_option is_updatable \
         is_insertable_into is_trigger_updatable is_trigger_deletable \
         is_trigger_insertable_into",
    ),
];
