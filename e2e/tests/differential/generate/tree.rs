//! SQL as a tree that knows how to be smaller, so that what fails can be read.

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sql {
    /// As it stands.
    Text(String),
    /// One after the other.
    All(Vec<Sql>),
    /// May be left out.
    Optional(Box<Sql>),
    /// Members of a list, which may be left out one by one.
    List(Vec<Sql>, &'static str),
    /// The first, or any of the others in its place.
    Choice(Box<Sql>, Vec<Sql>),
}

/// One after the other.
macro_rules! sql {
    ($($part:expr),* $(,)?) => { $crate::generate::tree::Sql::All(vec![$($crate::generate::tree::Sql::from($part)),*]) };
}
pub(crate) use sql;

impl From<&str> for Sql {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Sql {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&Sql> for Sql {
    fn from(sql: &Sql) -> Self {
        sql.clone()
    }
}

impl Sql {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::All(Vec::new())
    }

    /// May be left out.
    pub(crate) fn optional(self) -> Self {
        Self::Optional(Box::new(self))
    }

    /// Or one of those.
    pub(crate) fn or(self, others: impl IntoIterator<Item = Sql>) -> Self {
        Self::Choice(Box::new(self), others.into_iter().collect())
    }

    /// Members with commas between them.
    pub(crate) fn list(members: impl IntoIterator<Item = Sql>) -> Self {
        Self::List(members.into_iter().collect(), ", ")
    }

    /// Members with commas between them, none of which can go by itself.
    pub(crate) fn fixed(members: &[Sql]) -> Self {
        let mut all = Vec::new();
        for member in members {
            if !all.is_empty() {
                all.push(", ".into());
            }
            all.push(member.clone());
        }
        Self::All(all)
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::All(parts) => parts.iter().for_each(|part| part.write(out)),
            Self::Optional(inner) | Self::Choice(inner, _) => inner.write(out),
            Self::List(members, separator) => {
                for (at, member) in members.iter().enumerate() {
                    if at > 0 {
                        out.push_str(separator);
                    }
                    member.write(out);
                }
            }
        }
    }

    /// All trees that are one step smaller, the largest steps first. Made as they are asked for: all at once are as much
    /// as the square of a tree.
    pub(crate) fn smaller(&self) -> Box<dyn Iterator<Item = Sql> + '_> {
        match self {
            Self::Text(_) => Box::new(std::iter::empty()),
            Self::All(parts) => Box::new(within(parts).map(Self::All)),
            Self::Optional(inner) => {
                Box::new(std::iter::once(Self::empty()).chain(inner.smaller().map(Self::optional)))
            }
            Self::List(members, separator) => {
                let removable = if members.len() > 1 { members.len() } else { 0 };
                let shorter = (0..removable).map(|at| {
                    let mut members = members.clone();
                    members.remove(at);
                    members
                });
                Box::new(shorter.chain(within(members)).map(|members| Self::List(members, separator)))
            }
            Self::Choice(first, others) => {
                let smaller = first.smaller().map(|first| first.or(others.iter().cloned()));
                Box::new(others.iter().cloned().chain(smaller))
            }
        }
    }
}

/// The parts with one of them a step smaller.
fn within(parts: &[Sql]) -> impl Iterator<Item = Vec<Sql>> + '_ {
    parts.iter().enumerate().flat_map(move |(at, part)| {
        part.smaller().map(move |smaller| {
            let mut parts = parts.to_vec();
            parts[at] = smaller;
            parts
        })
    })
}
