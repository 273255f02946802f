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

    /// All trees that are one step smaller, the largest steps first.
    pub(crate) fn smaller(&self) -> Vec<Sql> {
        let within = |parts: &[Sql], whole: &dyn Fn(Vec<Sql>) -> Sql| -> Vec<Sql> {
            let replaced = |at: usize, part: Sql| {
                let mut parts = parts.to_vec();
                parts[at] = part;
                whole(parts)
            };
            parts
                .iter()
                .enumerate()
                .flat_map(|(at, part)| part.smaller().into_iter().map(move |smaller| (at, smaller)))
                .map(|(at, smaller)| replaced(at, smaller))
                .collect()
        };
        match self {
            Self::Text(_) => Vec::new(),
            Self::All(parts) => within(parts, &Self::All),
            Self::Optional(inner) => {
                let smaller = inner.smaller().into_iter().map(Self::optional);
                std::iter::once(Self::empty()).chain(smaller).collect()
            }
            Self::List(members, separator) => {
                let mut all = Vec::new();
                if members.len() > 1 {
                    all.extend((0..members.len()).map(|at| {
                        let mut members = members.clone();
                        members.remove(at);
                        Self::List(members, separator)
                    }));
                }
                all.extend(within(members, &|members| Self::List(members, separator)));
                all
            }
            Self::Choice(first, others) => {
                let smaller = first.smaller().into_iter().map(|first| first.or(others.iter().cloned()));
                others.iter().cloned().chain(smaller).collect()
            }
        }
    }
}
