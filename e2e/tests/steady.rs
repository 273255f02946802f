//! A row filter shows the same rows whatever a client sets: times are those of UTC, and what reads a setting doesn't bind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fmt::Write as _;

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server};
use postern_e2e::wire::{self, Wire, error};

const COLUMNS: &str =
    "id int PRIMARY KEY, at timestamptz, day date, valid tstzrange, days daterange, many timestamptz[], doc jsonb";

const ROWS: &str = "SELECT i, t, t::date, tstzrange(t, t + interval '1 hour'), daterange(t::date, t::date + 1), ARRAY[t],
    jsonb_build_object('at', to_char(t, 'YYYY-MM-DD\"T\"HH24:MI:SS'))
    FROM (SELECT i, timestamptz '2024-01-01 00:30:00+00' + i * interval '5 hours' AS t FROM generate_series(1, 60) i) s";

/// Filters that bind. A filter by a zone's name binds before Postgres 18.
const BINDING: [&str; 9] = [
    "at::date = '2024-01-05'",
    "at >= '2024-01-05' AND at < '2024-01-06'",
    "at >= '2024-01-05T00:00:00Z'",
    "(at AT TIME ZONE 'UTC')::date = '2024-01-05'",
    "date_trunc('day', at AT TIME ZONE 'UTC') = '2024-01-05'",
    "at = ANY ('{2024-01-01 05:30:00+00,2024-01-06 02:30:00+00}'::timestamptz[])",
    "days && '[2024-01-05,2024-01-06)'",
    "valid && '[2024-01-05 00:00+00,2024-01-06 00:00+00)'",
    "day BETWEEN '2024-01-05' AND '2024-01-06'",
];

/// Filters that read a setting.
const UNSTEADY: [&str; 10] = [
    "date_trunc('day', at, 'UTC') = '2024-01-05 00:00:00+00'",
    "valid && '[2024-01-05 00:00,2024-01-06 00:00)'",
    "valid <@ '{[2024-01-05,2024-01-07)}'::tstzmultirange",
    "tstzrange(at, at + interval '1 day') && '[2024-01-05,2024-01-06)'",
    "at = ANY ('{2024-01-05,2024-01-06}'::timestamptz[])",
    "days && '[01/02/2024,02/02/2024)'",
    "valid::text LIKE '%2024-01-05%'",
    "array_to_string(many, ',') LIKE '%2024-01-05%'",
    "jsonb_path_exists_tz(doc, '$ ? (@.at.datetime() < \"2024-01-05\".datetime())')",
    "(at AT TIME ZONE 'IST')::date = '2024-01-05'",
];

const SETTINGS: [&str; 8] = [
    "TimeZone = 'UTC+5'",
    "TimeZone = '<x>+150'",
    "TimeZone = '<z>+5'",
    "TimeZone = '<Etc/UTC>-9'",
    "TimeZone = '<Europe/Berlin>+9'",
    "DateStyle = 'SQL, DMY'",
    "timezone_abbreviations = 'India'",
    "IntervalStyle = 'sql_standard'",
];

#[test]
fn a_filter_shows_the_same_rows_under_all_settings() {
    let server = Server::shared().unwrap();
    let version = server.version().unwrap();
    let mut binding = BINDING.to_vec();
    if version < 18 {
        binding.push("(at AT TIME ZONE 'Europe/Berlin')::date = '2024-01-05'");
    }
    let (mut schema, mut filters) = (String::new(), String::new());
    let all = binding.iter().map(|filter| (true, filter)).chain(UNSTEADY.iter().map(|filter| (false, filter)));
    for (index, (_, filter)) in all.clone().enumerate() {
        writeln!(schema, "SET TimeZone = 'UTC'; CREATE TABLE f{index} ({COLUMNS}); INSERT INTO f{index} {ROWS};")
            .unwrap();
        writeln!(filters, "  - {{relation: public.f{index}, where: {}}}", serde_json::to_string(filter).unwrap())
            .unwrap();
    }
    let database = server.database_with(&schema).unwrap();
    let spec = format!(
        "rules:\n- name: all\n  to: {{groups: [apps]}}\n  allow: [Select]\n  relations: ['public.*']\n  rowFilters:\n{filters}"
    );
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, &spec)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    for (index, (binds, filter)) in all.enumerate() {
        let select = format!("SELECT id FROM f{index} ORDER BY id");
        let first = wire.simple(&select).unwrap();
        assert_eq!(error(&first).is_none(), binds, "{filter}: {first:?}");
        if !binds {
            continue;
        }
        let rows = wire::rows(&first);
        assert!(!rows.is_empty() && rows.len() < 60, "{filter}: {}", rows.len());
        for setting in SETTINGS {
            // Some servers don't know all of them.
            let known = error(&wire.simple(&format!("SET {setting}")).unwrap()).is_none();
            assert!(known || setting.contains('/') || setting.contains('<'), "{setting}");
            assert_eq!(wire::rows(&wire.simple(&select).unwrap()), rows, "{filter} under {setting}");
            wire.simple("RESET ALL").unwrap();
        }
    }
}
