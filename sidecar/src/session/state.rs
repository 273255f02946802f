//! What statements change in how later ones are understood: `search_path`, `application_name`, relations that the
//! session made. All of it follows COMMIT, ROLLBACK and SAVEPOINT as it does in the server.
//!
//! A session holds this twice: as the server confirmed it, and as it will be once what was sent has run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::analyze::{Effect, PathEnds, SavedPath, Savepoints, TypesInDoubt, doubt};
use crate::catalog::names::PG_TEMP;
use crate::catalog::{Relation, RelationKind, WrittenName};

/// Session state that is transactional.
#[derive(Clone, Debug)]
pub(super) struct State {
    now: Vars,
    /// As it was when the open transaction began; None while that changed nothing.
    base: Option<Box<Vars>>,
    savepoints: Savepoints<Vars>,
    /// Whether a transaction block is open.
    block: bool,
    /// Whether the server was found to have another path than was followed.
    astray: bool,
    initial: Arc<Initial>,
}

/// Most savepoints of a transaction, those aside that are alike.
pub(super) const MAX_SAVEPOINTS: usize = 10_000;
/// Most bytes that these take, about.
const MAX_SAVED: usize = 16 << 20;

/// What RESET brings back.
#[derive(Debug)]
pub(super) struct Initial {
    pub(super) search_path: Arc<[String]>,
    pub(super) application_name: Arc<str>,
}

#[derive(Clone, Debug)]
struct Vars {
    search_path: Setting<Arc<[String]>>,
    application_name: Setting<Arc<str>>,
    /// Relations that the session made or changed, as its own connection sees them.
    overlay: Arc<Vec<Arc<Relation>>>,
    /// Names of `overlay`, or to be in it, that must be looked up before the next decision.
    stale: Arc<Vec<WrittenName>>,
    /// Names of what the open transaction made, changed or dropped, temporary relations not among them.
    changed: Arc<Vec<WrittenName>>,
    /// Types, rows of relations aside, that the open transaction made, changed or dropped.
    types: Arc<TypesInDoubt>,
    /// Whether the open transaction made, changed or dropped temporary relations.
    temporary_changed: bool,
    /// Names this meaning of names; equal stamps, equal meaning.
    stamp: u64,
}

impl Vars {
    /// Whether these are the very same: nothing was changed from one to the other.
    fn is_same(&self, other: &Self) -> bool {
        self.stamp == other.stamp
            && Arc::ptr_eq(&self.application_name.now, &other.application_name.now)
            && Arc::ptr_eq(&self.application_name.kept, &other.application_name.kept)
            && Arc::ptr_eq(&self.changed, &other.changed)
            && self.temporary_changed == other.temporary_changed
    }
}

impl Vars {
    /// Temporary relations are looked at again.
    fn doubt_temporary(&mut self) {
        let temporary = self.overlay.iter().filter(|relation| relation.temporary);
        let names: Vec<WrittenName> =
            temporary.map(|relation| (Some(PG_TEMP.to_owned()), relation.name.to_string())).collect();
        add(&mut self.stale, &names);
    }
}

/// A setting, and what remains of it when SET LOCAL ends.
#[derive(Clone, Debug)]
struct Setting<T> {
    now: T,
    kept: T,
}

impl<T: Clone + PartialEq> Setting<T> {
    fn new(value: T) -> Self {
        Self { now: value.clone(), kept: value }
    }

    fn set(&mut self, value: T, local: bool) {
        if !local {
            self.kept = value.clone();
        }
        self.now = value;
    }

    /// Whether ending SET LOCAL changed it.
    fn end_local(&mut self) -> bool {
        if self.now == self.kept {
            return false;
        }
        self.now = self.kept.clone();
        true
    }
}

/// Stamps are never used twice in a process, so that a cache can be keyed by them.
fn fresh_stamp() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// What the end of a transaction means for the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing.
    Plain,
    /// It changed relations: the catalog must look again.
    Ddl,
}

impl State {
    /// At the start of a session.
    pub(super) fn new(initial: Initial) -> Self {
        Self {
            now: Vars {
                search_path: Setting::new(Arc::clone(&initial.search_path)),
                application_name: Setting::new(Arc::clone(&initial.application_name)),
                overlay: Arc::default(),
                stale: Arc::default(),
                changed: Arc::default(),
                types: Arc::default(),
                temporary_changed: false,
                stamp: fresh_stamp(),
            },
            base: None,
            savepoints: Savepoints::default(),
            block: false,
            astray: false,
            initial: Arc::new(initial),
        }
    }

    /// `search_path`, `$user` replaced.
    pub(super) const fn search_path(&self) -> &Arc<[String]> {
        &self.now.search_path.now
    }

    /// What becomes of it as the open transaction ends. A COMMIT of one that `failed` undoes it.
    pub(super) fn path_ends(&self, failed: bool) -> PathEnds {
        let reset = Some(Arc::clone(&self.initial.search_path));
        let kept = |vars: &Vars| Some(Arc::clone(&vars.search_path.kept));
        let rolled_back = self.base.as_ref().map(|base| Arc::clone(&base.search_path.now));
        let committed = if failed || rolled_back.is_none() { rolled_back.clone() } else { kept(&self.now) };
        let saved = |then: &Vars| SavedPath { path: Arc::clone(&then.search_path.now), committed: kept(then) };
        PathEnds { reset, committed, rolled_back, savepoints: self.savepoints.map(saved) }
    }

    /// The client's own `application_name`.
    pub(super) const fn application_name(&self) -> &Arc<str> {
        &self.now.application_name.now
    }

    /// Relations that the session made or changed.
    pub(super) const fn overlay(&self) -> &Arc<Vec<Arc<Relation>>> {
        &self.now.overlay
    }

    /// Types that the open transaction made, changed or dropped.
    pub(super) const fn types_in_doubt(&self) -> &Arc<TypesInDoubt> {
        &self.now.types
    }

    /// Equal stamps, equal meaning of names.
    pub(super) const fn stamp(&self) -> u64 {
        self.now.stamp
    }

    /// Names that must be looked up on the session's own connection before the next decision.
    pub(super) fn stale(&self) -> &[WrittenName] {
        &self.now.stale
    }

    /// Another catalog is in force: what this session made may have changed with it.
    pub(super) fn doubt_temporary(&mut self) {
        let before = self.base.as_deref_mut().into_iter().chain(self.savepoints.each_mut());
        before.chain([&mut self.now]).for_each(Vars::doubt_temporary);
    }

    /// Whether an unknown name may be one that only this session's connection sees.
    pub(super) fn has_own_relations(&self) -> bool {
        !self.now.changed.is_empty() || !self.now.overlay.is_empty() || !self.now.stale.is_empty()
    }

    /// Whether an end of the transaction, either way, may change what names mean.
    pub(super) fn is_changed(&self) -> bool {
        self.base.is_some()
    }

    /// Whether a transaction block is open.
    pub(super) const fn in_block(&self) -> bool {
        self.block
    }

    /// Whether there are savepoints.
    pub(super) const fn has_savepoints(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// Whether it has room for another savepoint, which keeps the path.
    pub(super) fn may_save(&self) -> bool {
        let bytes: usize = self.now.search_path.now.iter().map(|name| size_of::<String>() + name.len()).sum();
        self.savepoints.len() < MAX_SAVEPOINTS
            && self.savepoints.len().saturating_mul(size_of::<Vars>() + bytes) < MAX_SAVED
    }

    /// The path that the server has: tells whether it is another than was thought. Then it is not known either what ends of the open
    /// transaction bring back.
    pub(super) fn correct_path(&mut self, path: &[String]) -> bool {
        if *self.now.search_path.now == *path {
            return false;
        }
        self.change(|vars| vars.search_path = Setting::new(path.into()));
        self.astray = true;
        true
    }

    /// Whether the server was found to have another path than was followed, in the open transaction.
    pub(super) const fn is_astray(&self) -> bool {
        self.astray
    }

    /// No transaction is open: there is nothing that an end of one could bring back. Tells whether it was found astray.
    pub(super) fn leave_transaction(&mut self) -> bool {
        self.base = None;
        self.savepoints.clear();
        std::mem::take(&mut self.astray)
    }

    /// What the server says of it.
    pub(super) const fn set_block(&mut self, open: bool) {
        self.block = open;
    }

    /// Applies what a statement does.
    pub(super) fn apply(&mut self, effect: &Effect) -> Ended {
        match effect {
            Effect::None
            | Effect::ShowApplicationName
            | Effect::Prepare { .. }
            | Effect::Execute { .. }
            | Effect::Deallocate(_)
            | Effect::Declare { .. }
            | Effect::Fetch { .. }
            | Effect::CloseCursor(_)
            | Effect::CopyIn
            | Effect::CopyOut => {}
            Effect::Begin => self.block = true,
            Effect::Commit { chain } => {
                let ended = self.commit();
                self.block = *chain;
                return ended;
            }
            Effect::Rollback { chain } => {
                self.rollback();
                self.block = *chain;
            }
            Effect::Savepoint(name) => self.savepoints.save(name, self.now.clone(), Vars::is_same),
            Effect::Release(name) => self.savepoints.release(name),
            Effect::RollbackTo(name) => {
                if let Some(then) = self.savepoints.back_to(name) {
                    self.now = then.clone();
                }
            }
            Effect::SearchPath { value, local } => {
                let path = value
                    .as_ref()
                    .map_or_else(|| Arc::clone(&self.initial.search_path), |value| value.as_slice().into());
                self.change(|vars| vars.search_path.set(path, *local));
            }
            Effect::ApplicationName { value, local } => {
                let name = value
                    .as_ref()
                    .map_or_else(|| Arc::clone(&self.initial.application_name), |value| value.as_str().into());
                self.touch().application_name.set(name, *local);
            }
            Effect::ResetAll => self.reset_settings(),
            Effect::DiscardAll => {
                self.reset_settings();
                self.change(|vars| {
                    vars.overlay = Arc::default();
                    vars.stale = Arc::default();
                });
            }
            Effect::DiscardTemp => self.change(|vars| {
                let left = vars.overlay.iter().filter(|relation| !relation.temporary).cloned().collect();
                vars.overlay = Arc::new(left);
            }),
            Effect::CatalogChange { names, types, temporary } => self.change(|vars| {
                add(&mut vars.stale, names);
                doubt(&mut vars.types, types);
                // What is temporary may be under what changes, or have columns of its type.
                if !temporary || names.iter().any(|name| vars.overlay.iter().any(|relation| is_named(relation, name))) {
                    vars.doubt_temporary();
                }
                vars.temporary_changed |= *temporary;
                if !temporary {
                    add(&mut vars.changed, names);
                    // DDL without names is DDL all the same.
                    if names.is_empty() {
                        add(&mut vars.changed, &[(None, String::new())]);
                    }
                }
            }),
        }
        Ended::Plain
    }

    /// The transaction ends well.
    pub(super) fn commit(&mut self) -> Ended {
        self.savepoints.clear();
        if self.base.take().is_none() {
            return Ended::Plain;
        }
        let vars = &mut self.now;
        let mut renamed = vars.search_path.end_local();
        vars.application_name.end_local();
        let ended = if vars.changed.is_empty() { Ended::Plain } else { Ended::Ddl };
        if ended == Ended::Ddl {
            // What is committed, the catalog will know.
            renamed = true;
            let changed = std::mem::take(&mut vars.changed);
            vars.types = Arc::default();
            vars.stale = Arc::new(vars.stale.iter().filter(|name| !changed.contains(name)).cloned().collect());
            vars.overlay = Arc::new(vars.overlay.iter().filter(|relation| relation.temporary).cloned().collect());
        }
        if std::mem::take(&mut vars.temporary_changed) {
            // What is temporary may be ON COMMIT DROP: look again.
            renamed = true;
            vars.doubt_temporary();
        }
        if renamed {
            vars.stamp = fresh_stamp();
        }
        ended
    }

    /// The transaction is undone.
    pub(super) fn rollback(&mut self) {
        self.savepoints.clear();
        if let Some(base) = self.base.take() {
            self.now = *base;
        }
    }

    /// Puts what the session's own connection knows of these names in place of what was known of them. False if some
    /// are neither temporary nor this transaction's doing: those are for the catalog to know, and the policy to bind.
    pub(super) fn looked_up(&mut self, names: &[WrittenName], found: Vec<Arc<Relation>>) -> bool {
        // Nothing that a rollback undoes: had the transaction changed something, `base` would hold what was before.
        let vars = &mut self.now;
        let stale: Vec<WrittenName> = vars.stale.iter().filter(|name| !names.contains(name)).cloned().collect();
        vars.stale = Arc::new(stale);
        let is_meant = |relation: &Relation| names.iter().any(|name| is_named(relation, name));
        let mut overlay: Vec<_> = vars.overlay.iter().filter(|relation| !is_meant(relation)).cloned().collect();
        let count = found.len();
        let changed = &vars.changed;
        // An index is decided by its table, and the server may have chosen its name.
        let is_own = |relation: &Arc<Relation>| {
            let is_index = relation.kind == RelationKind::Index;
            relation.temporary || is_index || changed.iter().any(|name| is_named(relation, name))
        };
        let own: Vec<_> = found.into_iter().filter(is_own).collect();
        let all = own.len() == count;
        overlay.extend(own);
        vars.overlay = Arc::new(overlay);
        vars.stamp = fresh_stamp();
        all
    }

    fn reset_settings(&mut self) {
        let initial = Arc::clone(&self.initial);
        self.change(|vars| {
            vars.search_path.set(Arc::clone(&initial.search_path), false);
            vars.application_name.set(Arc::clone(&initial.application_name), false);
        });
    }

    fn touch(&mut self) -> &mut Vars {
        if self.base.is_none() {
            self.base = Some(Box::new(self.now.clone()));
        }
        &mut self.now
    }

    fn change(&mut self, act: impl FnOnce(&mut Vars)) {
        let vars = self.touch();
        act(vars);
        vars.stamp = fresh_stamp();
    }
}

/// Whether a relation goes by a name.
fn is_named(relation: &Relation, (schema, name): &WrittenName) -> bool {
    let in_schema = |schema: &str| *schema == *relation.schema || relation.temporary && schema == PG_TEMP;
    **name == *relation.name && schema.as_deref().is_none_or(in_schema)
}

fn add(list: &mut Arc<Vec<WrittenName>>, names: &[WrittenName]) {
    let list = Arc::make_mut(list);
    for name in names {
        if !list.contains(name) {
            list.push(name.clone());
        }
    }
}

/// Whether an effect changes what later statements mean, apart from the names of statements and cursors.
pub(super) fn is_significant(effect: &Effect, state: &State) -> bool {
    match effect {
        Effect::SearchPath { .. }
        | Effect::ResetAll
        | Effect::DiscardAll
        | Effect::DiscardTemp
        | Effect::CatalogChange { .. } => true,
        Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_) => state.is_changed(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Initial { search_path: ["public".to_owned()].as_slice().into(), application_name: "app".into() })
    }

    fn path(to: &str, local: bool) -> Effect {
        Effect::SearchPath { value: Some(vec![to.to_owned()]), local }
    }

    fn now(state: &State) -> &str {
        state.search_path().first().map_or("", String::as_str)
    }

    #[test]
    fn a_setting_is_undone_by_rollback_and_kept_by_commit() {
        let mut state = state();
        let stamp = state.stamp();
        state.apply(&Effect::Begin);
        state.apply(&path("a", false));
        assert_ne!(state.stamp(), stamp);
        state.apply(&Effect::Rollback { chain: false });
        assert_eq!((now(&state), state.stamp()), ("public", stamp));
        state.apply(&Effect::Begin);
        state.apply(&path("a", false));
        state.apply(&Effect::Commit { chain: false });
        state.apply(&Effect::Rollback { chain: false });
        assert_eq!(now(&state), "a");
    }

    #[test]
    fn set_local_ends_with_the_transaction() {
        let mut state = state();
        state.apply(&Effect::Begin);
        state.apply(&path("a", false));
        state.apply(&path("b", true));
        assert_eq!(now(&state), "b");
        state.apply(&Effect::Commit { chain: false });
        assert_eq!(now(&state), "a");
        state.apply(&Effect::SearchPath { value: None, local: false });
        assert_eq!(now(&state), "public");
    }

    #[test]
    fn savepoints_bring_back_what_was_set_before_them() {
        let mut state = state();
        state.apply(&Effect::Begin);
        state.apply(&path("a", false));
        state.apply(&Effect::Savepoint("s".to_owned()));
        state.apply(&path("b", false));
        state.apply(&Effect::Savepoint("t".to_owned()));
        state.apply(&path("c", false));
        state.apply(&Effect::Release("t".to_owned()));
        assert_eq!(now(&state), "c");
        state.apply(&Effect::RollbackTo("s".to_owned()));
        assert_eq!(now(&state), "a");
        state.apply(&path("d", false));
        state.apply(&Effect::RollbackTo("s".to_owned()));
        assert_eq!(now(&state), "a");
        state.apply(&Effect::Rollback { chain: false });
        assert_eq!(now(&state), "public");
    }

    #[test]
    fn ddl_is_forgotten_by_rollback_and_told_to_the_catalog_by_commit() {
        let ddl = Effect::CatalogChange {
            names: vec![(Some("public".to_owned()), "t".to_owned())],
            types: Vec::new(),
            temporary: false,
        };
        let mut state = state();
        state.apply(&Effect::Begin);
        state.apply(&ddl);
        assert_eq!(state.stale().len(), 1);
        state.apply(&Effect::Rollback { chain: false });
        assert!(state.stale().is_empty() && !state.has_own_relations());
        state.apply(&ddl);
        assert_eq!(state.commit(), Ended::Ddl);
        assert_eq!(state.commit(), Ended::Plain);
    }
}
