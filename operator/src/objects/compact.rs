//! JSON as text, or as deflated text: as a tree it takes up about eight or twenty times as much, and a cluster has thousands
//! of objects.

use std::io;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
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

/// A JSON value, deflated (RFC 1950): for what is seldom looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflated(Box<[u8]>);

impl Deflated {
    /// As a tree.
    pub fn value(&self) -> Value {
        // It was written from a tree.
        serde_json::from_reader(io::BufReader::new(ZlibDecoder::new(&*self.0))).unwrap_or_default()
    }
}

impl From<&Value> for Deflated {
    fn from(value: &Value) -> Self {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        // Memory takes whatever is written, and what is not whole is read as null: it proves nothing about a pod.
        let written = serde_json::to_writer(&mut encoder, value).map_err(io::Error::from);
        Self(written.and_then(|()| encoder.finish()).unwrap_or_default().into())
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

    #[test]
    fn what_is_kept_deflated_is_the_same_again_and_smaller() {
        let containers: Vec<Value> =
            (0..20).map(|at| json!({"name": format!("container-{at}"), "image": "registry.example/ü:1"})).collect();
        for value in [Value::Null, json!({"spec": {"containers": containers}})] {
            let deflated = Deflated::from(&value);
            assert_eq!(deflated.value(), value);
            assert_eq!(deflated, Deflated::from(&value));
            assert!(value.is_null() || deflated.0.len() * 4 < value.to_string().len());
        }
    }
}
