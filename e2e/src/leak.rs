//! Looks for the masking corpus's marker values in everything that a client was sent.
//!
//! **Promise.** A marker is found as it is, in upper and lower case, backwards, letter by letter over cells and rows,
//! as codes of letters, in hexadecimal and base64 (whatever stood before it), as a digest of the whole value, and
//! numbers and dates in text or in the binary formats of their types.
//! **Not covered.** What an expression computes of a value (a length, a remainder): the corpus has such cases as
//! comparisons with a database that holds the masks.

use memchr::memmem;

use crate::wire::Message;

/// Words that stand in each masked or hidden text, or in a row outside the filter.
const WORDS: [&str; 16] = [
    "MAILZQX88",
    "CARDZQX81",
    "SSNZQX82",
    "NOTEZQX83",
    "SECRETZQX84",
    "CODEZQX85",
    "LABELZQX86",
    "JSONZQX87",
    "BLOBZQX89",
    "TAGSZQX91",
    "OUTZQX90",
    "PHONEZQX92",
    "EVENTZQX93",
    "TOKENZQX94",
    "PINZQX95",
    "ODDZQX96",
];

/// Integers that stand in masked columns or outside the filter.
const INTEGERS: [i32; 3] = [918_273_645, 827_364_519, 777_123];

/// 918273.64, in groups of four decimal digits as the binary format has it, and as text without the point.
const NUMERIC: ([u8; 6], &str) = ([0, 91, 0x20, 0x51, 0x19, 0], "91827364");

/// 1937-04-19: days since 2000, and the ways to write it without punctuation.
const DATE: (i32, [&str; 6]) = (-22_902, ["19370419", "19apr1937", "apr191937", "april191937", "19041937", "04191937"]);

/// 2021-06-15 13:47:29.123456 UTC: microseconds since 2000, the part that no zone changes, and seconds since 1970.
const INSTANT: (i64, [&str; 2]) = (677_080_049_123_456, ["29123456", "1623764849"]);

/// What is looked for.
#[derive(Debug)]
pub struct Needles {
    /// Searched in all bytes as they came.
    exact: Vec<(String, Vec<u8>)>,
    /// Searched in all bytes in lower case.
    folded: Vec<(String, Vec<u8>)>,
    /// Searched in the letters and digits of all that came, in lower case, nothing between them.
    squeezed: Vec<(String, Vec<u8>)>,
}

impl Needles {
    /// The markers, and digests (hexadecimal) of whole values, which only the server knows how to make.
    pub fn new(digests: &[String]) -> Self {
        let mut needles = Self { exact: Vec::new(), folded: Vec::new(), squeezed: Vec::new() };
        for word in WORDS {
            let lower = word.to_ascii_lowercase();
            needles.folded(word, "as it is", lower.as_bytes());
            needles.squeezed(word, "in pieces", lower.as_bytes());
            needles.squeezed(word, "backwards", &lower.bytes().rev().collect::<Vec<_>>());
            for text in [word, &lower] {
                needles.folded(word, "hexadecimal", hexadecimal(text.as_bytes()).as_bytes());
                let codes: String = text.bytes().map(|byte| byte.to_string()).collect();
                needles.squeezed(word, "codes of letters", codes.as_bytes());
                for before in 0..3 {
                    needles.exact(word, "base64", base64_core(text.as_bytes(), before).as_bytes());
                }
            }
        }
        for number in INTEGERS {
            let name = number.to_string();
            needles.squeezed(&name, "digits", name.as_bytes());
            needles.squeezed(&name, "hexadecimal", format!("{number:x}").as_bytes());
            needles.exact(&name, "int4", &number.to_be_bytes());
            needles.exact(&name, "float8", &f64::from(number).to_be_bytes());
            let (high, middle, low) = (number / 100_000_000, number / 10_000 % 10_000, number % 10_000);
            let groups: Vec<u8> = [high, middle, low]
                .into_iter()
                .skip_while(|group| *group == 0)
                .flat_map(|group| group.to_be_bytes().into_iter().skip(2))
                .collect();
            needles.exact(&name, "numeric", &groups);
        }
        needles.exact("918273.64", "numeric", &NUMERIC.0);
        needles.exact("918273.64", "float8", &918_273.64f64.to_be_bytes());
        needles.squeezed("918273.64", "digits", NUMERIC.1.as_bytes());
        needles.exact("1937-04-19", "date", &DATE.0.to_be_bytes());
        for text in DATE.1 {
            needles.squeezed("1937-04-19", "written", text.as_bytes());
        }
        needles.exact("13:47:29.123456", "timestamptz", &INSTANT.0.to_be_bytes());
        for text in INSTANT.1 {
            needles.squeezed("13:47:29.123456", "written", text.as_bytes());
        }
        for digest in digests {
            needles.folded("a digest", digest, digest.as_bytes());
            needles.exact("a digest", "bytes", &bytes_of_hexadecimal(digest));
        }
        needles
    }

    fn exact(&mut self, word: &str, how: &str, bytes: &[u8]) {
        self.exact.push((format!("{word} ({how})"), bytes.to_vec()));
    }

    fn folded(&mut self, word: &str, how: &str, bytes: &[u8]) {
        self.folded.push((format!("{word} ({how})"), bytes.to_ascii_lowercase()));
    }

    fn squeezed(&mut self, word: &str, how: &str, bytes: &[u8]) {
        self.squeezed.push((format!("{word} ({how})"), bytes.to_ascii_lowercase()));
    }

    /// The markers that stand in the messages.
    pub fn find(&self, messages: &[Message]) -> Vec<String> {
        let mut all = Vec::new();
        let mut squeezed = Vec::new();
        for message in messages {
            all.extend(&message.body);
            // Lengths between cells are no letters.
            match message.cells() {
                Ok(cells) => cells.iter().flatten().for_each(|cell| squeezed.extend(cell)),
                Err(_) => squeezed.extend(&message.body),
            }
        }
        let folded = all.to_ascii_lowercase();
        squeezed.retain(u8::is_ascii_alphanumeric);
        squeezed.make_ascii_lowercase();
        let mut found = Vec::new();
        for (haystack, needles) in [(&all, &self.exact), (&folded, &self.folded), (&squeezed, &self.squeezed)] {
            let stands = |needle: &[u8]| memmem::find(haystack, needle).is_some();
            found.extend(needles.iter().filter(|(_, needle)| stands(needle)).map(|(name, _)| name.clone()));
        }
        found
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of_hexadecimal(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The characters of base64 that `bytes` alone decide, with `before` other bytes (modulo 3) in front of them.
fn base64_core(bytes: &[u8], before: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let skip = (6 - before * 8 % 6) % 6;
    bits.get(skip..)
        .unwrap_or_default()
        .chunks_exact(6)
        .filter_map(|six| {
            let index = six.iter().fold(0usize, |value, bit| value << 1 | usize::from(*bit));
            ALPHABET.get(index).map(|letter| char::from(*letter))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn row(cells: &[&[u8]]) -> Message {
        let mut body = (cells.len() as u16).to_be_bytes().to_vec();
        for cell in cells {
            body.extend((cell.len() as u32).to_be_bytes());
            body.extend(*cell);
        }
        Message { tag: b'D', body }
    }

    #[test]
    fn a_marker_is_found_in_every_coat() {
        let needles = Needles::new(&["00ff17".into()]);
        for cell in [
            "CARDZQX81-0001",
            "cardzqx81",
            "18XQZDRAC",
            "{C,A,R,D,Z,Q,X,8,1}",
            r"\x434152445a515838312d30303031",
            "xQ0FSRFpRWDgxLTAwMDE=",
            "918,273,645",
            "918273.64",
            "1937-04-19",
            "19 Apr 1937",
            "ab 00ff17",
        ] {
            assert!(!needles.find(&[row(&[cell.as_bytes()])]).is_empty(), "{cell}");
        }
        let letters: Vec<Message> = "CARDZQX81".bytes().map(|letter| row(&[&[letter]])).collect();
        assert!(!needles.find(&letters).is_empty());
        let codes: Vec<Message> = "CARDZQX81".bytes().map(|letter| row(&[letter.to_string().as_bytes()])).collect();
        assert!(!needles.find(&codes).is_empty());
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}CARDZQX81");
            let whole = base64_core(text.as_bytes(), 0);
            assert!(!needles.find(&[row(&[whole.as_bytes()])]).is_empty(), "{whole}");
        }
        assert!(!needles.find(&[row(&[&918_273_645i32.to_be_bytes()])]).is_empty());
        assert!(needles.find(&[row(&[b"**********0001", b"m***@example.com", b"918000"])]).is_empty());
    }
}
