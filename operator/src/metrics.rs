//! Every metric of the operator, in one place. Labels are of few values: no names of objects, so the number of series
//! does not grow with the cluster.

use std::cell::RefCell;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::objects::{Kind, Known, Objects};

/// What the reference says of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its type, as Prometheus calls it.
    pub kind: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it counts.
    pub help: String,
}

/// A registry that knows what is in it, also while nothing was counted yet.
#[derive(Default)]
struct Registered {
    registry: Registry,
    described: RefCell<Vec<Described>>,
}

impl Registered {
    fn register(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        for (family, desc) in collector.collect().iter().zip(collector.desc()) {
            self.described.borrow_mut().push(Described {
                name: desc.fq_name.clone(),
                kind: format!("{:?}", family.get_field_type()).to_lowercase(),
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        self.registry.register(collector)
    }
}

/// The operator's metrics. One for a process, handed to who counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    /// Admission reviews, by `webhook` and `outcome` (allowed, changed, refused, unreadable).
    pub admissions: IntCounterVec,
    /// How long they took, by `webhook`.
    pub admission_seconds: HistogramVec,
    /// Policies and identities, by `kind` and `state` (in_force, last_good, not_in_force).
    pub objects: IntGaugeVec,
    /// Pods that ask for a policy, by `sidecar` (current, outdated, missing); on the replica that leads.
    pods: IntGaugeVec,
    /// Objects that the controllers looked at, by `kind` and `outcome` (done, failed).
    pub reconciles: IntCounterVec,
    /// How long that took, by `kind`.
    pub reconcile_seconds: HistogramVec,
    /// Answers of the API server, by `code`.
    pub api_answers: IntCounterVec,
    /// Events, by `outcome` (written, failed, dropped).
    pub events: IntCounterVec,
    /// When what is served with ends, in Unix time, by `authority`.
    pub certificate_ends: IntGaugeVec,
    /// 1 on the replica that runs the controllers.
    pub leading: IntGauge,
    /// 1 once everything that there was at the start is known.
    pub synced: IntGauge,
    /// Exchanges of tokens, by `outcome` (granted, or the error's code).
    pub exchanges: IntCounterVec,
    /// Polls for a lease, by `outcome` (lease, unchanged, or the error's code).
    pub polls: IntCounterVec,
    /// Roles made for sidecars, by `outcome` (lent, dropped, failed, stuck).
    pub roles: IntCounterVec,
    /// Polls that wait for a change: the sidecars with a lease that ask this replica.
    pub polling: IntGauge,
    /// Questions about tokens, by `outcome` (good, refused, failed, remembered).
    pub token_reviews: IntCounterVec,
    /// Events of the audit that the sink has.
    pub audit_events: IntCounter,
    /// Events of the audit that never came.
    pub audit_missing: IntCounter,
    /// Batches that the sink did not take.
    pub audit_failures: IntCounter,
}

impl Metrics {
    /// None of them counted anything yet.
    pub fn new() -> prometheus::Result<Arc<Self>> {
        let registry = Registered::default();
        let build = IntGaugeVec::new(Opts::new("postern_build_info", "1, with the version as a label"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let admissions = IntCounterVec::new(
            Opts::new(
                "postern_operator_admissions_total",
                "Admission reviews, by webhook and outcome: allowed, changed, refused or unreadable",
            ),
            &["webhook", "outcome"],
        )?;
        registry.register(Box::new(admissions.clone()))?;
        let admission_seconds = HistogramVec::new(
            HistogramOpts::new("postern_operator_admission_seconds", "Time to answer an admission review")
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5]),
            &["webhook"],
        )?;
        registry.register(Box::new(admission_seconds.clone()))?;
        let objects = IntGaugeVec::new(
            Opts::new(
                "postern_operator_objects",
                "Policies and identities, by what is in force of them: in_force, last_good or not_in_force",
            ),
            &["kind", "state"],
        )?;
        registry.register(Box::new(objects.clone()))?;
        let pods = IntGaugeVec::new(
            Opts::new(
                "postern_operator_pods",
                "Pods by whether their sidecar is current or outdated, and what asks for one and has none",
            ),
            &["sidecar"],
        )?;
        registry.register(Box::new(pods.clone()))?;
        let reconciles = IntCounterVec::new(
            Opts::new(
                "postern_operator_reconciles_total",
                "Policies and identities that the controllers looked at, by outcome: done or failed",
            ),
            &["kind", "outcome"],
        )?;
        registry.register(Box::new(reconciles.clone()))?;
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("postern_operator_reconcile_seconds", "Time to look at a policy or an identity")
                .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0]),
            &["kind"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        let api_answers = IntCounterVec::new(
            Opts::new("postern_operator_api_answers_total", "Answers of the API server, by status code"),
            &["code"],
        )?;
        registry.register(Box::new(api_answers.clone()))?;
        let certificate_ends = IntGaugeVec::new(
            Opts::new(
                "postern_operator_certificate_end_timestamp_seconds",
                "When the certificate that is served with ends; it is renewed long before",
            ),
            &["authority"],
        )?;
        registry.register(Box::new(certificate_ends.clone()))?;
        let leading = IntGauge::new("postern_operator_leading", "1 on the replica that runs the controllers")?;
        registry.register(Box::new(leading.clone()))?;
        let synced = IntGauge::new("postern_operator_synced", "1 once the first lists of all watches are through")?;
        registry.register(Box::new(synced.clone()))?;
        let by_outcome = |name: &str, help: &str| -> prometheus::Result<IntCounterVec> {
            let counter = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let polling = IntGauge::new("postern_operator_lease_polls", "Polls for a lease that wait for a change")?;
        registry.register(Box::new(polling.clone()))?;
        Ok(Arc::new(Self {
            polling,
            reconcile_seconds,
            api_answers,
            certificate_ends,
            events: by_outcome("postern_operator_events_total", "Kubernetes Events")?,
            exchanges: by_outcome(
                "postern_operator_exchanges_total",
                "Exchanges of pods' tokens, by outcome: granted, or the error's code",
            )?,
            polls: by_outcome(
                "postern_operator_lease_polls_total",
                "Polls for a lease, by outcome: lease, unchanged, or the error's code",
            )?,
            roles: by_outcome(
                "postern_operator_roles_total",
                "Roles made for sidecars, by outcome: lent, dropped, failed or stuck",
            )?,
            token_reviews: by_outcome(
                "postern_operator_token_reviews_total",
                "Reviews of pods' tokens, by outcome: good, refused, failed or remembered",
            )?,
            audit_events: counter("postern_operator_audit_events_total", "Audit events kept by the sink")?,
            audit_missing: counter("postern_operator_audit_missing_total", "Audit events that never came")?,
            audit_failures: counter(
                "postern_operator_audit_failures_total",
                "Audit batches that the sink did not take",
            )?,
            registry: registry.registry,
            described: registry.described.into_inner(),
            admissions,
            admission_seconds,
            objects,
            pods,
            reconciles,
            leading,
            synced,
        }))
    }

    /// Says how many pods have current and outdated sidecars.
    pub fn count_pods(&self, current: usize, outdated: usize) {
        for (sidecar, pods) in [("current", current), ("outdated", outdated)] {
            self.pods.with_label_values(&[sidecar]).set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
    }

    /// Says how many ask for a sidecar and have none.
    pub fn count_missing(&self, missing: usize) {
        self.pods.with_label_values(&["missing"]).set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    /// Counts policies and identities by what is in force of them.
    pub fn count_objects(&self, objects: &Objects) {
        self.count_kind(&objects.policies());
        self.count_kind(&objects.identities());
    }

    fn count_kind<K: Kind>(&self, all: &[Arc<Known<K>>]) {
        let state = |known: &Known<K>| match (&known.in_force, &known.mistakes) {
            (Some(_), None) => "in_force",
            (Some(_), Some(_)) => "last_good",
            (None, _) => "not_in_force",
        };
        for counted in ["in_force", "last_good", "not_in_force"] {
            let number = all.iter().filter(|known| state(known) == counted).count();
            let gauge = self.objects.with_label_values(&[K::KIND, counted]);
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// What each of them is, for the reference.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// What it is served as, and the text of all of them.
    pub fn text(&self) -> prometheus::Result<(String, Vec<u8>)> {
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        Ok((encoder.format_type().to_owned(), text))
    }
}
