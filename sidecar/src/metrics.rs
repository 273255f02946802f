//! Prometheus metrics: every name of them in one place, with labels from closed sets, so that the series are finite
//! whatever a client sends. Handed in, not reached through a static; the counters of the hot path are resolved once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postern_crds::Verb;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::analyze::Decided;
use crate::decide::Reason;

/// How a statement was decided, as metrics and the audit write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was sent.
    Allow,
    /// It was refused.
    Deny,
    /// It was sent, and would have been refused if the policy's mode were Enforce.
    WouldDeny,
    /// It waits for an approval.
    Hold,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 4] = [Outcome::Allow, Outcome::Deny, Outcome::WouldDeny, Outcome::Hold];

    /// The outcome of a decision.
    pub const fn of(decided: &Decided) -> Outcome {
        if decided.denial.is_some() {
            Outcome::Deny
        } else if decided.would_deny.is_some() {
            Outcome::WouldDeny
        } else {
            Outcome::Allow
        }
    }

    /// The word in metrics and audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
            Outcome::WouldDeny => "would_deny",
            Outcome::Hold => "hold",
        }
    }
}

/// What came of reading a changed policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// It has mistakes; the last good one stays.
    Rejected,
}

/// What came of exchanging the pod's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// There is an access token.
    Granted,
    /// The right is denied.
    Refused,
    /// The broker, or what it needs, is away.
    Unreachable,
    /// Anything else.
    Failed,
}

impl Exchange {
    const ALL: [(Exchange, &str); 4] = [
        (Exchange::Granted, "granted"),
        (Exchange::Refused, "refused"),
        (Exchange::Unreachable, "unreachable"),
        (Exchange::Failed, "failed"),
    ];
}

/// All metrics of one sidecar.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By verb (`Verb::ALL` and, last, statements without one), then outcome.
    statements: Vec<[IntCounter; 4]>,
    denials: Vec<IntCounter>,
    rows_delivered: IntCounter,
    bytes_delivered: IntCounter,
    decision_seconds: Histogram,
    upstream_seconds: Histogram,
    sessions: IntGauge,
    sessions_total: IntCounter,
    sessions_refused: IntCounter,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    cache_bytes: IntGauge,
    catalog_age: IntGauge,
    catalog_version: IntGauge,
    policy_version: IntGauge,
    bind_problems: IntGauge,
    audit_queue_bytes: IntGauge,
    audit_events: IntCounter,
    audit_refusals: IntCounter,
    audit_lost: IntCounter,
    masked_predicates: IntCounter,
    window_rows_left: IntGauge,
    window_bytes_left: IntGauge,
    reloads: [IntCounter; 2],
    upstream_connections: IntGauge,
    upstream_reachable: IntGauge,
    second_wall: IntCounter,
    lease_left: IntGauge,
    lease_until: Mutex<Option<Instant>>,
    /// By [`Exchange`].
    exchanges: Vec<IntCounter>,
    spool_bytes: IntGauge,
    audit_unsent: IntGauge,
    audit_acknowledged: IntCounter,
}

/// Bounds of the decision histogram: a cache hit is under a microsecond, a large statement takes milliseconds.
const DECISION_BUCKETS: [f64; 11] = [1e-6, 2.5e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.25];
/// Bounds of the upstream histogram: from a keyed read on one machine to a report.
const UPSTREAM_BUCKETS: [f64; 12] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.25, 1.0, 5.0, 30.0, 120.0];

impl Metrics {
    /// Registers the metrics for a sidecar that serves the policy `namespace/name`.
    pub fn new(policy: &str) -> Result<Arc<Metrics>, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };

        let by_verb = counters(
            "postern_statements_total",
            "Statements decided, by policy, main verb and decision.",
            &["policy", "verb", "decision"],
        )?;
        let verbs = Verb::ALL.iter().map(|verb| verb.as_str()).chain(std::iter::once("None"));
        let statements =
            verbs.map(|verb| Outcome::ALL.map(|o| by_verb.with_label_values(&[policy, verb, o.as_str()]))).collect();
        let by_reason = counters("postern_denials_total", "Statements refused, by reason.", &["reason"])?;
        let denials = Reason::ALL.iter().map(|reason| by_reason.with_label_values(&[reason.as_str()])).collect();
        let reloads = counters(
            "postern_policy_reload_total",
            "Changes of policy or identity files, by what came of them.",
            &["result"],
        )?;
        let exchanges = counters(
            "postern_lease_exchanges_total",
            "Exchanges of the pod's token at the broker, by what came of them.",
            &["outcome"],
        )?;
        let build = IntGaugeVec::new(Opts::new("postern_build_info", "Always 1; says what runs."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;

        let metrics = Metrics {
            statements,
            denials,
            rows_delivered: counter("postern_rows_delivered_total", "Result rows sent to clients.")?,
            bytes_delivered: counter("postern_bytes_delivered_total", "Bytes of result rows sent to clients.")?,
            decision_seconds: histogram(
                "postern_decision_seconds",
                "Time from a statement's arrival to its decision.",
                &DECISION_BUCKETS,
            )?,
            upstream_seconds: histogram(
                "postern_upstream_seconds",
                "Time from sending a statement to its completion by the server.",
                &UPSTREAM_BUCKETS,
            )?,
            sessions: gauge("postern_sessions", "Client sessions that are open.")?,
            sessions_total: counter("postern_sessions_total", "Client sessions that were opened.")?,
            sessions_refused: counter("postern_sessions_refused_total", "Client connections refused at their start.")?,
            cache_hits: counter("postern_decision_cache_hits_total", "Statements decided from the cache.")?,
            cache_misses: counter("postern_decision_cache_misses_total", "Statements that had to be analysed.")?,
            cache_bytes: gauge("postern_decision_cache_bytes", "Estimated size of the cached decisions.")?,
            catalog_age: gauge("postern_catalog_age_seconds", "Time since the catalog was last read.")?,
            catalog_version: gauge("postern_catalog_version", "Grows whenever the catalog is seen to have changed.")?,
            policy_version: gauge("postern_policy_version", "Grows with each binding of policy and catalog.")?,
            bind_problems: gauge(
                "postern_bind_problems",
                "Parts of the policy that do not fit the catalog; what they name is closed.",
            )?,
            audit_queue_bytes: gauge("postern_audit_queue_bytes", "Audit events that are not written yet.")?,
            audit_events: counter("postern_audit_events_total", "Audit events written or queued.")?,
            audit_refusals: counter(
                "postern_audit_refusals_total",
                "Statements and sessions refused because the audit could not take their event.",
            )?,
            audit_lost: counter(
                "postern_audit_lost_total",
                "End events (never those of statements about to be sent) that a full audit could not take.",
            )?,
            masked_predicates: counter(
                "postern_masked_predicates_total",
                "Statements that compare, join or sort by a masked column.",
            )?,
            window_rows_left: gauge("postern_window_rows_left", "Rows left in the window's budget; -1 without one.")?,
            window_bytes_left: gauge(
                "postern_window_bytes_left",
                "Bytes left in the window's budget; -1 without one.",
            )?,
            reloads: [reloads.with_label_values(&["applied"]), reloads.with_label_values(&["rejected"])],
            upstream_connections: gauge("postern_upstream_connections", "Connections to the database that are open.")?,
            upstream_reachable: gauge(
                "postern_upstream_reachable",
                "Whether the database could be reached the last time it was tried.",
            )?,
            second_wall: counter(
                "postern_second_wall_total",
                "Sessions ended because a column that should be masked arrived raw. Any is a bug: please report it.",
            )?,
            lease_left: gauge(
                "postern_lease_seconds_left",
                "Time until the lease ends; 0 without one, -1 where none is needed.",
            )?,
            lease_until: Mutex::new(None),
            exchanges: Exchange::ALL.iter().map(|(_, word)| exchanges.with_label_values(&[*word])).collect(),
            spool_bytes: gauge("postern_audit_spool_bytes", "Size of the audit's spool.")?,
            audit_unsent: gauge("postern_audit_unsent", "Audit events of the spool that the broker does not have.")?,
            audit_acknowledged: counter(
                "postern_audit_acknowledged_total",
                "Audit events of the spool that the broker has.",
            )?,
            registry,
        };
        metrics.lease_left.set(-1);
        metrics.window_rows_left.set(-1);
        metrics.window_bytes_left.set(-1);
        Ok(Arc::new(metrics))
    }

    /// A statement was decided; `verb` is its main one.
    pub fn statement(&self, verb: Option<Verb>, outcome: Outcome) {
        let row = verb.map_or(Verb::ALL.len(), |verb| verb as usize);
        if let Some(counter) = self.statements.get(row).and_then(|row| row.get(outcome as usize)) {
            counter.inc();
        }
    }

    /// A statement was refused, held or, in mode Audit, would have been.
    pub fn denial(&self, reason: Reason) {
        if let Some(counter) = self.denials.get(reason as usize) {
            counter.inc();
        }
    }

    /// Result rows went to a client.
    pub fn delivered(&self, rows: u64, bytes: u64) {
        self.rows_delivered.inc_by(rows);
        self.bytes_delivered.inc_by(bytes);
    }

    /// A decision took this long.
    pub fn decision_took(&self, time: Duration) {
        self.decision_seconds.observe(time.as_secs_f64());
    }

    /// The server took this long for a statement.
    pub fn upstream_took(&self, time: Duration) {
        self.upstream_seconds.observe(time.as_secs_f64());
    }

    /// A session opened; it is open until the guard is dropped.
    pub fn session_opened(self: &Arc<Self>) -> Open {
        self.sessions_total.inc();
        Open::new(&self.sessions)
    }

    /// Client sessions that are open.
    pub fn open_sessions(&self) -> u32 {
        u32::try_from(self.sessions.get()).unwrap_or(0)
    }

    /// The pod's token was exchanged, or not.
    pub fn exchanged(&self, outcome: Exchange) {
        if let Some(counter) = self.exchanges.get(outcome as usize) {
            counter.inc();
        }
    }

    /// When the lease ends; None if there is none.
    pub fn lease_until(&self, until: Option<Instant>) {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.lease_left
            .set(until.map_or(0, |until| saturate(until.saturating_duration_since(Instant::now()).as_secs())));
    }

    /// The audit's spool: its bytes, and the events that the broker does not have.
    pub fn spool(&self, bytes: u64, unsent: u64) {
        self.spool_bytes.set(saturate(bytes));
        self.audit_unsent.set(saturate(unsent));
    }

    /// So many more events are at the broker.
    pub fn audit_acknowledged(&self, events: u64) {
        self.audit_acknowledged.inc_by(events);
    }

    /// A client connection was refused before it became a session.
    pub fn session_refused(&self) {
        self.sessions_refused.inc();
    }

    /// A connection to the database opened; it is open until the guard is dropped.
    pub fn upstream_opened(&self) -> Open {
        Open::new(&self.upstream_connections)
    }

    /// Whether the database could be reached just now.
    pub fn upstream_reachable(&self, reachable: bool) {
        self.upstream_reachable.set(i64::from(reachable));
    }

    /// A decision came from the cache.
    pub fn cache_hit(&self) {
        self.cache_hits.inc();
    }

    /// A decision had to be made.
    pub fn cache_miss(&self) {
        self.cache_misses.inc();
    }

    /// Size of the decision cache now.
    pub fn cache_bytes(&self, bytes: u64) {
        self.cache_bytes.set(saturate(bytes));
    }

    /// The catalog in force, and how old it is.
    pub fn catalog(&self, version: u64, age: Duration) {
        self.catalog_version.set(saturate(version));
        self.catalog_age.set(saturate(age.as_secs()));
    }

    /// The binding in force, and how many parts of the policy it had to close.
    pub fn bound(&self, version: u64, problems: usize) {
        self.policy_version.set(saturate(version));
        self.bind_problems.set(saturate(problems as u64));
    }

    /// A predicate on a masked column.
    pub fn masked_predicate(&self) {
        self.masked_predicates.inc();
    }

    /// What is left of the window's budget; None where there is none.
    pub fn window_left(&self, rows: Option<u64>, bytes: Option<u64>) {
        self.window_rows_left.set(rows.map_or(-1, saturate));
        self.window_bytes_left.set(bytes.map_or(-1, saturate));
    }

    /// A changed policy or identity was read.
    pub fn reloaded(&self, result: Reload) {
        let [applied, rejected] = &self.reloads;
        match result {
            Reload::Applied => applied.inc(),
            Reload::Rejected => rejected.inc(),
        }
    }

    /// The second wall ended a session.
    pub fn second_wall(&self) {
        self.second_wall.inc();
    }

    /// An audit event was taken.
    pub(crate) fn audit_event(&self) {
        self.audit_events.inc();
    }

    /// Bytes of audit events that wait to be written.
    pub(crate) fn audit_queue(&self, bytes: usize) {
        self.audit_queue_bytes.set(saturate(bytes as u64));
    }

    /// A statement or session was refused because the audit was full.
    pub(crate) fn audit_refused(&self) {
        self.audit_refusals.inc();
    }

    /// An end event was lost because the audit was full.
    pub(crate) fn audit_lost(&self) {
        self.audit_lost.inc();
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let until = *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some() {
            self.lease_until(until);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Counts in a gauge for as long as it lives.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn every_verb_and_reason_counts_in_a_series_of_its_own() {
        let metrics = Metrics::new("shop/shop").unwrap();
        for verb in Verb::ALL {
            metrics.statement(Some(verb), Outcome::Deny);
        }
        metrics.statement(None, Outcome::Allow);
        for reason in Reason::ALL {
            metrics.denial(reason);
        }
        let text = metrics.render().unwrap();
        for verb in Verb::ALL {
            let line = format!("postern_statements_total{{decision=\"deny\",policy=\"shop/shop\",verb=\"{verb}\"}} 1");
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(text.contains("{decision=\"allow\",policy=\"shop/shop\",verb=\"None\"} 1"), "{text}");
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            assert!(text.contains(&format!("postern_denials_total{{reason=\"{}\"}} 1\n", reason.as_str())), "{text}");
        }
    }

    #[test]
    fn a_session_counts_while_it_is_open() {
        let metrics = Metrics::new("p").unwrap();
        let session = metrics.session_opened();
        assert!(metrics.render().unwrap().contains("\npostern_sessions 1\n"));
        drop(session);
        let text = metrics.render().unwrap();
        assert!(text.contains("\npostern_sessions 0\n"));
        assert!(text.contains("\npostern_sessions_total 1\n"));
    }

    #[test]
    fn metrics_have_the_projects_prefix_and_a_help_text() {
        let text = Metrics::new("p").unwrap().render().unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("postern_"), "{line}");
        }
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(helps, text.lines().filter(|line| line.starts_with("# TYPE")).count());
    }
}
