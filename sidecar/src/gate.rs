//! The gate: decides a statement under the policy and catalog in force, from the cache where it can.
//!
//! **Promise.** A decision comes from the binding that is in force as it is asked for, never from an older one: the
//! binding's version is part of every cache key, and a binding is replaced as a whole.
//! **Also.** What depends on more than text, search path and binding is not cached: sessions with relations of their own,
//! and EXECUTE and FETCH, whose meaning is in the session. Neither are refusals, which a client could fill the cache with.
//!
//! **Shapes.** A client that writes its values into the text never sends a text twice. The second text of a [`sql::Shape`]
//! makes a template: the statement is analysed once more with strange literals wherever literals are pure data, and
//! where the strangers come out are the places. From then on texts of that shape take no parse.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::analyze::{Analysis, Decided, Effect, SessionView, Statement, analyze, free_literals, unreadable};
use crate::catalog::refresh::CatalogKeeper;
use crate::catalog::{Catalog, Oid};
use crate::decide::bind::bind;
use crate::decide::bound::BoundPolicy;
use crate::decide::{Denial, Reason};
use crate::metrics::Metrics;
use crate::policy_files::Loaded;
use crate::session::{Decide, InForce};
use crate::sql::{self, Budget, ParseLimits, Shape, Template};

/// Longest text that is remembered: longer ones are data more than they are statements.
const MAX_CACHED_TEXT: usize = 64 << 10;
/// Weight of a remembered statement besides its texts, estimated.
const ENTRY: usize = 1 << 10;

/// What is known of a shape.
#[derive(Clone, Debug)]
enum Form {
    /// One text of it was decided.
    Seen,
    /// Its literals matter, or it is refused: each text is decided by itself.
    Single,
    /// Some of its literals matter, those that are not `free`: texts with the same ones have a form of their own.
    Partly { free: Arc<[bool]> },
    /// Only the literals differ, in the decision and in what is sent.
    Alike(Arc<Alike>),
}

/// The decision on every text of a form.
#[derive(Debug)]
struct Alike {
    decided: Arc<Decided>,
    /// None sends the client's own text.
    rewritten: Option<Template>,
}

impl Alike {
    fn decide(&self, shape: &Shape, text: &str) -> Arc<Decided> {
        let Some(template) = &self.rewritten else { return Arc::clone(&self.decided) };
        // What is alike is neither refused nor would be.
        Arc::new(Decided {
            denial: None,
            would_deny: None,
            rewritten: Some(template.fill(shape, text).into()),
            statements: Arc::clone(&self.decided.statements),
            policy_version: self.decided.policy_version,
            fingerprint: Arc::clone(&self.decided.fingerprint),
            normalized: Arc::clone(&self.decided.normalized),
            asks_types: self.decided.asks_types,
            needs: self.decided.needs.clone(),
            said: self.decided.said.share(),
        })
    }
}

/// Decides for all sessions of a sidecar.
#[derive(Debug)]
pub struct Gate {
    keeper: CatalogKeeper,
    /// The policy and identity in force; held while a new binding is made, so that bindings follow one another.
    loaded: Mutex<Loaded>,
    bound: ArcSwap<BoundPolicy>,
    cache: Cache<Key, Arc<Decided>, Size>,
    /// By a shape's key in place of the text.
    forms: Cache<Key, Form, Size>,
    limits: ParseLimits,
    budget: Budget,
    metrics: Arc<Metrics>,
}

/// What a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    text: Arc<str>,
    /// Types of the parameters, where the decision depends on them.
    types: Arc<[Oid]>,
    search_path: Arc<[String]>,
    binding: u64,
}

/// The same, borrowed for a look-up.
#[derive(Hash)]
struct Ask<'a> {
    text: &'a str,
    types: &'a [Oid],
    search_path: &'a [String],
    binding: u64,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Ask { text: &self.text, types: &self.types, search_path: &self.search_path, binding: self.binding }.hash(state);
    }
}

impl Equivalent<Key> for Ask<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.binding == key.binding
            && *self.text == *key.text
            && *self.types == *key.types
            && *self.search_path == *key.search_path
    }
}

/// Weighs by the texts that are kept.
#[derive(Clone, Debug)]
struct Size;

impl Weighter<Key, Arc<Decided>> for Size {
    fn weight(&self, key: &Key, decided: &Arc<Decided>) -> u64 {
        let rewritten = decided.rewritten.as_ref().map_or(0, |text| text.len());
        (ENTRY + key.text.len() + size_of_val(&*key.types) + rewritten + decided.normalized.len()) as u64
    }
}

impl Weighter<Key, Form> for Size {
    fn weight(&self, key: &Key, form: &Form) -> u64 {
        let own = match form {
            Form::Seen | Form::Single => 0,
            Form::Partly { free } => free.len(),
            Form::Alike(alike) => {
                ENTRY + alike.decided.normalized.len() + alike.rewritten.as_ref().map_or(0, Template::weight)
            }
        };
        (ENTRY / 4 + key.text.len() + own) as u64
    }
}

impl Gate {
    /// A gate over the catalog as it is now. The caches may hold `cache_memory` bytes together; statements that are
    /// analysed at a time share `parse_memory`.
    pub fn new(
        keeper: CatalogKeeper,
        loaded: Loaded,
        metrics: Arc<Metrics>,
        parse_memory: u64,
        cache_memory: u64,
    ) -> Arc<Gate> {
        let Loaded { policy, identity } = loaded.clone();
        let bound = bind(policy, identity, keeper.current(), 1, None);
        let parse_memory = usize::try_from(parse_memory).unwrap_or(usize::MAX);
        let items = usize::try_from(cache_memory).unwrap_or(usize::MAX) / (2 * ENTRY);
        Arc::new(Gate {
            keeper,
            loaded: Mutex::new(loaded),
            bound: ArcSwap::from_pointee(bound),
            cache: Cache::with_weighter(items.clamp(16, 1 << 20), cache_memory / 2, Size),
            forms: Cache::with_weighter(items.clamp(16, 1 << 20), cache_memory / 2, Size),
            limits: ParseLimits { memory: parse_memory, ..ParseLimits::default() },
            budget: Budget::new(parse_memory),
            metrics,
        })
    }

    /// Puts another policy or identity in force, from the next statement on.
    pub fn replace(&self, loaded: Loaded) {
        let mut in_force = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *in_force = loaded;
        self.bind(&in_force, self.keeper.current());
    }

    /// Binds the policy to the catalog in force, if it is bound to another.
    pub fn follow_catalog(&self) {
        if self.bound.load().catalog.version == self.keeper.current().version {
            return;
        }
        let in_force = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Another session may have been quicker.
        let catalog = self.keeper.current();
        if self.bound.load().catalog.version != catalog.version {
            self.bind(&in_force, catalog);
        }
    }

    fn bind(&self, Loaded { policy, identity }: &Loaded, catalog: Arc<Catalog>) {
        let before = self.bound.load();
        let bound = bind(Arc::clone(policy), Arc::clone(identity), catalog, before.version + 1, Some(&before));
        self.bound.store(Arc::new(bound));
        // What the old binding decided would never be found again.
        self.cache.clear();
        self.forms.clear();
    }

    /// What is known of a text's shape.
    fn form(&self, ask: &Ask<'_>, shape: &Shape) -> Option<Form> {
        let form = self.forms.get(&Ask { text: &shape.key, ..*ask })?;
        match &form {
            Form::Partly { free } => self.forms.get(&Ask { text: &shape.key_with(ask.text, free), ..*ask }),
            _ => Some(form),
        }
    }

    /// A text was decided: what follows from that for others of its shape.
    async fn learn(&self, bound: &Arc<BoundPolicy>, view: &SessionView, text: &str, shape: &Shape, decided: &Decided) {
        let put = |key: &str, form: Form| {
            let search_path = Arc::clone(&view.search_path);
            self.forms
                .insert(Key { text: key.into(), types: Arc::default(), search_path, binding: bound.version }, form);
        };
        let ask = Ask { text, types: &[], search_path: &view.search_path, binding: bound.version };
        match self.forms.get(&Ask { text: &shape.key, ..ask }) {
            None => return put(&shape.key, Form::Seen),
            Some(Form::Seen) => {}
            Some(Form::Partly { free }) => {
                let key = shape.key_with(text, &free);
                if self.forms.get(&Ask { text: &key, ..ask }).is_none() {
                    let alike = self.alike(bound, view, text, shape, &free, decided).await;
                    put(&key, alike.map_or(Form::Single, Form::Alike));
                }
                return;
            }
            Some(Form::Single | Form::Alike(_)) => return,
        }
        let free = self.free_in(text, shape);
        if free.iter().all(|free| *free) {
            let alike = self.alike(bound, view, text, shape, &free, decided).await;
            put(&shape.key, alike.map_or(Form::Single, Form::Alike));
        } else if free.contains(&true) {
            put(&shape.key, Form::Partly { free: free.into() });
        } else {
            put(&shape.key, Form::Single);
        }
    }

    /// Which literals of a text no decision depends on.
    fn free_in(&self, text: &str, shape: &Shape) -> Vec<bool> {
        let none = vec![false; shape.literals.len()];
        // What it sets may be picked by a literal: `set_config('search_path', …) FROM pg_settings WHERE name = …`.
        if text.to_ascii_lowercase().contains("set_config") || !shape.is_exact(text) {
            return none;
        }
        let Ok(measure) = sql::measure(text, &self.limits) else { return none };
        if !sql::deep::is_inline(&measure) {
            return none;
        }
        let server = self.keeper.current().server_version;
        let Ok(Cow::Borrowed(text)) = sql::as_server_reads(text, server) else { return none };
        let Ok(parsed) = sql::parse_measured(text, measure) else { return none };
        let places = free_literals(&parsed.tree);
        // A negative number's place is its sign's.
        let signed: Vec<usize> = places.iter().filter_map(|at| behind_sign(text, *at)).collect();
        let is_free = |start: &usize| places.contains(start) || signed.contains(start);
        shape.literals.iter().map(|literal| is_free(&literal.range.start)).collect()
    }

    /// A template of a decided text, if with other literals the same comes of it. None if it doesn't, or is not certain.
    async fn alike(
        &self,
        bound: &Arc<BoundPolicy>,
        view: &SessionView,
        text: &str,
        shape: &Shape,
        free: &[bool],
        decided: &Decided,
    ) -> Option<Arc<Alike>> {
        let (strange, strangers) = shape.with_strangers(text, free);
        let Ok(Analysis::Decided(other)) = self.analyse(bound, view, &strange, &[]).await else { return None };
        if !is_cacheable(&other) || other.normalized != decided.normalized {
            return None;
        }
        let rewritten = match (&decided.rewritten, &other.rewritten) {
            (None, None) => None,
            (Some(rewritten), Some(other)) => {
                let template = Template::new(other, &strangers, free)?;
                (template.fill(shape, text) == **rewritten).then_some(template).map(Some)?
            }
            _ => return None,
        };
        Some(Arc::new(Alike { decided: other, rewritten }))
    }

    async fn analyse(
        &self,
        bound: &Arc<BoundPolicy>,
        view: &SessionView,
        text: &str,
        types: &[Oid],
    ) -> Result<Analysis, Denial> {
        let measure = match sql::measure(text, &self.limits) {
            Err(denial) if denial.reason == Reason::Syntax => return Ok(unreadable(text, denial, bound)),
            measure => measure?,
        };
        let _share = self.budget.acquire(&measure).await?;
        if sql::deep::is_inline(&measure) {
            return Ok(analyze(text, measure, bound, view, types));
        }
        let (bound, view, text, types) = (Arc::clone(bound), view.clone(), text.to_owned(), types.to_vec());
        sql::deep::run(&measure, move || analyze(&text, measure, &bound, &view, &types)).await
    }
}

impl Decide for Gate {
    async fn decide(&self, view: &SessionView, text: &str, types: &[Oid]) -> Analysis {
        // Most clients leave all types to the server.
        let types = if types.iter().all(|kind| *kind == 0) { &[] } else { types };
        let bound = self.bound.load();
        // What was unknown may come to be before the catalog tells.
        let size = text.len() + size_of_val(types);
        let is_own = !view.overlay.is_empty() || !view.types_in_doubt.is_empty();
        let shared = !is_own && !view.looked && size <= MAX_CACHED_TEXT;
        let mut shape = None;
        if shared {
            let ask = Ask { text, types: &[], search_path: &view.search_path, binding: bound.version };
            let fits = |decided: &Arc<Decided>| types.is_empty() || !decided.asks_types;
            let of_types = || (!types.is_empty()).then(|| self.cache.get(&Ask { types, ..ask })).flatten();
            if let Some(decided) = self.cache.get(&ask).filter(fits).or_else(of_types) {
                self.metrics.cache_hit();
                return Analysis::Decided(decided);
            }
            shape = sql::shape(text);
            if let Some(of_text) = &shape
                && let Some(Form::Alike(alike)) = self.form(&ask, of_text)
                && fits(&alike.decided)
            {
                self.metrics.cache_hit();
                return Analysis::Decided(alike.decide(of_text, text));
            }
        }
        self.metrics.cache_miss();
        let mut bound = Guard::into_inner(bound);
        let mut analysis = self.analyse(&bound, view, text, types).await;
        if matches!(&analysis, Ok(analysis) if may_be_out_of_date(analysis)) {
            self.keeper.look_again().await;
            self.follow_catalog();
            let now = self.bound.load_full();
            if now.version != bound.version {
                bound = now;
                analysis = self.analyse(&bound, view, text, types).await;
            }
        }
        match analysis {
            Ok(Analysis::Decided(decided)) => {
                if shared && is_cacheable(&decided) {
                    let types = if decided.asks_types { types } else { &[] };
                    if let Some(shape) = shape.as_ref().filter(|_| types.is_empty()) {
                        self.learn(&bound, view, text, shape, &decided).await;
                    }
                    let search_path = Arc::clone(&view.search_path);
                    let key = Key { text: text.into(), types: types.into(), search_path, binding: bound.version };
                    self.cache.insert(key, Arc::clone(&decided));
                    self.metrics.cache_bytes(self.cache.weight() + self.forms.weight());
                }
                Analysis::Decided(decided)
            }
            Ok(lookup) => lookup,
            Err(denial) => Analysis::Decided(Arc::new(Decided::refused(denial, bound.version))),
        }
    }

    fn bound(&self) -> InForce {
        self.bound.load()
    }

    async fn look_again(&self) {
        self.keeper.changed().await;
        self.follow_catalog();
    }
}

/// Where the number starts whose sign is here.
fn behind_sign(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?.strip_prefix('-')?;
    Some(text.len() - rest.trim_start().len())
}

/// Whether the database may have been changed in a way that matters: names were unknown, or something is closed because the policy does
/// not bind to it, or columns are named by their places.
fn may_be_out_of_date(analysis: &Analysis) -> bool {
    match analysis {
        Analysis::Lookup(_) => true,
        Analysis::Decided(decided) => {
            names_columns(decided) || decided.denial.as_ref().is_some_and(|denial| denial.reason == Reason::Closed)
        }
    }
}

fn names_columns(decided: &Decided) -> bool {
    decided.statements.iter().any(|statement| statement.names_columns)
}

/// EXECUTE and FETCH mean what the session prepared and declared, and what follows the end of a transaction or a RESET goes by
/// a search_path of another time.
fn is_cacheable(decided: &Decided) -> bool {
    let brings_back = |statement: &Statement| {
        matches!(
            statement.effect,
            Effect::Commit { .. }
                | Effect::Rollback { .. }
                | Effect::RollbackTo(_)
                | Effect::ResetAll
                | Effect::DiscardAll
                | Effect::SearchPath { value: None, .. }
        )
    };
    decided.denial.is_none()
        && decided.would_deny.is_none()
        && !names_columns(decided)
        && !decided.statements.split_last().is_some_and(|(_, before)| before.iter().any(brings_back))
        && decided.statements.iter().all(|statement| {
            statement.runs_prepared.is_none()
                && !matches!(
                    statement.effect,
                    Effect::Execute { .. } | Effect::Fetch { .. } | Effect::Prepare { .. } | Effect::Declare { .. }
                )
        })
}
