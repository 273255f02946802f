//! A gate over the masking corpus's database, and what must hold of each of its decisions.

use std::sync::Arc;
use std::time::Duration;

use pg_query::protobuf as pb;
use pg_query::{NodeEnum, NodeRef};
use postern_crds::files::{self, Object};
use postern_sidecar::analyze::{Analysis, Decided, SessionView, analyze};
use postern_sidecar::catalog::refresh::{CatalogKeeper, Connect, KeeperOptions};
use postern_sidecar::gate::Gate;
use postern_sidecar::metrics::Metrics;
use postern_sidecar::policy_files::Loaded;
use postern_sidecar::session::Decide;
use postern_sidecar::sql::{self, ParseLimits};

/// Nothing changes, so nothing is waited for.
const PATIENCE: KeeperOptions = KeeperOptions {
    period: Duration::from_secs(1 << 20),
    patience: Duration::from_secs(60),
    least_gap: Duration::ZERO,
    caller_patience: Duration::from_millis(1),
};

/// Masked and hidden columns by table, and whether the table has a filter.
const GUARDED: [(&str, &[&str], bool); 12] = [
    (
        "customers",
        &[
            "email",
            "card",
            "card_lower",
            "ssn",
            "note",
            "secret",
            "code",
            "label",
            "birth",
            "seen",
            "balance",
            "salary",
            "doc",
            "blob",
            "tags",
        ],
        false,
    ),
    ("payments", &["customer_email", "token"], false),
    ("people", &["phone"], false),
    ("managers", &["phone", "bonus"], false),
    ("events", &["payload"], false),
    ("events_eu", &["payload"], false),
    ("events_us", &["payload"], false),
    ("vault", &["pin"], false),
    ("coded", &["code"], false),
    ("orders", &[], true),
    ("parcels", &[], true),
    ("tasks", &[], true),
];

/// The gate and what it decides under.
pub struct Decisions {
    runtime: tokio::runtime::Runtime,
    gate: Arc<Gate>,
    limits: ParseLimits,
}

impl Decisions {
    /// Under the corpus's policy and an identity, over its database.
    pub fn new(connect: impl Connect, documents: &str) -> Self {
        let (mut policy, mut identity) = (None, None);
        for object in files::read(documents).expect("policy and identity") {
            match object {
                Object::Policy(manifest) => policy = manifest.compile().ok(),
                Object::Identity(manifest) => identity = manifest.compile().ok(),
            }
        }
        let loaded =
            Loaded { policy: Arc::new(policy.expect("a policy")), identity: Arc::new(identity.expect("an identity")) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let gate = runtime.block_on(async {
            let keeper = CatalogKeeper::start(connect, PATIENCE);
            keeper.ready().await;
            Gate::new(keeper, loaded, Metrics::new("fuzz").expect("metrics"), 64 << 20, 16 << 20)
        });
        Self { runtime, gate, limits: ParseLimits { memory: 64 << 20, ..ParseLimits::default() } }
    }

    /// Decides a text in all ways there are, and holds what must hold of it.
    pub fn check(&self, text: &str) {
        let decided = self.analysed(text);
        let essence = essence(&decided);
        assert_eq!(essence, self::essence(&self.analysed(text)), "not the same twice: {text}");
        if decided.denial.is_some() {
            return;
        }
        if let Some(rewritten) = &decided.rewritten {
            hold_views(text, rewritten);
        }
        // What the gate remembers of a text, and of its shape, is what the analysis says of each by itself.
        let Some(shape) = sql::shape(text) else { return };
        let (strange, _) = shape.with_strangers(text, &vec![true; shape.literals.len()]);
        for text in [text, &strange, text, &strange] {
            let alone = self.analysed(text);
            if alone.denial.is_some() {
                continue;
            }
            let view = SessionView { looked: false, ..view() };
            // A name that is looked up in vain is the server's to refuse.
            if let Analysis::Decided(decided) = self.runtime.block_on(self.gate.decide(&view, text, &[])) {
                assert_eq!(self::essence(&decided), self::essence(&alone), "{text}");
            }
        }
    }

    fn analysed(&self, text: &str) -> Arc<Decided> {
        let bound = self.gate.bound();
        let analysis = sql::measure(text, &self.limits)
            .and_then(|measure| sql::deep::run_blocking(&measure, || analyze(text, measure, &bound, &view(), &[])));
        match analysis {
            Ok(Analysis::Decided(decided)) => decided,
            Ok(Analysis::Lookup(names)) => panic!("{names:?} were looked up, still unknown: {text}"),
            Err(denial) => Arc::new(Decided::refused(denial, bound.version)),
        }
    }
}

fn view() -> SessionView {
    SessionView { search_path: Arc::from(["public".to_owned()].as_slice()), looked: true, ..SessionView::default() }
}

/// What a decision comes to.
fn essence(decided: &Decided) -> String {
    format!("{:?} {:?} {:?} {}", decided.denial, decided.rewritten, decided.statements, decided.normalized)
}

/// In what is sent, a guarded table stands in FROM only within a view: alone, masked columns never bare, filtered.
fn hold_views(text: &str, rewritten: &str) {
    let Ok(measure) = sql::measure(rewritten, &ParseLimits::default()) else {
        panic!("can't be read again: {rewritten}")
    };
    let held = sql::deep::run_blocking(&measure, || {
        let parsed = sql::parse_measured(rewritten, measure).map_err(|denial| denial.message)?;
        for (node, ..) in parsed.tree.nodes() {
            match node {
                NodeRef::SelectStmt(select) => is_view_or_plain(select)?,
                NodeRef::JoinExpr(join) => {
                    none_guarded(join.larg.iter().chain(&join.rarg).map(AsRef::as_ref))?;
                }
                NodeRef::UpdateStmt(update) => none_guarded(&update.from_clause)?,
                NodeRef::DeleteStmt(delete) => none_guarded(&delete.using_clause)?,
                _ => {}
            }
        }
        Ok::<_, String>(())
    });
    match held {
        Ok(Ok(())) => {}
        other => panic!("{other:?}\n  of  {text}\n  came {rewritten}"),
    }
}

/// The guarded table that a FROM item is, if it is one.
fn guarded(item: &pb::Node) -> Option<(&'static [&'static str], bool)> {
    let range = match &item.node {
        Some(NodeEnum::RangeVar(range)) => range,
        Some(NodeEnum::RangeTableSample(sample)) => match &sample.relation.as_ref()?.node {
            Some(NodeEnum::RangeVar(range)) => range,
            _ => return None,
        },
        _ => return None,
    };
    let found = GUARDED.iter().find(|(name, ..)| range.schemaname == "public" && range.relname == *name);
    found.map(|(_, columns, is_filtered)| (*columns, *is_filtered))
}

fn none_guarded<'a>(items: impl IntoIterator<Item = &'a pb::Node>) -> Result<(), String> {
    match items.into_iter().find(|item| guarded(item).is_some()) {
        Some(item) => Err(format!("a guarded table outside a view: {item:?}")),
        None => Ok(()),
    }
}

fn is_view_or_plain(select: &pb::SelectStmt) -> Result<(), String> {
    let [item] = select.from_clause.as_slice() else { return none_guarded(&select.from_clause) };
    let Some((columns, is_filtered)) = guarded(item) else { return Ok(()) };
    if is_filtered && select.where_clause.is_none() {
        return Err("a view without its filter".to_owned());
    }
    for target in &select.target_list {
        let Some(NodeEnum::ResTarget(target)) = &target.node else { continue };
        let Some(NodeEnum::ColumnRef(column)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else {
            continue;
        };
        let last = column.fields.last().and_then(|field| field.node.as_ref());
        match last {
            Some(NodeEnum::String(name)) if !columns.contains(&name.sval.as_str()) => {}
            _ => return Err(format!("a view that shows {column:?}")),
        }
    }
    Ok(())
}
