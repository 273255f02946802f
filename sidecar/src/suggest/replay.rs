//! What would come of the traffic under a suggested policy. Pure: decided as the gate would, nothing is sent.
//!
//! A statement is decided twice, with the masks and without. Without them the rules allow it, so what is refused then is
//! no statement any more that this can tell about: its literals are gone, or its relation. Only what the masks change is
//! told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postern_crds::{CheckedIdentity, CheckedPolicy};

use super::gather::{Identity, Shape};
use crate::analyze::{Decided, SessionView};
use crate::catalog::Catalog;
use crate::check::decide;
use crate::decide::Denial;
use crate::decide::bind::bind;
use crate::decide::bound::BoundPolicy;
use crate::sql;

/// What came of it.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How many different statements were decided.
    pub tried: usize,
    /// How many could not be.
    pub not_tried: usize,
    /// Those that would be refused.
    pub refused: Vec<Refused>,
    /// Those that would compare masks.
    pub compares: Vec<Compares>,
    /// What of the policy does not fit the database.
    pub problems: Vec<String>,
}

/// A statement that would be refused.
#[derive(Debug)]
pub struct Refused {
    /// Whose.
    pub identity: String,
    /// How often it was sent.
    pub times: u64,
    /// Its text, without literals.
    pub text: String,
    /// The reason's code.
    pub reason: &'static str,
    /// As the client would read it.
    pub error: String,
}

/// A statement that would compare masks.
#[derive(Debug)]
pub struct Compares {
    /// Whose.
    pub identity: String,
    /// The masked column.
    pub column: String,
    /// Its text, without literals.
    pub text: String,
}

/// Decides each different statement of the identities.
pub fn replay(policy: &Arc<CheckedPolicy>, identities: &[&Identity], catalog: &Arc<Catalog>) -> Replayed {
    let mut replayed = Replayed::default();
    let unmasked = Arc::new(CheckedPolicy { masks: Vec::new(), ..CheckedPolicy::clone(policy) });
    let mut problems = BTreeSet::new();
    for identity in identities {
        let checked = Arc::new(CheckedIdentity {
            namespace: policy.namespace.clone(),
            name: identity.name.clone(),
            groups: Vec::new(),
            postgres_role: identity.role.clone(),
            max_lease: Duration::from_secs(3600),
            outage_grace: Duration::ZERO,
        });
        let bound = |policy: &Arc<CheckedPolicy>| bind(Arc::clone(policy), checked.clone(), catalog.clone(), 1, None);
        let (bound, unmasked) = (bound(policy), bound(&unmasked));
        problems.extend(bound.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)));
        for shape in identity.shapes.values().filter(|shape| shape.is_wanted()) {
            let Some((text, view)) = readable(shape, &unmasked) else {
                replayed.not_tried += 1;
                continue;
            };
            replayed.tried += 1;
            replayed.add(identity, shape, decide(&text, &bound, &view));
        }
    }
    replayed.problems = problems.into_iter().collect();
    replayed
}

impl Replayed {
    fn add(&mut self, identity: &Identity, shape: &Shape, decided: Result<Arc<Decided>, Denial>) {
        let text = || shape.text.as_deref().map(sql::normalize).unwrap_or_default();
        let (denial, compared) = match &decided {
            Ok(decided) => (decided.denial.as_ref(), decided.masked_predicates().collect()),
            Err(denial) => (Some(denial), Vec::new()),
        };
        if let Some(denial) = denial {
            self.refused.push(Refused {
                identity: identity.name.clone(),
                times: shape.times(),
                text: text(),
                reason: denial.reason.as_str(),
                error: denial.message.clone(),
            });
        }
        for column in compared {
            let is_known = |known: &Compares| known.identity == identity.name && known.column == column;
            if !self.compares.iter().any(is_known) {
                let (identity, column) = (identity.name.clone(), column.to_owned());
                self.compares.push(Compares { identity, column, text: text() });
            }
        }
    }
}

/// The text of a statement with the session in which it can be decided.
fn readable(shape: &Shape, unmasked: &BoundPolicy) -> Option<(String, SessionView)> {
    // A list whose rest was left out.
    let text = shape.text.as_deref()?.replace(", …", "");
    let role = unmasked.identity.postgres_role.clone();
    let public = "public".to_owned();
    let relations = shape.needs.relations.keys();
    let schemas =
        relations.filter_map(|name| postern_crds::RelationPattern::parse(name).ok()).filter_map(
            |pattern| match pattern.schema {
                postern_crds::NamePattern::Literal(schema) => Some(schema),
                postern_crds::NamePattern::Glob(_) => None,
            },
        );
    let named: Vec<String> = schemas.chain([role.clone(), public.clone()]).collect();
    // What the session's search_path was is not known; what the names meant is.
    [vec![role, public], named].into_iter().find_map(|search_path| {
        let view = SessionView { search_path: search_path.into(), ..SessionView::default() };
        let decided = decide(&text, unmasked, &view).ok()?;
        decided.denial.is_none().then(|| (text.clone(), view))
    })
}
