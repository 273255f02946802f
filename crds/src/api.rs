//! The API types, as users write them. They hold what was written and nothing more: [`crate::compile`] says what it
//! means. Doc comments of fields are what `kubectl explain` shows, so they are written for users.
//!
//! The types read leniently (an unknown field must not break a watch); [`crate::strict`] is what refuses.

#[cfg_attr(feature = "kube", allow(clippy::duplicated_attributes, reason = "each printer column has a type"))]
mod identity;
#[cfg_attr(feature = "kube", allow(clippy::duplicated_attributes, reason = "each printer column has a type"))]
mod policy;
mod scalar;
mod status;

pub use identity::*;
pub use policy::*;
pub use scalar::{IntOrText, Nothing};
pub use status::{Condition, ConditionStatus, IdentityStatus, PolicyStatus, SidecarReports};

/// The API group of all kinds.
pub const GROUP: &str = "postern.dev";
/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as `apiVersion` has them.
pub const API_VERSION: &str = "postern.dev/v1alpha1";
