//! What fuzzing found beyond the seeds, kept in `sidecar/fuzz/kept`: a file for each target, an input each line, escaped.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The fuzz targets.
pub const TARGETS: [&str; 4] = ["frontend", "startup", "backend", "decision"];

fn path(target: &str) -> PathBuf {
    crate::workspace().join("sidecar/fuzz/kept").join(target)
}

/// The inputs that were kept of a target.
pub fn read(target: &str) -> Result<Vec<Vec<u8>>> {
    let path = path(target);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| unescape(line).with_context(|| line.to_owned())).collect()
}

/// Keeps inputs of a target in place of those before; tells how many bytes that takes.
pub fn write<'a>(target: &str, inputs: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<usize> {
    let lines: String = inputs.into_iter().map(|input| format!("{}\n", input.escape_ascii())).collect();
    let path = path(target);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, &lines)?;
    Ok(lines.len())
}

/// The bytes of a line that `escape_ascii` wrote; None if it did not.
fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = line.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                b'x' => u8::from_str_radix(std::str::from_utf8(&[bytes.next()?, bytes.next()?]).ok()?, 16).ok()?,
                other => other,
            },
            byte => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_escaped_is_read_as_it_was() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(super::unescape(&all.escape_ascii().to_string()), Some(all));
        assert_eq!(super::unescape("\\x1"), None);
    }
}
