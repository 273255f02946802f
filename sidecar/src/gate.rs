//! The gate: decides a statement under the policy and catalog in force, from the cache where it can.
//!
//! **Promise.** A decision comes from the binding that is in force as it is asked for, never from an older one: the
//! binding's version is part of every cache key, and a binding is replaced as a whole.
//! **Also.** What depends on more than text, search path and binding is not cached: sessions with relations of their own,
//! and EXECUTE and FETCH, whose meaning is in the session. Neither are refusals, which a client could fill the cache with.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::analyze::{Analysis, Decided, Effect, SessionView, analyze};
use crate::catalog::Catalog;
use crate::catalog::refresh::CatalogKeeper;
use crate::decide::Denial;
use crate::decide::bind::bind;
use crate::decide::bound::BoundPolicy;
use crate::metrics::Metrics;
use crate::policy_files::Loaded;
use crate::session::Decide;
use crate::sql::{self, Budget, ParseLimits};

/// Longest text that is remembered: longer ones are data more than they are statements.
const MAX_CACHED_TEXT: usize = 64 << 10;
/// Weight of a remembered statement besides its texts, estimated.
const ENTRY: usize = 1 << 10;

/// Decides for all sessions of a sidecar.
#[derive(Debug)]
pub struct Gate {
    keeper: CatalogKeeper,
    /// The policy and identity in force; held while a new binding is made, so that bindings follow one another.
    loaded: Mutex<Loaded>,
    bound: ArcSwap<BoundPolicy>,
    cache: Cache<Key, Arc<Decided>, Size>,
    limits: ParseLimits,
    budget: Budget,
    metrics: Arc<Metrics>,
}

/// What a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    text: Arc<str>,
    search_path: Arc<[String]>,
    binding: u64,
}

/// The same, borrowed for a look-up.
#[derive(Hash)]
struct Ask<'a> {
    text: &'a str,
    search_path: &'a [String],
    binding: u64,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Ask { text: &self.text, search_path: &self.search_path, binding: self.binding }.hash(state);
    }
}

impl Equivalent<Key> for Ask<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.binding == key.binding && *self.text == *key.text && *self.search_path == *key.search_path
    }
}

/// Weighs by the texts that are kept.
#[derive(Clone, Debug)]
struct Size;

impl Weighter<Key, Arc<Decided>> for Size {
    fn weight(&self, key: &Key, decided: &Arc<Decided>) -> u64 {
        let rewritten = decided.rewritten.as_ref().map_or(0, |text| text.len());
        (ENTRY + key.text.len() + rewritten + decided.normalized.len()) as u64
    }
}

impl Gate {
    /// A gate over the catalog as it is now. The cache may hold `cache_memory` bytes; statements that are analysed at
    /// a time share `parse_memory`.
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
            cache: Cache::with_weighter(items.clamp(16, 1 << 20), cache_memory, Size),
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
    }

    async fn analyse(&self, bound: &Arc<BoundPolicy>, view: &SessionView, text: &str) -> Result<Analysis, Denial> {
        let measure = sql::measure(text, &self.limits)?;
        let _share = self.budget.acquire(&measure).await?;
        if sql::deep::is_inline(&measure) {
            return Ok(analyze(text, measure, bound, view));
        }
        let (bound, view, text) = (Arc::clone(bound), view.clone(), text.to_owned());
        sql::deep::run(&measure, move || analyze(&text, measure, &bound, &view)).await
    }
}

impl Decide for Gate {
    async fn decide(&self, view: &SessionView, text: &str) -> Analysis {
        let bound = self.bound.load_full();
        let shared = view.overlay.is_empty() && text.len() <= MAX_CACHED_TEXT;
        if shared {
            let ask = Ask { text, search_path: &view.search_path, binding: bound.version };
            if let Some(decided) = self.cache.get(&ask) {
                self.metrics.cache_hit();
                return Analysis::Decided(decided);
            }
        }
        self.metrics.cache_miss();
        let mut bound = bound;
        let mut analysis = self.analyse(&bound, view, text).await;
        if let Ok(Analysis::Lookup(names)) = &analysis {
            self.keeper.look_again(names).await;
            self.follow_catalog();
            let now = self.bound.load_full();
            if now.version != bound.version {
                bound = now;
                analysis = self.analyse(&bound, view, text).await;
            }
        }
        match analysis {
            Ok(Analysis::Decided(decided)) => {
                if shared && is_cacheable(&decided) {
                    let search_path = Arc::clone(&view.search_path);
                    let key = Key { text: text.into(), search_path, binding: bound.version };
                    self.cache.insert(key, Arc::clone(&decided));
                    self.metrics.cache_bytes(self.cache.weight());
                }
                Analysis::Decided(decided)
            }
            Ok(lookup) => lookup,
            Err(denial) => Analysis::Decided(Arc::new(Decided::refused(denial, bound.version))),
        }
    }

    fn bound(&self) -> Arc<BoundPolicy> {
        self.bound.load_full()
    }

    async fn look_again(&self) {
        self.keeper.changed().await;
        self.follow_catalog();
    }
}

/// EXECUTE and FETCH mean what the session prepared and declared.
fn is_cacheable(decided: &Decided) -> bool {
    decided.denial.is_none()
        && decided.would_deny.is_none()
        && decided.statements.iter().all(|statement| {
            !matches!(
                statement.effect,
                Effect::Execute { .. } | Effect::Fetch { .. } | Effect::Prepare { .. } | Effect::Declare { .. }
            )
        })
}
