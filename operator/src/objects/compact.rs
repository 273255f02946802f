//! JSON as text: as a tree it takes up about eight times as much, and a cluster has thousands of objects.

use std::sync::Arc;

use serde_json::Value;

/// A JSON value, as the text that it is written as. Equal ones have equal texts: the fields of objects are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compact(Arc<str>);

impl Compact {
    /// As a tree.
    pub fn value(&self) -> Value {
        // It was written from a tree.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<&Value> for Compact {
    fn from(value: &Value) -> Self {
        let mut sorted = value.clone();
        sorted.sort_all_objects();
        Self(sorted.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_as_text_is_the_same_again_and_equal_in_whatever_order_it_was_written() {
        let value = json!({"b": [1, -2.5, "\u{0}ü"], "a": {"z": null, "y": {}}});
        assert_eq!(Compact::from(&value).value(), value);
        let other: Value =
            serde_json::from_str(r#"{"a":{"y":{},"z":null},"b":[1,-2.5,"\u0000ü"]}"#).unwrap_or_default();
        assert_eq!(Compact::from(&other), Compact::from(&value));
    }
}
