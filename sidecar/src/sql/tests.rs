#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// What a session does with a text, from the measure to the drop, on the stack that it would get.
fn through(text: &str) -> Result<String, Denial> {
    let measure = measure(text, &ParseLimits::default())?;
    let owned = text.to_owned();
    let worker = std::thread::Builder::new().stack_size(deep::WORKER_STACK);
    worker
        .spawn(move || {
            deep::run_blocking(&measure, move || {
                let parsed = parse_measured(&owned, measure)?;
                let copy = parsed.tree.clone();
                emit(&copy)
            })?
        })
        .unwrap()
        .join()
        .unwrap()
}

#[test]
fn what_generated_sql_does_fits_the_bounds() {
    let cases = [
        ("a thousand +", format!("SELECT {}", vec!["1"; 1000].join(" + "))),
        ("a thousand ||", format!("SELECT {}", vec!["'x'"; 1000].join(" || "))),
        ("sixty sub-selects", format!("SELECT {} 1 {}", "(SELECT".repeat(60), ")".repeat(60))),
        ("sixty derived tables", format!("SELECT * FROM {} t {}", "(SELECT * FROM ".repeat(60), ") AS x".repeat(60))),
        ("two thousand UNION ALLs", vec!["SELECT 1 AS a, b FROM t WHERE c = 2"; 2001].join(" UNION ALL ")),
        ("a list of ten thousand", format!("SELECT * FROM t WHERE a IN ({})", vec!["12345"; 10_000].join(","))),
        ("a thousand casts", format!("SELECT a{}", "::text".repeat(1000))),
        ("a thousand joins", format!("SELECT 1 FROM t{}", " JOIN u ON t.a = u.a AND t.b = u.b".repeat(1000))),
        ("ten thousand ORs", format!("SELECT 1 WHERE {}", vec!["a = 1 AND b = 2"; 10_000].join(" OR "))),
        ("a thousand WHENs", format!("SELECT CASE {} END", "WHEN a = 1 THEN 'x' ".repeat(1000))),
        ("a mebibyte of rows", format!("INSERT INTO t VALUES {}", vec!["(1,'abcdefgh',2.5,NULL)"; 45_000].join(","))),
        ("a mebibyte of text", format!("SELECT '{}'", "{\"a\": 1} ".repeat(120_000))),
        ("fifteen mebibytes of text", format!("SELECT '{}'", "{\"a\": 1} ".repeat(1_700_000))),
    ];
    for (what, text) in cases {
        let started = std::time::Instant::now();
        let result = through(&text);
        assert!(result.is_ok(), "{what}: {:?}", result.err());
        eprintln!("{what}: {:?}, {:?}", started.elapsed(), measure(&text, &ParseLimits::default()).unwrap());
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused_by_count() {
    let n = 100_000;
    let cases = [
        ("(", format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))),
        ("open (", format!("SELECT {}", "(".repeat(n))),
        ("[", format!("SELECT {}1{}", "ARRAY[".repeat(n), "]".repeat(n))),
        ("+", format!("SELECT 1{}", "+1".repeat(n))),
        ("||", format!("SELECT a{}", "||a".repeat(n))),
        ("keywords as names", format!("SELECT a{}", "+t.select".repeat(n))),
        ("NOT", format!("SELECT {}true", "NOT ".repeat(n))),
        ("-", format!("SELECT {}1", "- ".repeat(n))),
        ("~", format!("SELECT {}1", "~ ".repeat(n))),
        ("::", format!("SELECT 1{}", "::int".repeat(n))),
        ("COLLATE", format!("SELECT 'a'{}", " COLLATE \"C\"".repeat(n))),
        ("AT TIME ZONE", format!("SELECT a{}", " AT TIME ZONE 'UTC'".repeat(n))),
        ("AT LOCAL", format!("SELECT a{}", " AT LOCAL".repeat(n))),
        ("CASE", format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n))),
        ("UNION", format!("SELECT 1{}", " UNION SELECT 1".repeat(n))),
        ("UNION with lists", format!("SELECT 1, 2{}", " UNION SELECT 1, 2".repeat(n))),
        ("JOIN", format!("SELECT 1 FROM a{}", " CROSS JOIN a".repeat(n))),
        ("sub-selects", format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n))),
        ("BETWEEN and NOT", format!("SELECT {}true", "x BETWEEN 1 AND NOT ".repeat(n))),
        ("calls", format!("SELECT {}1{}", "f(".repeat(n), ")".repeat(n))),
        ("EXISTS", format!("SELECT {}1{}", "EXISTS(SELECT ".repeat(n), ")".repeat(n))),
        ("WITH", format!("{}SELECT 1{}", "WITH a AS (".repeat(n), ") SELECT 1".repeat(n))),
    ];
    for (what, text) in cases {
        let denial = through(&text).expect_err(what);
        assert!(matches!(denial.sqlstate, "54001" | "54000"), "{what}: {denial:?}");
    }
}

#[test]
fn what_the_count_lets_through_fits_the_deep_stack() {
    // The deepest of each kind that is still parsed, found by halving; none may overflow.
    let kinds: [fn(usize) -> String; 9] = [
        |n| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
        |n| format!("SELECT 1{}", "+1".repeat(n)),
        |n| format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n)),
        |n| format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(n), ") x".repeat(n)),
        |n| format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n)),
        |n| format!("SELECT 1{}", " UNION SELECT 1".repeat(n)),
        |n| format!("SELECT {}true", "x BETWEEN 1 AND NOT ".repeat(n)),
        |n| format!("{}SELECT 1{}", "WITH a AS (".repeat(n), ") SELECT 1".repeat(n)),
        |n| format!("SELECT {}true", "NOT ".repeat(n)),
    ];
    for kind in kinds {
        let (mut good, mut bad) = (10, 20_000);
        while bad - good > good / 20 + 1 {
            let middle = usize::midpoint(good, bad);
            match through(&kind(middle)) {
                Ok(_) => good = middle,
                Err(denial) => {
                    assert!(matches!(denial.sqlstate, "54001" | "54000"), "{denial:?}");
                    bad = middle;
                }
            }
        }
        eprintln!("{good} of {}", kind(1));
        assert!(good >= 60);
    }
}

#[test]
fn a_nul_and_too_long_a_text_are_refused() {
    assert_eq!(parse("SELECT 1\0", &ParseLimits::default()).unwrap_err().reason, Reason::Bounds);
    let limits = ParseLimits { bytes: 10, ..ParseLimits::default() };
    assert_eq!(parse("SELECT 1234", &limits).unwrap_err().sqlstate, "54000");
    let limits = ParseLimits { memory: 1 << 20, ..ParseLimits::default() };
    assert_eq!(parse(&format!("SELECT {}", "1,".repeat(10_000)), &limits).unwrap_err().sqlstate, "54000");
}

#[test]
fn a_text_without_tokens_is_no_statement() {
    for text in ["", " \n\t\r\u{b}\u{c}", "-- x", "/* x */", ";;"] {
        assert!(parse(text, &ParseLimits::default()).unwrap().tree.stmts.is_empty(), "{text:?}");
        normalize(text);
    }
}

#[test]
fn a_syntax_error_has_its_sqlstate() {
    let denial = parse("SELEC 1", &ParseLimits::default()).unwrap_err();
    assert_eq!((denial.reason, denial.sqlstate), (Reason::Syntax, "42601"));
    assert_eq!(denial.message, "syntax error at or near \"SELEC\"");
}

#[test]
fn a_syntax_error_is_at_the_word_and_not_at_a_longer_one() {
    let text = "CREATE TABLE t (a int NOT NULL, b int NOT NUL, c int NOT NULL)";
    let place = text.find("NUL,").map(|at| at as u32);
    assert_eq!(parse(text, &ParseLimits::default()).unwrap_err().position, place);
}

#[test]
fn an_error_of_the_scanner_has_its_place_and_its_sqlstate() {
    let denial = |text: &str| parse(text, &ParseLimits::default()).unwrap_err();
    let junk = denial("SELECT 1, 123abc");
    assert_eq!((junk.reason, junk.sqlstate, junk.position), (Reason::Syntax, "42601", Some(10)), "{}", junk.message);
    assert_eq!(denial("SELECT E'\\u061'").sqlstate, "22025");
    assert_eq!(denial("SELECT U&'\\061'").sqlstate, "42601");
}

#[test]
fn a_text_that_means_another_tree_is_not_sent() {
    let tree = parse("SELECT a FROM t", &ParseLimits::default()).unwrap().tree;
    let edit = |text: &str| vec![Edit { start: 14, end: 14, text: text.into() }];
    let wanted = parse("SELECT a FROM s.t", &ParseLimits::default()).unwrap().tree;
    let done = splice("SELECT a FROM t", edit("s."), &wanted).unwrap();
    assert_eq!(done.text, "SELECT a FROM s.t");
    assert_eq!(splice("SELECT a FROM t", edit("x."), &wanted).unwrap_err().reason, Reason::Unsupported);
    assert_eq!(splice("SELECT a FROM t", edit("s."), &tree).unwrap_err().reason, Reason::Unsupported);
}

#[test]
fn positions_of_a_spliced_text_are_mapped_back() {
    let text = "SELECT 'é', b FROM t, u";
    let wanted = parse("SELECT 'é', b FROM s.t, s.u", &ParseLimits::default()).unwrap().tree;
    let at = |name: &str| text.find(name).unwrap();
    let edits = vec![
        Edit { start: at("u"), end: at("u"), text: "s.".into() },
        Edit { start: at("t,"), end: at("t,"), text: "s.".into() },
    ];
    let done = splice(text, edits, &wanted).unwrap();
    let new = |name: &str| done.text.chars().collect::<String>().split(name).next().unwrap().chars().count() + 1;
    let old = |name: &str| text.split(name).next().unwrap().chars().count() + 1;
    for name in ["b FROM", "t,", "u"] {
        assert_eq!(done.original_position(new(name)), old(name), "{name}");
    }
    assert_eq!(done.original_position(new("s.t")), old("t,"));
}

#[test]
fn a_place_of_the_rewritten_text_is_that_of_the_same_word_or_literal() {
    let (original, rewritten) =
        ("INSERT INTO t VALUES ('é', 1, 'x''y', 1)", "INSERT INTO s.t VALUES ('é', 1, 'x''y', 1)");
    let place = |text: &str, token: &str| text.split(token).next().unwrap().chars().count() + 1;
    for token in ["VALUES", "'é'", "'x''y'", "1,", "1)"] {
        let position = original_position(original, rewritten, place(rewritten, token));
        assert_eq!(position, Some(place(original, token)), "{token}");
    }
    for token in ["(", "s."] {
        assert_eq!(original_position(original, rewritten, place(rewritten, token)), None, "{token}");
    }
    // Which of two is meant isn't known where the rewrite added one.
    let added = "SELECT a FROM (SELECT a FROM t WHERE a = 1) t WHERE a = 'x'";
    assert_eq!(original_position("SELECT a FROM t WHERE a = 'x'", added, place(added, "a = 'x'")), None);
}

#[test]
fn a_tablespaces_location_is_no_position() {
    let one = parse("CREATE TABLESPACE a LOCATION '/a'", &ParseLimits::default()).unwrap().tree;
    let other = parse("CREATE TABLESPACE a LOCATION '/b'", &ParseLimits::default()).unwrap().tree;
    assert_ne!(digest::digest(&one).unwrap(), digest::digest(&other).unwrap());
    let moved = parse("  CREATE  TABLESPACE a LOCATION  '/a'", &ParseLimits::default()).unwrap().tree;
    assert_eq!(digest::digest(&one).unwrap(), digest::digest(&moved).unwrap());
}

#[test]
fn normalizing_replaces_every_literal_and_keeps_the_rest() {
    let cases = [
        ("SELECT  a FROM T -- x\n WHERE b = 'secret' AND c=12", "SELECT a FROM t WHERE b = $1 AND c= $2"),
        ("SELECT $2, 'x', $1 FROM t WHERE a = 1", "SELECT $2, … FROM t WHERE a = $3"),
        ("SELECT 1 WHERE a IN (1, 2,3 , 4)", "SELECT $1 WHERE a IN ($2, …)"),
        ("INSERT INTO t VALUES (1,'a'),(2,'b')", "INSERT INTO t VALUES ($1, …),($2, …)"),
        ("ALTER ROLE x PASSWORD 'geheim'", "ALTER ROLE x PASSWORD $1"),
        ("SELEC E'a\\'b' \"Name\"", "selec $1 \"Name\""),
        ("SELECT 'open", "SELECT …"),
    ];
    for (text, wanted) in cases {
        assert_eq!(normalize(text), wanted);
    }
    assert_eq!(
        fingerprint(&normalize("select A  from t where b=1")),
        fingerprint(&normalize("SELECT a FROM t WHERE b=2"))
    );
    assert_ne!(fingerprint(&normalize("select \"A\"")), fingerprint(&normalize("select \"a\"")));
}

#[test]
fn statements_of_one_text_are_told_apart() {
    let text = "SELECT 'é;' ; /* x */ SELECT 2;;\n COMMIT";
    let tree = parse(text, &ParseLimits::default()).unwrap().tree;
    assert_eq!(split(text, &tree), ["SELECT 'é;'", "SELECT 2", "COMMIT"]);
}

#[tokio::test]
async fn the_budget_lets_wait_and_refuses_what_never_fits() {
    let budget = Budget::new(1 << 20);
    let of = |memory| Measure { memory, ..Measure::default() };
    assert_eq!(budget.acquire(&of(2 << 20)).await.unwrap_err().sqlstate, "54000");
    let first = budget.acquire(&of(900 << 10)).await.unwrap();
    let large = of(900 << 10);
    let second = budget.acquire(&large);
    tokio::pin!(second);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
    assert!(waited.is_err());
    // Small ones do not wait for large ones.
    budget.acquire(&of(10 << 10)).await.unwrap();
    drop(first);
    second.await.unwrap();
}

#[test]
fn parsing_in_many_threads_leaves_stderr_alone() {
    let before = std::fs::read_link("/proc/self/fd/2").unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                for n in 0..500 {
                    parse(&format!("SELECT {n}"), &ParseLimits::default()).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(std::fs::read_link("/proc/self/fd/2").unwrap(), before);
}

fn corpus() -> Vec<&'static str> {
    include_str!("corpus.sql").split(";\n").map(str::trim).filter(|text| !text.is_empty()).collect()
}

#[test]
fn every_statement_of_the_corpus_is_proven() {
    for text in corpus() {
        if let Err(denial) = through(text) {
            panic!("{text}: {denial:?}");
        }
    }
}

fn sql_soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "(",
        ")",
        "[",
        "]",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "+",
        "-",
        "||",
        "::",
        "int",
        "a",
        "b",
        ".",
        ",",
        "1",
        "'x'",
        "NOT",
        "AND",
        "OR",
        "BETWEEN",
        "UNION",
        "JOIN",
        "ON",
        "=",
        "IS NULL",
        "IN",
        "f(",
        "ARRAY[",
        ";",
        "WITH",
        "AS",
        "VALUES",
        "$1",
        "COLLATE \"C\"",
        "AT TIME ZONE",
        "EXISTS (SELECT",
        "IS",
        "DISTINCT FROM",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["a", "1", "'x'", "t.select", "$1"]).prop_map(str::to_owned);
    leaf.prop_recursive(12, 80, 4, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), prop::sample::select(vec!["+", "||", "=", "AND", "OR", "*"]))
                .prop_map(|((a, b), op)| format!("{a} {op} {b}")),
            two.clone().prop_map(|(a, b)| format!("CASE WHEN {a} THEN {b} END")),
            two.clone().prop_map(|(a, b)| format!("{a} BETWEEN 1 AND NOT {b}")),
            two.clone().prop_map(|(a, b)| format!("({a}, {b})")),
            two.clone().prop_map(|(a, b)| format!("f({a}, {b})")),
            two.prop_map(|(a, b)| format!("(SELECT {a} FROM t WHERE {b} UNION SELECT 1)")),
            inner.clone().prop_map(|a| format!("NOT {a}")),
            inner.clone().prop_map(|a| format!("({a})::int")),
            inner.clone().prop_map(|a| format!("ARRAY[{a}]")),
            inner.clone().prop_map(|a| format!("- {a}")),
            inner.clone().prop_map(|a| format!("({a}) IS NOT NULL")),
            inner.prop_map(|a| format!("EXISTS (SELECT * FROM (SELECT {a}) x JOIN u ON {a})")),
        ]
    })
}

/// Nested messages of a tree, from its text as Debug writes it: braces open and close.
fn nesting(tree: &protobuf::ParseResult) -> usize {
    let (mut depth, mut most) = (0usize, 0usize);
    for byte in format!("{tree:?}").bytes() {
        match byte {
            b'{' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_panic(text in "\\PC{0,80}") {
        let _ = through(&text);
        let _ = normalize(&text);
    }

    #[test]
    fn no_words_panic(text in sql_soup()) {
        let _ = through(&text);
        let _ = normalize(&text);
    }

    #[test]
    fn the_count_bounds_the_tree(text in expression()) {
        let text = format!("SELECT {text}");
        if let Ok(parsed) = parse(&text, &ParseLimits::default()) {
            let nesting = nesting(&parsed.tree);
            prop_assert!(nesting <= 6 * parsed.measure.depth + 12, "{nesting} > 6 * {} + 12: {text}", parsed.measure.depth);
        }
    }
}
