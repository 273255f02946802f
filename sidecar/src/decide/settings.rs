//! Settings that a client may set and read.
//!
//! **Promise.** A setting passes only if it is listed here, with a value that is checked, or is a custom one that a rule
//! names. None that passes changes how text is read, whose rights hold, which triggers run or what the proxy's own
//! settings (`postern.…`) say.

use std::time::Duration;

use postern_crds::ISOLATION_SETTING;

use super::{Denial, Reason};
use crate::catalog::names::cut_identifier;

/// What the decision depends on, besides name and value.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whether a rule lets the identity set the custom setting of this lower-case name.
    pub custom: &'a dyn Fn(&str) -> bool,
    /// The Postgres role that the session runs as.
    pub role: &'a str,
    /// Whether there are rows that the identity does not see.
    pub row_filters: bool,
    /// The longest that a statement may run; `statement_timeout` is held to it.
    pub statement_timeout: Option<Duration>,
}

/// What a SET does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetDecision {
    /// It passes as written.
    Pass,
    /// It passes with this value in place of the one written.
    Value(String),
    /// It sets the search path, which the session follows; None is the default.
    SearchPath(Option<Vec<String>>),
    /// It sets the application name, which is prefixed upstream; None is the default.
    ApplicationName(Option<String>),
}

/// What a SHOW does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowDecision {
    /// It passes.
    Pass,
    /// The answer is the client's own application name.
    ApplicationName,
}

/// How a value is checked.
#[derive(Clone, Copy)]
enum Check {
    /// Any value that the server takes.
    Any,
    /// Any value that the server takes, where no rows are filtered; otherwise 0.
    ZeroBesideFilters,
    /// A level of isolation: beside row filters SERIALIZABLE needs a rule, for the server's predicate locks are on all rows that an index
    /// finds, and conflicts tell of them.
    Isolation,
    /// Only a boolean that reads so.
    Only(bool),
    /// Only these words.
    OneOf(&'static [&'static str]),
    /// A size in kB up to this.
    Kilobytes(u64),
    /// A whole number up to this.
    AtMost(u64),
    /// A name of UTF-8.
    Encoding,
    /// Held to the policy's limit.
    StatementTimeout,
    SearchPath,
    ApplicationName,
    /// The session's own role.
    Role,
    /// Who the session is: never, nor in mode Audit.
    SessionUser,
    /// Never, and why.
    Never(&'static str),
}

const READS_TEXT: &str = "it changes how SQL is read";
const RIGHTS: &str = "it changes whose rights hold";

/// The settings, by lower-case name, sorted. What drivers, ORMs, pools, psql and pg_dump set, and what shapes plans.
const SETTINGS: &[(&str, Check)] = &[
    ("application_name", Check::ApplicationName),
    ("array_nulls", Check::Any),
    ("backslash_quote", Check::Never(READS_TEXT)),
    ("bytea_output", Check::OneOf(&["hex", "escape"])),
    ("check_function_bodies", Check::Any),
    ("client_connection_check_interval", Check::Any),
    ("client_encoding", Check::Encoding),
    // Below these are the server's own messages to its log, which hold statements as the gate wrote them.
    ("client_min_messages", Check::OneOf(&["info", "notice", "warning", "error", "fatal", "panic"])),
    ("constraint_exclusion", Check::Any),
    ("cpu_index_tuple_cost", Check::Any),
    ("cpu_operator_cost", Check::Never("row filters rely on the order that it gives conditions")),
    ("cpu_tuple_cost", Check::Any),
    ("cursor_tuple_fraction", Check::Any),
    ("datestyle", Check::Any),
    ("default_statistics_target", Check::AtMost(10_000)),
    ("default_table_access_method", Check::Any),
    ("default_tablespace", Check::Any),
    ("default_text_search_config", Check::Any),
    ("default_toast_compression", Check::Any),
    ("default_transaction_deferrable", Check::Any),
    ("default_transaction_isolation", Check::Isolation),
    ("default_transaction_read_only", Check::Any),
    ("default_with_oids", Check::Only(false)),
    ("effective_cache_size", Check::Any),
    ("effective_io_concurrency", Check::AtMost(1000)),
    ("escape_string_warning", Check::Any),
    ("extra_float_digits", Check::Any),
    ("from_collapse_limit", Check::AtMost(32)),
    ("geqo", Check::Any),
    ("geqo_effort", Check::Any),
    ("geqo_generations", Check::AtMost(10_000)),
    ("geqo_pool_size", Check::AtMost(10_000)),
    ("geqo_seed", Check::Any),
    ("geqo_selection_bias", Check::Any),
    ("geqo_threshold", Check::AtMost(16)),
    ("gin_fuzzy_search_limit", Check::ZeroBesideFilters),
    ("hash_mem_multiplier", Check::AtMost(8)),
    ("hnsw.ef_search", Check::AtMost(1000)),
    ("hnsw.iterative_scan", Check::Any),
    ("hnsw.max_scan_tuples", Check::Any),
    ("idle_in_transaction_session_timeout", Check::Any),
    ("idle_session_timeout", Check::Any),
    ("intervalstyle", Check::Any),
    ("ivfflat.iterative_scan", Check::Any),
    ("ivfflat.max_probes", Check::AtMost(32_768)),
    ("ivfflat.probes", Check::AtMost(32_768)),
    ("jit", Check::Any),
    ("jit_above_cost", Check::Any),
    ("jit_inline_above_cost", Check::Any),
    ("jit_optimize_above_cost", Check::Any),
    ("join_collapse_limit", Check::AtMost(32)),
    ("lc_monetary", Check::Any),
    ("lc_numeric", Check::Any),
    ("lc_time", Check::Any),
    ("lo_compat_privileges", Check::Never(RIGHTS)),
    ("lock_timeout", Check::Any),
    ("maintenance_work_mem", Check::Kilobytes(2 << 20)),
    ("max_parallel_maintenance_workers", Check::AtMost(16)),
    ("max_parallel_workers", Check::AtMost(64)),
    ("max_parallel_workers_per_gather", Check::AtMost(16)),
    ("min_parallel_index_scan_size", Check::Any),
    ("min_parallel_table_scan_size", Check::Any),
    ("parallel_leader_participation", Check::Any),
    ("parallel_setup_cost", Check::Any),
    ("parallel_tuple_cost", Check::Any),
    ("pg_trgm.similarity_threshold", Check::Any),
    ("pg_trgm.strict_word_similarity_threshold", Check::Any),
    ("pg_trgm.word_similarity_threshold", Check::Any),
    ("plan_cache_mode", Check::Any),
    ("quote_all_identifiers", Check::Any),
    ("random_page_cost", Check::Any),
    ("recursive_worktable_factor", Check::Any),
    ("restrict_nonsystem_relation_kind", Check::Any),
    ("role", Check::Role),
    ("row_security", Check::Any),
    ("search_path", Check::SearchPath),
    ("seed", Check::Any),
    ("seq_page_cost", Check::Any),
    ("session_authorization", Check::SessionUser),
    ("session_replication_role", Check::Never("it switches triggers and foreign keys off")),
    ("standard_conforming_strings", Check::Only(true)),
    ("statement_timeout", Check::StatementTimeout),
    ("stats_fetch_consistency", Check::Any),
    ("synchronize_seqscans", Check::Any),
    ("synchronous_commit", Check::Any),
    ("tcp_keepalives_count", Check::Any),
    ("tcp_keepalives_idle", Check::Any),
    ("tcp_keepalives_interval", Check::Any),
    ("tcp_user_timeout", Check::Any),
    ("temp_buffers", Check::Kilobytes(256 << 10)),
    ("temp_tablespaces", Check::Any),
    ("timezone", Check::Any),
    ("timezone_abbreviations", Check::Any),
    ("transaction_deferrable", Check::Any),
    ("transaction_isolation", Check::Isolation),
    ("transaction_read_only", Check::Any),
    ("transaction_timeout", Check::Any),
    ("transform_null_equals", Check::Never("it changes what `= NULL` means")),
    ("vacuum_cost_delay", Check::Any),
    ("work_mem", Check::Kilobytes(1 << 20)),
    ("xmlbinary", Check::Any),
    ("xmloption", Check::Any),
];

/// Settings that hold secrets or paths of the server; shown to nobody.
const SECRET: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "krb_server_keyfile",
    "log_directory",
    "log_filename",
    "primary_conninfo",
    "recovery_end_command",
    "restore_command",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "ssl_key_file",
    "ssl_passphrase_command",
    "unix_socket_directories",
];

/// Most schemas in a search_path.
const MAX_PATH: usize = 256;

/// Prefix of the proxy's own settings.
pub const OWN_PREFIX: &str = "postern.";

/// Decides SET (also of `set_config`) of a setting. `values` are the elements of its list as text; None is DEFAULT or
/// RESET.
pub fn set(context: &Context<'_>, name: &str, values: Option<&[String]>) -> Result<SetDecision, Denial> {
    let name = name.to_ascii_lowercase();
    let check = check_of(context, &name)?;
    let one = || -> Result<Option<&str>, Denial> {
        match values {
            None => Ok(None),
            Some([value]) => Ok(Some(value)),
            Some(_) => Err(refused(&name, "it takes one value")),
        }
    };
    match check {
        Check::Any => Ok(SetDecision::Pass),
        Check::ZeroBesideFilters => match one()? {
            Some(value) if context.row_filters && number(value) != Some(0.0) => {
                Err(refused(&name, "it drops rows by how many there are, those that you don't see included"))
            }
            _ => Ok(SetDecision::Pass),
        },
        Check::Isolation => match one()? {
            Some(value) if !value.trim().eq_ignore_ascii_case("serializable") || may_serialize(context) => {
                Ok(SetDecision::Pass)
            }
            Some(_) => Err(refused(&name, "conflicts of serializable transactions tell of rows that you don't see")
                .hint(format!("Use REPEATABLE READ. A rule with `settings: [{ISOLATION_SETTING}]` would allow it."))),
            None => Ok(SetDecision::Pass),
        },
        Check::SearchPath => match values {
            Some(names) if names.len() > MAX_PATH => Err(refused(&name, "it names too many schemas").sqlstate("54000")),
            names => Ok(SetDecision::SearchPath(names.map(|names| with_user(names, context.role)))),
        },
        Check::ApplicationName => Ok(SetDecision::ApplicationName(one()?.map(str::to_owned))),
        Check::Never(why) => Err(refused(&name, why)),
        Check::SessionUser => Err(role_denial("session authorization", context.role)),
        Check::Role => match one()? {
            // RESET goes back to the role that the session started with, which is this one.
            None => Ok(SetDecision::Pass),
            Some(role) if role == context.role => Ok(SetDecision::Pass),
            Some(_) => Err(role_denial("role", context.role)),
        },
        Check::Only(wanted) => match one()? {
            // RESET goes back to what the session's start-up asked for, whatever the role's or the database's default is.
            None => Ok(SetDecision::Pass),
            Some(value) if boolean(value) == Some(wanted) => Ok(SetDecision::Pass),
            Some(_) => Err(refused(&name, if wanted { "it stays on" } else { "it stays off" }).sqlstate("22023")),
        },
        Check::OneOf(words) => match one()? {
            None => Ok(SetDecision::Pass),
            Some(value) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => Ok(SetDecision::Pass),
            Some(_) => Err(refused(&name, "this value is not known to the proxy")),
        },
        Check::Encoding => match one()? {
            None => Ok(SetDecision::Pass),
            Some(value) if is_utf8(value) => Ok(SetDecision::Pass),
            Some(_) => Err(refused(&name, "the encoding stays UTF8").sqlstate("22023")),
        },
        Check::Kilobytes(most) => match one()? {
            None => Ok(SetDecision::Pass),
            Some(value) if kilobytes(value).is_some_and(|value| value <= most) => Ok(SetDecision::Pass),
            Some(_) => Err(refused(&name, &format!("more than {most}kB is not allowed"))),
        },
        Check::AtMost(most) => match one()? {
            None => Ok(SetDecision::Pass),
            Some(value) if number(value).is_some_and(|value| value <= most as f64) => Ok(SetDecision::Pass),
            Some(_) => Err(refused(&name, &format!("more than {most} is not allowed"))),
        },
        Check::StatementTimeout => {
            let Some(limit) = context.statement_timeout else { return Ok(SetDecision::Pass) };
            let held = SetDecision::Value(limit.as_millis().max(1).to_string());
            let Some(value) = one()? else { return Ok(held) };
            match milliseconds(value) {
                Some(0) => Ok(held),
                Some(value) if u128::from(value) > limit.as_millis() => Ok(held),
                Some(_) => Ok(SetDecision::Pass),
                None => Err(refused(&name, "this value is not known to the proxy")),
            }
        }
    }
}

/// Whether a setting may be set to whatever it is, seen or not, as by `set_config('TimeZone', $1, true)`.
///
/// # Errors
/// Settings that no value is allowed for, and the role, which could become another.
pub fn takes_any_value(context: &Context<'_>, name: &str) -> Result<bool, Denial> {
    match check_of(context, &name.to_ascii_lowercase())? {
        Check::Any => Ok(true),
        Check::Isolation => Ok(may_serialize(context)),
        Check::ZeroBesideFilters => Ok(!context.row_filters),
        Check::StatementTimeout => Ok(context.statement_timeout.is_none()),
        Check::Role => Err(role_denial("role", context.role)),
        Check::SessionUser => Err(role_denial("session authorization", context.role)),
        _ => Ok(false),
    }
}

/// Decides a setting of the startup message, or of a `-c` in its options. The value to use is in the answer:
/// an encoding other than UTF-8 is overridden, since clients ask for the one of their locale.
pub fn startup(context: &Context<'_>, name: &str, value: &str) -> Result<SetDecision, Denial> {
    if name.eq_ignore_ascii_case("client_encoding") {
        return Ok(SetDecision::Value("UTF8".to_owned()));
    }
    if name.eq_ignore_ascii_case("search_path") {
        let path = parse_list(value).ok_or_else(|| refused("search_path", "its value is not a list of names"))?;
        return set(context, name, Some(&path));
    }
    set(context, name, Some(&[value.to_owned()]))
}

/// Decides SHOW (also of `current_setting`) of one setting.
pub fn show(context: &Context<'_>, name: &str) -> Result<ShowDecision, Denial> {
    let name = name.to_ascii_lowercase();
    if name == "application_name" {
        return Ok(ShowDecision::ApplicationName);
    }
    let listed = SETTINGS.binary_search_by(|(listed, _)| (*listed).cmp(name.as_str())).is_ok();
    let custom = name.contains('.') && !listed;
    let shown = if custom {
        !name.starts_with(OWN_PREFIX) && (context.custom)(&name)
    } else {
        SECRET.binary_search(&name.as_str()).is_err()
    };
    if shown {
        return Ok(ShowDecision::Pass);
    }
    let denial = Denial::new(Reason::Setting, format!("permission denied to examine \"{name}\""));
    Err(if custom && !name.starts_with(OWN_PREFIX) { denial.hint(custom_hint(&name)) } else { denial })
}

/// An SQL condition over `name` that holds for the rows of pg_settings that may be shown.
pub fn shown_condition(column: &str) -> String {
    let secrets: Vec<String> = SECRET.iter().map(|name| format!("'{name}'")).collect();
    format!(
        "NOT pg_catalog.starts_with(pg_catalog.lower({column}), '{OWN_PREFIX}') AND {column} OPERATOR(pg_catalog.<>) ALL (ARRAY[{}]::pg_catalog.text[])",
        secrets.join(", ")
    )
}

fn may_serialize(context: &Context<'_>) -> bool {
    !context.row_filters || (context.custom)(ISOLATION_SETTING)
}

fn check_of(context: &Context<'_>, name: &str) -> Result<Check, Denial> {
    if name.starts_with(OWN_PREFIX) {
        return Err(refused(name, "it is the proxy's own"));
    }
    if let Ok(index) = SETTINGS.binary_search_by(|(listed, _)| (*listed).cmp(name))
        && let Some((_, check)) = SETTINGS.get(index)
    {
        return Ok(*check);
    }
    // Each of them switches one kind of plan on or off.
    if let Some(kind) = name.strip_prefix("enable_")
        && !kind.is_empty()
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    {
        return Ok(Check::Any);
    }
    if name.contains('.') {
        if (context.custom)(name) {
            return Ok(Check::Any);
        }
        return Err(refused(name, "no rule lists it").hint(custom_hint(name)));
    }
    Err(refused(name, "the proxy does not let it through"))
}

fn custom_hint(name: &str) -> String {
    format!("A rule with `settings: [\"{name}\"]` would allow it.")
}

fn refused(name: &str, why: &str) -> Denial {
    Denial::new(Reason::Setting, format!("permission denied to set parameter \"{name}\": {why}"))
}

fn role_denial(what: &str, role: &str) -> Denial {
    Denial::new(Reason::Role, format!("permission denied to set {what}"))
        .hint(format!("The session runs as \"{role}\", and as no other."))
}

/// Whether a name means UTF-8 to Postgres, which ignores case and everything but letters and digits.
fn is_utf8(value: &str) -> bool {
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    matches!(plain.as_str(), "utf8" | "unicode")
}

/// A boolean as Postgres reads it: the words or unique beginnings of them.
fn boolean(value: &str) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let starts = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    if value == "1" || starts("true", 1) || starts("yes", 1) || starts("on", 2) {
        Some(true)
    } else if value == "0" || starts("false", 1) || starts("no", 1) || starts("off", 2) {
        Some(false)
    } else {
        None
    }
}

fn number(value: &str) -> Option<f64> {
    let number: f64 = value.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

/// Splits a value with a unit; the unit is empty if there is none.
fn with_unit(value: &str) -> Option<(f64, &str)> {
    let value = value.trim();
    // A letter e may be part of the number.
    let end = value
        .char_indices()
        .find(|(index, c)| {
            c.is_ascii_alphabetic()
                && !(matches!(c, 'e' | 'E')
                    && value
                        .get(index + 1..)
                        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-')))
                || c.is_whitespace()
        })
        .map_or(value.len(), |(index, _)| index);
    let (digits, unit) = value.split_at_checked(end)?;
    Some((number(digits)?, unit.trim()))
}

/// A time in milliseconds, rounded to the nearest as the server does (0.4 is 0: no timeout at all).
fn milliseconds(value: &str) -> Option<u64> {
    let (number, unit) = with_unit(value)?;
    let factor = match unit {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    whole(number * factor)
}

fn kilobytes(value: &str) -> Option<u64> {
    let (number, unit) = with_unit(value)?;
    let factor = match unit {
        "B" => 1.0 / 1024.0,
        "" | "kB" => 1.0,
        "MB" => 1024.0,
        "GB" => 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    whole(number * factor)
}

fn whole(number: f64) -> Option<u64> {
    let rounded = number.round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is tested")]
    (0.0..=9e15).contains(&rounded).then_some(rounded as u64)
}

/// The names of a search_path as they are looked for: `$user` is the role, and all are cut to their longest.
pub fn with_user(names: &[String], role: &str) -> Vec<String> {
    let meant = |name: &String| if name == "$user" { role.to_owned() } else { cut_identifier(name).to_owned() };
    names.iter().map(meant).collect()
}

/// Reads a list of names as Postgres reads `search_path` where it is one text (`SplitIdentifierString`): separated by commas, unquoted
/// ones in lower case, all cut to their longest. None also for what servers read differently: a vertical tab, and capitals beyond
/// ASCII, which become small by the locale of the database if at all.
pub fn parse_list(value: &str) -> Option<Vec<String>> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    if value.contains('\x0b') {
        return None;
    }
    let mut names = Vec::new();
    let mut rest = value.trim_matches(is_space);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next()? {
                    (_, '"') if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        text.push('"');
                    }
                    (index, '"') => break index,
                    (_, c) => text.push(c),
                }
            };
            name = text;
            rest = quoted.get(end + 1..)?.trim_start_matches(is_space);
        } else {
            let end = rest.find(|c: char| c == ',' || is_space(c)).unwrap_or(rest.len());
            let written = rest.get(..end)?;
            if written.is_empty() || written.chars().any(|c| !c.is_ascii() && !c.to_lowercase().eq([c])) {
                return None;
            }
            name = written.to_ascii_lowercase();
            rest = rest.get(end..)?.trim_start_matches(is_space);
        }
        names.push(cut_identifier(&name).to_owned());
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(is_space);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    fn context(limit: Option<u64>) -> Context<'static> {
        Context {
            custom: &|name| name.starts_with("app."),
            role: "reporting_ro",
            row_filters: false,
            statement_timeout: limit.map(Duration::from_secs),
        }
    }

    fn try_set(name: &str, value: &str) -> Result<SetDecision, Denial> {
        set(&context(Some(30)), name, Some(&[value.to_owned()]))
    }

    #[test]
    fn the_tables_are_sorted() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(SECRET.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_clients_set_passes() {
        for (name, value) in [
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("client_encoding", "utf-8"),
            ("client_encoding", "UNICODE"),
            ("client_encoding", "'utf8'"),
            ("standard_conforming_strings", "on"),
            ("standard_conforming_strings", "TRUE"),
            ("row_security", "off"),
            ("enable_seqscan", "off"),
            ("work_mem", "64MB"),
            ("vacuum_cost_delay", "0"),
            ("app.tenant", "7"),
            ("role", "reporting_ro"),
            ("statement_timeout", "5s"),
            ("statement_timeout", "30000"),
            ("bytea_output", "hex"),
            ("restrict_nonsystem_relation_kind", "view, foreign-table"),
            ("synchronize_seqscans", "off"),
        ] {
            assert_eq!(try_set(name, value), Ok(SetDecision::Pass), "{name} = {value}");
        }
    }

    #[test]
    fn what_changes_meaning_rights_or_the_proxy_is_refused() {
        for (name, value) in [
            ("client_encoding", "LATIN1"),
            ("client_encoding", "SQL_ASCII"),
            ("standard_conforming_strings", "off"),
            ("backslash_quote", "on"),
            ("transform_null_equals", "on"),
            ("session_replication_role", "replica"),
            ("role", "none"),
            ("role", "postgres"),
            ("ROLE", "NONE"),
            ("session_authorization", "reporting_ro"),
            ("postern.key", "x"),
            ("Postern.Key", "x"),
            ("other.setting", "x"),
            ("log_statement", "all"),
            ("debug_print_plan", "on"),
            ("client_min_messages", "log"),
            ("client_min_messages", "debug1"),
            ("local_preload_libraries", "x"),
            ("no_such", "x"),
            ("work_mem", "64GB"),
            ("work_mem", "lots"),
            ("enable_", "x"),
            ("statement_timeout", "soon"),
            ("statement_timeout", "-1"),
            ("lo_compat_privileges", "on"),
            ("join_collapse_limit", "1000"),
        ] {
            assert!(try_set(name, value).is_err(), "{name} = {value}");
        }
        assert!(set(&context(None), "session_authorization", None).is_err());
        assert_eq!(try_set("session_authorization", "postgres").unwrap_err().reason, Reason::Role);
        assert_eq!(try_set("role", "postgres").unwrap_err().reason, Reason::Role);
    }

    #[test]
    fn a_value_that_is_not_seen_is_taken_where_every_value_is() {
        let unseen = |name| takes_any_value(&context(None), name);
        assert!(["TimeZone", "datestyle", "jit", "enable_seqscan"].into_iter().all(|name| unseen(name) == Ok(true)));
        for name in ["client_encoding", "search_path", "standard_conforming_strings", "work_mem"] {
            assert_eq!(unseen(name), Ok(false), "{name}");
        }
        assert_eq!(unseen("statement_timeout"), Ok(true));
        assert_eq!(takes_any_value(&context(Some(30)), "statement_timeout"), Ok(false));
        for name in ["role", "session_authorization"] {
            assert_eq!(unseen(name).unwrap_err().reason, Reason::Role, "{name}");
        }
        assert!(unseen("no_such").is_err());
    }

    #[test]
    fn a_statement_timeout_is_held_to_the_limit() {
        let held = Ok(SetDecision::Value("30000".into()));
        for value in ["0", "0.4", "0.4ms", "30001", "31s", "1h", "1 min", "2e6", "1d", "100us"] {
            assert_eq!(try_set("statement_timeout", value), held, "{value}");
        }
        assert_eq!(set(&context(Some(30)), "statement_timeout", None), held);
        assert_eq!(set(&context(None), "statement_timeout", Some(&["0".into()])), Ok(SetDecision::Pass));
    }

    #[test]
    fn a_reset_keeps_what_must_hold() {
        let reset = |name| set(&context(None), name, None);
        assert_eq!(reset("client_encoding"), Ok(SetDecision::Pass));
        assert_eq!(reset("standard_conforming_strings"), Ok(SetDecision::Pass));
        assert_eq!(reset("role"), Ok(SetDecision::Pass));
        assert_eq!(reset("search_path"), Ok(SetDecision::SearchPath(None)));
        assert_eq!(reset("application_name"), Ok(SetDecision::ApplicationName(None)));
    }

    #[test]
    fn a_startup_wish_for_another_encoding_is_overridden() {
        let value = startup(&context(None), "client_encoding", "SQL_ASCII");
        assert_eq!(value, Ok(SetDecision::Value("UTF8".into())));
        assert_eq!(
            startup(&context(None), "search_path", "\"A b\", public"),
            Ok(SetDecision::SearchPath(Some(vec!["A b".into(), "public".into()])))
        );
        assert!(startup(&context(None), "session_preload_libraries", "x").is_err());
    }

    #[test]
    fn secrets_and_the_proxys_own_settings_are_not_shown() {
        for name in [
            "postern.hash_key",
            "POSTERN.x",
            "primary_conninfo",
            "ssl_passphrase_command",
            "archive_command",
            "other.x",
        ] {
            assert!(show(&context(None), name).is_err(), "{name}");
        }
        for name in
            ["search_path", "server_version", "transaction_isolation", "app.tenant", "is_superuser", "hnsw.ef_search"]
        {
            assert_eq!(show(&context(None), name), Ok(ShowDecision::Pass), "{name}");
        }
        assert_eq!(show(&context(None), "Application_Name"), Ok(ShowDecision::ApplicationName));
        assert!(shown_condition("name").contains("'primary_conninfo'"));
    }

    #[test]
    fn lists_of_names_are_read_as_postgres_reads_them() {
        let list = |text: &str| parse_list(text);
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(""), names(&[]));
        assert_eq!(list(" Public , \"$user\",\"a\"\"b\" "), names(&["public", "$user", "a\"b"]));
        assert_eq!(list("\"\""), names(&[""]));
        assert_eq!(list("ä, \"Ä\"\t,b"), names(&["ä", "Ä", "b"]));
        let long = "x".repeat(63);
        assert_eq!(list(&format!("{long}yz, \"{}é\"", &long[1..])), names(&[&long, &long[1..]]));
        for bad in [",", "a,", "a b", "\"a", "a,,b", "Ä", "a\u{b},b"] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }

    #[test]
    fn beside_row_filters_serializable_needs_a_rule() {
        let level = ["serializable".to_owned()];
        for name in ["transaction_isolation", "default_transaction_isolation"] {
            for (row_filters, rule, allowed) in [(false, false, true), (true, true, true), (true, false, false)] {
                let custom = |_: &str| rule;
                let context = Context { custom: &custom, row_filters, ..context(None) };
                assert_eq!(set(&context, name, Some(&level)).is_ok(), allowed);
                assert_eq!(takes_any_value(&context, name), Ok(allowed));
            }
        }
        let context = Context { row_filters: true, ..context(None) };
        let set = |name: &str, value: &str| super::set(&context, name, Some(&[value.to_owned()]));
        assert!(set("transaction_isolation", "repeatable read").is_ok());
        assert!(set("gin_fuzzy_search_limit", "0").is_ok());
        assert!(set("gin_fuzzy_search_limit", "1").is_err());
        assert!(try_set("gin_fuzzy_search_limit", "1").is_ok());
    }
}
