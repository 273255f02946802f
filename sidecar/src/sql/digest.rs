//! A digest of a tree without the places in the text that it was read from.
//!
//! The tree is streamed through serde into SHA-256, each value with its kind and length, so two trees with one digest
//! are one tree. Left out are integer fields that hold positions; everything else counts, fields of node kinds that are
//! not known here included.

use std::fmt;

use pg_query::protobuf;
use serde::ser::{self, Serialize};
use sha2::{Digest, Sha256};

/// Fields that hold positions in the text, where they are integers.
const POSITIONS: [&str; 12] = [
    "location",
    "stmt_location",
    "stmt_len",
    "name_location",
    "arg_location",
    "conninfo_location",
    "payload_location",
    "rexpr_list_start",
    "rexpr_list_end",
    "list_start",
    "list_end",
    "version",
];

/// The digest of a tree, positions left out.
pub(super) fn digest(tree: &protobuf::ParseResult) -> Result<[u8; 32], Unhashable> {
    let mut hasher = Hasher { sha: Sha256::new(), buffer: Vec::with_capacity(BUFFER) };
    tree.serialize(&mut hasher)?;
    hasher.flush();
    Ok(hasher.sha.finalize().into())
}

/// A value of a kind that the parser's trees don't have.
#[derive(Debug)]
pub(super) struct Unhashable;

impl fmt::Display for Unhashable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree with an unknown kind of value")
    }
}

impl std::error::Error for Unhashable {}

impl ser::Error for Unhashable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Unhashable
    }
}

const BUFFER: usize = 4096;

struct Hasher {
    sha: Sha256,
    buffer: Vec<u8>,
}

impl Hasher {
    fn flush(&mut self) {
        self.sha.update(&self.buffer);
        self.buffer.clear();
    }

    fn put(&mut self, tag: u8, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() + 9 > BUFFER {
            self.flush();
        }
        self.buffer.push(tag);
        self.buffer.extend_from_slice(bytes);
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.put(tag, &(text.len() as u64).to_le_bytes());
        self.put(b'=', text.as_bytes());
    }
}

type Done = Result<(), Unhashable>;

impl ser::Serializer for &mut Hasher {
    type Ok = ();
    type Error = Unhashable;
    type SerializeSeq = Self;
    type SerializeTuple = ser::Impossible<(), Unhashable>;
    type SerializeTupleStruct = ser::Impossible<(), Unhashable>;
    type SerializeTupleVariant = ser::Impossible<(), Unhashable>;
    type SerializeMap = ser::Impossible<(), Unhashable>;
    type SerializeStruct = Self;
    type SerializeStructVariant = ser::Impossible<(), Unhashable>;

    fn serialize_bool(self, v: bool) -> Done {
        self.put(b'b', &[u8::from(v)]);
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Done {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Done {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Done {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Done {
        self.put(b'i', &v.to_le_bytes());
        Ok(())
    }
    fn serialize_u8(self, v: u8) -> Done {
        self.serialize_u64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Done {
        self.serialize_u64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Done {
        self.serialize_u64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Done {
        self.put(b'u', &v.to_le_bytes());
        Ok(())
    }
    fn serialize_f32(self, v: f32) -> Done {
        self.put(b'f', &v.to_bits().to_le_bytes());
        Ok(())
    }
    fn serialize_f64(self, v: f64) -> Done {
        self.put(b'd', &v.to_bits().to_le_bytes());
        Ok(())
    }
    fn serialize_char(self, v: char) -> Done {
        self.serialize_u32(v.into())
    }
    fn serialize_str(self, v: &str) -> Done {
        self.text(b's', v);
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Done {
        self.put(b'y', &(v.len() as u64).to_le_bytes());
        self.put(b'=', v);
        Ok(())
    }
    fn serialize_none(self) -> Done {
        self.put(b'0', &[]);
        Ok(())
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        self.put(b'1', &[]);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Done {
        self.put(b'n', &[]);
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Done {
        self.serialize_u32(index)
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Done {
        self.put(b'v', &index.to_le_bytes());
        value.serialize(self)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Unhashable> {
        let length = length.ok_or(Unhashable)? as u64;
        self.put(b'[', &length.to_le_bytes());
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unhashable> {
        Err(Unhashable)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unhashable> {
        Err(Unhashable)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unhashable> {
        Err(Unhashable)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unhashable> {
        Err(Unhashable)
    }
    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Self, Unhashable> {
        self.put(b'{', &(fields as u64).to_le_bytes());
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unhashable> {
        Err(Unhashable)
    }
}

impl ser::SerializeSeq for &mut Hasher {
    type Ok = ();
    type Error = Unhashable;
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Done {
        value.serialize(&mut **self)
    }
    fn end(self) -> Done {
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Hasher {
    type Ok = ();
    type Error = Unhashable;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Done {
        // A generic value can't be asked for its type; its size tells an i32 from the one `location` that is a string
        // (of CREATE TABLESPACE).
        if size_of_val(value) == size_of::<i32>() && POSITIONS.contains(&key) {
            return Ok(());
        }
        value.serialize(&mut **self)
    }
    fn end(self) -> Done {
        Ok(())
    }
}
