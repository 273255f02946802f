//! Answers of two servers that did the same, where one has given other OIDs to the same objects, and another number to
//! the schema of a session's temporary ones.

use std::collections::HashMap;

use crate::wire::Message;

/// The first OID that a server gives to an object that a user makes.
const FIRST: u32 = 16_384;
/// How far apart the OIDs of one object may be: numbers that differ by more are just other numbers.
const APART: u32 = 20_000;
/// Beyond this no server of a test gets.
const LAST: u32 = 1_000_000;

/// Which OID of one server is which of the other, as far as their answers have shown.
#[derive(Debug, Default)]
pub struct Oids(HashMap<u32, u32>);

impl Oids {
    /// Whether two answers say the same. What they pair is remembered, if they do.
    pub fn same(&mut self, one: &[Message], other: &[Message]) -> bool {
        let mut seen = Vec::new();
        let same = one.len() == other.len()
            && one.iter().zip(other).all(|(one, other)| {
                one == other || (one.tag == other.tag && self.same_body(one.tag, &one.body, &other.body, &mut seen))
            });
        if same {
            self.0.extend(seen);
        }
        same
    }

    fn same_body(&self, tag: u8, one: &[u8], other: &[u8], seen: &mut Vec<(u32, u32)>) -> bool {
        let (one, other) = match tag {
            b'T' => (row_description(one), row_description(other)),
            b'D' => (data_row(one), data_row(other)),
            b'E' | b'N' => (fields(one), fields(other)),
            _ => return false,
        };
        let (Some(one), Some(other)) = (one, other) else { return false };
        one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| self.same_part(one, other, seen))
    }

    fn same_part(&self, one: &Part, other: &Part, seen: &mut Vec<(u32, u32)>) -> bool {
        match (one, other) {
            (Part::Oid(one), Part::Oid(other)) => self.pair(*one, *other, seen),
            (Part::Text(one), Part::Text(other)) => {
                let (one, other) = (words(one), words(other));
                one.len() == other.len()
                    && (0..one.len()).all(|at| match (one.get(at), other.get(at)) {
                        (one, other) if one == other => true,
                        (Some(a), Some(b)) => {
                            let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u32>().ok();
                            let is_temporary = at > 0 && one.get(at - 1).is_some_and(|word| word.ends_with(b"temp_"));
                            number(a).zip(number(b)).is_some_and(|(a, b)| is_temporary || self.pair(a, b, seen))
                        }
                        _ => false,
                    })
            }
            _ => false,
        }
    }

    /// Whether two OIDs can be of the same object.
    fn pair(&self, one: u32, other: u32, seen: &mut Vec<(u32, u32)>) -> bool {
        if one == other {
            return true;
        }
        let plausible = [one, other].iter().all(|oid| (FIRST..LAST).contains(oid)) && one.abs_diff(other) < APART;
        let before = self.0.get(&one).or_else(|| seen.iter().find(|(known, _)| *known == one).map(|(_, pair)| pair));
        match before {
            Some(before) => *before == other,
            None => {
                seen.push((one, other));
                plausible
            }
        }
    }
}

/// A part of a message.
#[derive(Debug, PartialEq)]
enum Part {
    Oid(u32),
    Text(Vec<u8>),
}

/// Numbers, and what is between them.
fn words(text: &[u8]) -> Vec<&[u8]> {
    text.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).collect()
}

fn row_description(body: &[u8]) -> Option<Vec<Part>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut parts = vec![Part::Text(count.to_vec())];
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (name, after) = rest.split_at_checked(end + 1)?;
        let (table, after) = after.split_first_chunk::<4>()?;
        let (number, after) = after.split_first_chunk::<2>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (size, after) = after.split_first_chunk::<8>()?;
        parts.extend([Part::Text(name.to_vec()), Part::Oid(u32::from_be_bytes(*table))]);
        parts.extend([Part::Text(number.to_vec()), Part::Oid(u32::from_be_bytes(*kind)), Part::Text(size.to_vec())]);
        rest = after;
    }
    Some(parts)
}

/// The values without their lengths: numbers may have one digit more.
fn data_row(body: &[u8]) -> Option<Vec<Part>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut parts = vec![Part::Text(count.to_vec())];
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        parts.push(Part::Text(vec![u8::from(length < 0)]));
        let (value, after) = after.split_at_checked(usize::try_from(length).unwrap_or(0))?;
        parts.push(Part::Text(value.to_vec()));
        rest = after;
    }
    Some(parts)
}

fn fields(body: &[u8]) -> Option<Vec<Part>> {
    Some(body.split(|byte| *byte == 0).map(|field| Part::Text(field.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<Message> {
        let mut body = u16::try_from(values.len()).unwrap_or_default().to_be_bytes().to_vec();
        for value in values {
            body.extend(u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
            body.extend(value.as_bytes());
        }
        vec![Message { tag: b'D', body }]
    }

    #[test]
    fn an_object_has_one_oid_on_each_server() {
        let mut oids = Oids::default();
        assert!(oids.same(&row(&["t", "20000"]), &row(&["t", "20010"])));
        assert!(oids.same(&row(&["pg_toast_20000"]), &row(&["pg_toast_20010"])));
        assert!(!oids.same(&row(&["20000"]), &row(&["20011"])));
        assert!(!oids.same(&row(&["7"]), &row(&["8"])));
        assert!(oids.same(&row(&["pg_temp_3.t"]), &row(&["pg_temp_12.t"])));
        assert!(!oids.same(&row(&["pg_temp_3.t"]), &row(&["public.t"])));
        assert!(!oids.same(&row(&["20000 rows"]), &row(&["90000 rows"])));
        assert!(!oids.same(&row(&["a"]), &row(&["b"])));
    }

    #[test]
    fn what_does_not_match_teaches_nothing() {
        let mut oids = Oids::default();
        assert!(!oids.same(&row(&["20000", "a"]), &row(&["20010", "b"])));
        assert!(oids.same(&row(&["20000"]), &row(&["20020"])));
    }
}
