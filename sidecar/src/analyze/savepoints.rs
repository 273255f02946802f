//! The savepoints of a transaction, and what each of them brings back.

/// Savepoints, the oldest first. Those of one name one upon the other that bring back the same take room once: drivers make one
/// before each statement.
#[derive(Clone, Debug)]
pub struct Savepoints<T>(Vec<Savepoint<T>>);

#[derive(Clone, Debug)]
struct Savepoint<T> {
    name: String,
    then: T,
    count: u64,
}

impl<T> Default for Savepoints<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Savepoints<T> {
    /// SAVEPOINT. `is_same` says whether the one before brings back the same as `then`.
    pub fn save(&mut self, name: &str, then: T, is_same: impl FnOnce(&T, &T) -> bool) {
        match self.0.last_mut() {
            Some(last) if last.name == name && is_same(&last.then, &then) => last.count += 1,
            _ => self.0.push(Savepoint { name: name.to_owned(), then, count: 1 }),
        }
    }

    /// RELEASE: the last of the name is gone, and those after it.
    pub fn release(&mut self, name: &str) {
        if self.end_after(name).is_none() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.count > 1 => last.count -= 1,
            _ => drop(self.0.pop()),
        }
    }

    /// ROLLBACK TO: what the last of the name brings back, if there is one. It stays, and those after it are gone.
    pub fn back_to(&mut self, name: &str) -> Option<&T> {
        self.end_after(name)
    }

    /// The end of the transaction.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many places they take.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The same, with another thing to bring back.
    pub fn map<U>(&self, of: impl Fn(&T) -> U) -> Savepoints<U> {
        let map = |at: &Savepoint<T>| Savepoint { name: at.name.clone(), then: of(&at.then), count: at.count };
        Savepoints(self.0.iter().map(map).collect())
    }

    /// What each of them brings back.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|savepoint| &mut savepoint.then)
    }

    fn end_after(&mut self, name: &str) -> Option<&T> {
        let at = self.0.iter().rposition(|savepoint| savepoint.name == name)?;
        self.0.truncate(at + 1);
        self.0.last().map(|last| &last.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savepoints_that_are_alike_take_room_once_and_are_released_one_by_one() {
        let mut savepoints = Savepoints::default();
        for _ in 0..20_000 {
            savepoints.save("s", 1, PartialEq::eq);
        }
        assert_eq!(savepoints.len(), 1);
        savepoints.save("s", 2, PartialEq::eq);
        savepoints.save("t", 2, PartialEq::eq);
        assert_eq!(savepoints.len(), 3);
        assert_eq!(savepoints.back_to("unknown"), None);
        assert_eq!(savepoints.back_to("s"), Some(&2));
        savepoints.release("t");
        savepoints.release("s");
        for _ in 0..19_999 {
            savepoints.release("s");
        }
        assert_eq!(savepoints.back_to("s"), Some(&1));
        savepoints.release("s");
        assert!(savepoints.is_empty());
    }
}
