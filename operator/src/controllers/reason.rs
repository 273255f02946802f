//! Why a condition is what it is.

/// The `reason` of conditions: for programs, and for people who look one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The spec is in force as it is written.
    InForce,
    /// The spec has mistakes; the last one without any is in force.
    LastGoodInForce,
    /// The spec has mistakes, and there never was one without any: nothing is in force.
    Invalid,
    /// A Secret that the policy names can't be read.
    CredentialsUnreadable,
    /// All Secrets that the policy names can be read.
    CredentialsRead,
    /// All of the policy binds to the database.
    Bound,
    /// A part of the policy does not bind to the database, and is closed.
    NotBound,
    /// It is not known yet.
    NotKnown,
    /// Nothing is left to be done.
    Settled,
}

impl Reason {
    /// As it stands in a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::InForce => "InForce",
            Reason::LastGoodInForce => "LastGoodInForce",
            Reason::Invalid => "Invalid",
            Reason::CredentialsUnreadable => "CredentialsUnreadable",
            Reason::CredentialsRead => "CredentialsRead",
            Reason::Bound => "Bound",
            Reason::NotBound => "NotBound",
            Reason::NotKnown => "NotKnown",
            Reason::Settled => "Settled",
        }
    }
}
