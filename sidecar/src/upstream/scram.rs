//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! The library that we use for the rest derives the keys anew at each login: thousands of hashes each time, for every
//! session. Here what was derived is kept with the credential, so that a login costs a few.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use zeroize::{Zeroize, Zeroizing};

/// Each iteration is two hash blocks: the default is 4,096; this many take about a second, and no server needs more.
const MAX_ITERATIONS: u32 = 1_000_000;

/// User and password, and what was derived from them. Clones share it.
#[derive(Clone)]
pub struct Credential(Arc<Inner>);

struct Inner {
    user: String,
    password: Zeroizing<String>,
    guarded: bool,
    derived: Mutex<Option<Derived>>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("user", &self.0.user).finish_non_exhaustive()
    }
}

/// The keys for one salt and iteration count; a server has one of each for a role.
struct Derived {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Keys,
}

/// What SCRAM proves with. Worth as much as the password at this server.
#[derive(Clone)]
struct Keys {
    client: [u8; 32],
    server: [u8; 32],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

/// What is wrong with the server's side of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that isn't one of SCRAM's.
    #[error("the server's SCRAM message is malformed")]
    Malformed,
    /// The server's nonce isn't ours continued.
    #[error("the server's SCRAM nonce does not continue ours")]
    Nonce,
    /// More iterations than we do.
    #[error("the server asks for more than {MAX_ITERATIONS} SCRAM iterations")]
    Iterations,
    /// The server doesn't know the password's keys: it isn't the one it says it is.
    #[error("the server could not prove that it knows the password")]
    ServerProof,
    /// The server said an error where its proof belongs.
    #[error("the server ended SCRAM with an error")]
    Refused,
    /// No background thread.
    #[error("the keys could not be derived")]
    Derivation,
}

impl Credential {
    /// Of this user and password.
    pub fn new(user: &str, password: &str) -> Self {
        Self::of(user, password, false)
    }

    /// The same, for where somebody else could pose as the server: what a password can be read or guessed from (as it
    /// is, and its MD5) is sent only to a server that was verified.
    pub fn guarded(user: &str, password: &str) -> Self {
        Self::of(user, password, true)
    }

    fn of(user: &str, password: &str, guarded: bool) -> Self {
        let password = Zeroizing::new(password.to_owned());
        Self(Arc::new(Inner { user: user.to_owned(), password, guarded, derived: Mutex::new(None) }))
    }

    /// Whether it was made by [`Credential::guarded`].
    pub(super) fn is_guarded(&self) -> bool {
        self.0.guarded
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The password, for the methods that need it as it is.
    pub(super) fn password(&self) -> &str {
        &self.0.password
    }

    fn kept(&self, salt: &[u8], iterations: NonZeroU32) -> Option<Keys> {
        // A panic of another holder can't leave a half-made value: it is replaced as a whole.
        let derived = self.0.derived.lock().unwrap_or_else(PoisonError::into_inner);
        derived
            .as_ref()
            .filter(|derived| derived.salt == salt && derived.iterations == iterations)
            .map(|derived| derived.keys.clone())
    }

    /// The keys for this salt: kept ones, or derived off the session's thread.
    async fn keys(&self, salt: Vec<u8>, iterations: NonZeroU32) -> Result<Keys, ScramError> {
        if let Some(keys) = self.kept(&salt, iterations) {
            return Ok(keys);
        }
        let credential = self.clone();
        tokio::task::spawn_blocking(move || {
            // Logins that started together wait here for the first one's work.
            let mut derived = credential.0.derived.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(derived) = derived.as_ref().filter(|had| had.salt == salt && had.iterations == iterations) {
                return derived.keys.clone();
            }
            let keys = derive(&credential.0.password, &salt, iterations);
            *derived = Some(Derived { salt, iterations, keys: keys.clone() });
            keys
        })
        .await
        .map_err(|_| ScramError::Derivation)
    }
}

/// The slow part.
fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Keys {
    // As Postgres does: what SASLprep prohibits is taken as it stands.
    let prepared = Zeroizing::new(
        stringprep::saslprep(password).map_or_else(|_| password.to_owned(), |prepared| prepared.into_owned()),
    );
    let mut salted = Zeroizing::new([0_u8; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), salted.as_mut_slice());
    Keys { client: mac(salted.as_slice(), b"Client Key"), server: mac(salted.as_slice(), b"Server Key") }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// What binds the exchange to the TLS channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// There is nothing to bind to, or nothing both sides agree on.
    None,
    /// We could, and the server did not offer it. It will notice if someone took its offer away.
    NotOffered,
    /// To the certificate, by its hash.
    EndPoint(Vec<u8>),
}

impl Binding {
    const fn header(&self) -> &'static str {
        match self {
            Binding::None => "n,,",
            Binding::NotOffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// Header and data, as the final message repeats them.
    fn input(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        STANDARD.encode(input)
    }
}

/// An exchange that waits for the server's challenge.
pub(super) struct First {
    binding: Binding,
    nonce: String,
}

/// An exchange that waits for the server's proof.
pub(super) struct Final {
    expected: [u8; 32],
}

impl First {
    pub(super) fn new(binding: Binding) -> Self {
        let mut bytes = [0_u8; 18];
        rand::rng().fill(&mut bytes);
        Self { binding, nonce: STANDARD.encode(bytes) }
    }

    /// The first message. Postgres takes the user from the startup packet and wants none here.
    pub(super) fn message(&self) -> String {
        format!("{}n=,r={}", self.binding.header(), self.nonce)
    }

    /// Answers the challenge: the final message, and what the server has to prove.
    pub(super) async fn answer(
        self,
        credential: &Credential,
        challenge: &[u8],
    ) -> Result<(Zeroizing<String>, Final), ScramError> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| ScramError::Malformed)?;
        let mut parts = challenge.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed);
        let nonce = part("r=")?;
        let salt = part("s=")?;
        let iterations = part("i=")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if salt.is_empty() {
            return Err(ScramError::Malformed);
        }
        if iterations.get() > MAX_ITERATIONS {
            return Err(ScramError::Iterations);
        }
        let keys = credential.keys(salt, iterations).await?;

        let without_proof = format!("c={},r={nonce}", self.binding.input());
        let transcript = format!("n=,r={},{challenge},{without_proof}", self.nonce);
        let stored = digest::digest(&digest::SHA256, &keys.client);
        let mut proof = mac(stored.as_ref(), transcript.as_bytes());
        proof.iter_mut().zip(keys.client).for_each(|(byte, key)| *byte ^= key);
        let message = Zeroizing::new(format!("{without_proof},p={}", STANDARD.encode(proof)));
        Ok((message, Final { expected: mac(&keys.server, transcript.as_bytes()) }))
    }
}

impl Final {
    /// Holds the server to its proof.
    pub(super) fn verify(self, message: &[u8]) -> Result<(), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let first = message.split(',').next().unwrap_or_default();
        if first.starts_with("e=") {
            return Err(ScramError::Refused);
        }
        let proof = first.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| ScramError::Malformed)?;
        constant_time::verify_slices_are_equal(&proof, &self.expected).map_err(|_| ScramError::ServerProof)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    fn first() -> First {
        First { binding: Binding::None, nonce: NONCE.to_owned() }
    }

    /// The example of RFC 7677 has a user name in its first message, which Postgres never has: so the numbers here are
    /// worked out from the definition, with another implementation of the hash.
    #[tokio::test]
    async fn the_proof_is_the_one_of_the_rfcs_definition() {
        let credential = Credential::new("user", "pencil");
        let (message, last) = first().answer(&credential, CHALLENGE.as_bytes()).await.unwrap();
        let mut exchange =
            reference(b"pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096, NONCE, CHALLENGE);
        assert_eq!(message.as_str(), exchange.0);
        exchange.1.insert_str(0, "v=");
        last.verify(exchange.1.as_bytes()).unwrap();
    }

    /// (client's final message, server's signature)
    fn reference(password: &[u8], salt: &[u8], iterations: u32, nonce: &str, challenge: &str) -> (String, String) {
        use sha2::{Digest, Sha256};
        let hmac = |key: &[u8], text: &[u8]| -> Vec<u8> {
            let mut block = key.to_vec();
            block.resize(64, 0);
            let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
            let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
            Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
        };
        let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<u8>>();
        let mut block = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = block.clone();
        for _ in 1..iterations {
            block = hmac(password, &block);
            salted = xor(&salted, &block);
        }
        let client = hmac(&salted, b"Client Key");
        let server_nonce = challenge.split(',').next().unwrap();
        let without = format!("c=biws,{server_nonce}");
        let transcript = format!("n=,r={nonce},{challenge},{without}");
        let signature = hmac(&Sha256::digest(&client), transcript.as_bytes());
        let server = hmac(&hmac(&salted, b"Server Key"), transcript.as_bytes());
        (format!("{without},p={}", STANDARD.encode(xor(&client, &signature))), STANDARD.encode(server))
    }

    #[tokio::test]
    async fn keys_are_derived_once_for_a_salt() {
        let credential = Credential::new("user", "pencil");
        let salt = b"salt".to_vec();
        let few = NonZeroU32::new(1).unwrap();
        let keys = credential.keys(salt.clone(), few).await.unwrap();
        assert!(credential.kept(&salt, few).is_some_and(|kept| kept.client == keys.client));
        assert!(credential.kept(b"other", few).is_none());
        assert!(credential.kept(&salt, NonZeroU32::new(2).unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_challenge_that_does_not_fit_is_refused() {
        let credential = Credential::new("user", "pencil");
        for (challenge, error) in [
            ("", ScramError::Malformed),
            ("r=", ScramError::Malformed),
            ("r=other,s=c2FsdA==,i=4096", ScramError::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096", ScramError::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", ScramError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=0", ScramError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=-1", ScramError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1000001", ScramError::Iterations),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=%%,i=1", ScramError::Malformed),
        ] {
            assert_eq!(first().answer(&credential, challenge.as_bytes()).await.err(), Some(error), "{challenge}");
        }
    }

    #[tokio::test]
    async fn a_server_without_the_keys_is_not_believed() {
        let credential = Credential::new("user", "pencil");
        for (message, error) in [
            (format!("v={}", STANDARD.encode([0; 32])), ScramError::ServerProof),
            ("v=".to_owned(), ScramError::ServerProof),
            ("e=other-error".to_owned(), ScramError::Refused),
            ("x".to_owned(), ScramError::Malformed),
        ] {
            let (_, last) = first().answer(&credential, CHALLENGE.as_bytes()).await.unwrap();
            assert_eq!(last.verify(message.as_bytes()), Err(error));
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        let config = format!("{:?}", Credential::new("user", "pencil"));
        assert!(config.contains("user") && !config.contains("pencil"));
    }
}
