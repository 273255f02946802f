//! The password of the role that may be made for this sidecar: made here, and known to nobody else. The broker gets what
//! Postgres keeps of it, by which nobody can log in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postgres_protocol::password::scram_sha_256;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// A password of this process, and its verifier.
pub(super) struct Password {
    /// The password.
    pub(super) text: Zeroizing<String>,
    /// Its SCRAM-SHA-256 verifier (RFC 5803, as `pg_authid.rolpassword` has it).
    pub(super) verifier: String,
}

impl Password {
    /// Another one each time.
    pub(super) fn generate() -> Result<Self, rand::rand_core::OsError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        OsRng.try_fill_bytes(&mut *bytes)?;
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
        let verifier = scram_sha_256(text.as_bytes());
        Ok(Self { text, verifier })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_password_is_of_its_process_alone_and_its_verifier_does_not_show_it() {
        let (one, two) = (Password::generate().unwrap(), Password::generate().unwrap());
        assert_ne!(*one.text, *two.text);
        assert!(postern_crds::lease::is_verifier(&one.verifier), "{}", one.verifier);
        assert!(!one.verifier.contains(one.text.as_str()));
    }
}
