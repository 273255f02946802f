//! What `search_path` will be, as far as the statements of a text say before it is sent.

use std::sync::Arc;

use super::Effect;
use super::savepoints::Savepoints;

/// A `search_path`.
type Path = Arc<[String]>;

/// What ends of the open transaction, and RESET, leave of `search_path`. None where that is what it is now.
#[derive(Clone, Debug, Default)]
pub struct PathEnds {
    /// RESET.
    pub reset: Option<Path>,
    /// COMMIT.
    pub committed: Option<Path>,
    /// ROLLBACK.
    pub rolled_back: Option<Path>,
    /// ROLLBACK TO.
    pub savepoints: Savepoints<SavedPath>,
}

/// What ROLLBACK TO leaves of `search_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPath {
    /// What it is then.
    pub path: Path,
    /// What COMMIT leaves then.
    pub committed: Option<Path>,
}

impl PathEnds {
    /// Whether the open transaction changed it.
    pub fn is_changed(&self) -> bool {
        self.committed.is_some() || self.rolled_back.is_some()
    }

    /// Follows what a statement does to a path.
    pub(crate) fn follow(&mut self, effect: &Effect, now: &mut Path) {
        match effect {
            Effect::SearchPath { value, local } => {
                let value = value.as_ref().map(|value| value.as_slice().into());
                self.set(value, *local, now);
            }
            Effect::ResetAll | Effect::DiscardAll => self.set(None, false, now),
            Effect::Commit { .. } => self.end(self.committed.clone(), now),
            Effect::Rollback { .. } => self.end(self.rolled_back.clone(), now),
            Effect::Savepoint(name) => {
                let then = SavedPath { path: Arc::clone(now), committed: self.committed.clone() };
                self.savepoints.save(name, then, PartialEq::eq);
            }
            Effect::Release(name) => self.savepoints.release(name),
            Effect::RollbackTo(name) => {
                if let Some(saved) = self.savepoints.back_to(name) {
                    (*now, self.committed) = (Arc::clone(&saved.path), saved.committed.clone());
                }
            }
            _ => {}
        }
    }

    fn set(&mut self, value: Option<Path>, local: bool, now: &mut Path) {
        let before = Arc::clone(now);
        *now = value.or_else(|| self.reset.clone()).unwrap_or_else(|| Arc::clone(&before));
        self.reset.get_or_insert_with(|| Arc::clone(&before));
        self.rolled_back.get_or_insert_with(|| Arc::clone(&before));
        if local {
            self.committed.get_or_insert(before);
        } else {
            self.committed = Some(Arc::clone(now));
        }
    }

    fn end(&mut self, left: Option<Path>, now: &mut Path) {
        *now = left.unwrap_or_else(|| Arc::clone(now));
        (self.committed, self.rolled_back) = (None, None);
        self.savepoints.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_path_follows_transactions_and_savepoints() {
        let path = |name: &str| -> Path { [name.to_owned()].as_slice().into() };
        let set = |name: &str, local| Effect::SearchPath { value: Some(vec![name.to_owned()]), local };
        let reset = || Effect::SearchPath { value: None, local: false };
        let (commit, rollback) = (|| Effect::Commit { chain: false }, || Effect::Rollback { chain: false });
        let (save, back) = (|| Effect::Savepoint("s".into()), || Effect::RollbackTo("s".into()));
        for (effects, expected) in [
            (vec![set("b", false), rollback()], "a"),
            (vec![set("b", true), commit()], "a"),
            (vec![set("b", false), set("c", true), commit()], "b"),
            (vec![set("b", false), commit(), rollback()], "b"),
            (vec![set("b", true), save(), set("c", false), back()], "b"),
            (vec![set("b", true), save(), set("c", false), back(), commit()], "a"),
            (vec![save(), set("b", false), Effect::Release("s".into()), commit()], "b"),
            (vec![set("b", false), commit(), reset()], "a"),
            (vec![set("b", false), Effect::DiscardAll], "a"),
        ] {
            let (mut ends, mut now) = (PathEnds::default(), path("a"));
            effects.iter().for_each(|effect| ends.follow(effect, &mut now));
            assert_eq!(now, path(expected), "{effects:?}");
        }
        // What earlier messages did counts.
        let mut ends = PathEnds { rolled_back: Some(path("z")), ..PathEnds::default() };
        let mut now = path("a");
        ends.follow(&rollback(), &mut now);
        assert_eq!(now, path("z"));
    }
}
