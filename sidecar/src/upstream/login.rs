//! The login: from the startup packet to the first ReadyForQuery.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroize;

use super::scram::{Binding, Final, First};
use super::{CancelToken, ConnectError, Peer, Upstream, UpstreamConfig, UpstreamStream, tls};
use crate::wire::backend::{self, Authentication, BackendKeyData, Fields, NegotiateProtocolVersion, ParameterStatus};
use crate::wire::startup::{PROTOCOL_3_0, Packet, Startup};
use crate::wire::{Malformed, backend::TransactionStatus, frontend};

/// No message of a login is longer; one that claims to be would only make us wait and hold.
const MAX_MESSAGE: usize = 64 << 10;
/// More settings than any server reports.
const MAX_PARAMETERS: usize = 256;
/// All of a login together.
const MAX_LOGIN: usize = 1 << 20;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// How far the login is. The server's messages have a place each.
enum Step {
    /// It may ask for anything.
    Asked,
    /// SCRAM runs.
    Challenge(First),
    /// The server still owes its proof.
    Proof(Final),
    /// A password was sent, or SCRAM is through: only Ok can follow.
    Answered,
    /// Logged in.
    Through,
}

/// A connection that logs in.
struct Login<'a> {
    config: &'a Arc<UpstreamConfig>,
    stream: UpstreamStream,
    buffer: BytesMut,
    /// Bytes read so far.
    total: usize,
}

pub(super) async fn login(
    config: &Arc<UpstreamConfig>,
    stream: UpstreamStream,
    peer: Peer,
    parameters: &[(String, String)],
    protocol: u32,
) -> Result<Upstream, ConnectError> {
    let mut login = Login { config, stream, buffer: BytesMut::new(), total: 0 };
    login.send_startup(parameters, protocol).await?;

    let mut step = Step::Asked;
    let mut agreed = protocol;
    let mut statuses: Vec<(String, String)> = Vec::new();
    let mut key: Option<(u32, Vec<u8>)> = None;
    loop {
        let (tag, body) = login.message().await?;
        match (tag, &step) {
            (backend::ERROR_RESPONSE, _) => return Err(ConnectError::Server(Fields::read(&body)?)),
            // Notices of a login (collation versions, event triggers) are the operator's, not the client's.
            (backend::NOTICE_RESPONSE, _) => {}
            (backend::NEGOTIATE_PROTOCOL_VERSION, Step::Asked) => {
                let offered = NegotiateProtocolVersion::read(&body)?.version;
                if !(PROTOCOL_3_0..=protocol).contains(&offered) {
                    return Err(Malformed::Version(offered).into());
                }
                agreed = offered;
            }
            (backend::AUTHENTICATION, _) => step = login.authenticate(step, &body).await?,
            (backend::PARAMETER_STATUS, Step::Through) => {
                let ParameterStatus { name, value } = ParameterStatus::read(&body)?;
                statuses.retain(|(have, _)| *have != name);
                statuses.push((name.into_owned(), value.into_owned()));
                if statuses.len() > MAX_PARAMETERS {
                    return Err(ConnectError::Unexpected);
                }
            }
            (backend::BACKEND_KEY_DATA, Step::Through) => {
                let BackendKeyData { pid, key: secret } = BackendKeyData::read(&body)?;
                key = Some((pid, secret.to_vec()));
            }
            (backend::READY_FOR_QUERY, Step::Through) => {
                let status = TransactionStatus::read(&body)?;
                let (pid, secret) = key.unwrap_or_default();
                return Ok(Upstream {
                    stream: login.stream,
                    parameters: statuses,
                    protocol: agreed,
                    backend_pid: pid,
                    leftover: login.buffer,
                    status,
                    aside: BytesMut::new(),
                    cancel: CancelToken::new(Arc::clone(config), peer, pid, secret),
                });
            }
            _ => return Err(ConnectError::Unexpected),
        }
    }
}

impl Login<'_> {
    async fn send(&mut self, bytes: &mut BytesMut) -> Result<(), ConnectError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = sent.await;
        // It may hold a password or a proof.
        bytes.zeroize();
        sent.map_err(ConnectError::Closed)
    }

    async fn send_startup(&mut self, parameters: &[(String, String)], version: u32) -> Result<(), ConnectError> {
        let mut all = vec![("user", self.config.credential.user()), ("database", self.config.database.as_str())];
        all.extend(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut packet = BytesMut::new();
        Packet::Startup(Startup { version, parameters: all }).write(&mut packet)?;
        self.send(&mut packet).await
    }

    /// The next message: tag and body.
    async fn message(&mut self) -> Result<(u8, BytesMut), ConnectError> {
        loop {
            if let Some(header) = backend::peek(&self.buffer)? {
                if header.body_len > MAX_MESSAGE {
                    return Err(ConnectError::Unexpected);
                }
                if self.buffer.len() >= header.frame_len() {
                    let mut frame = self.buffer.split_to(header.frame_len());
                    frame.advance(crate::wire::frame::HEADER);
                    return Ok((header.tag, frame));
                }
            }
            if self.total > MAX_LOGIN {
                return Err(ConnectError::Unexpected);
            }
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(ConnectError::Closed)?;
            if read == 0 {
                return Err(ConnectError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.total += read;
        }
    }

    /// Answers one Authentication message.
    async fn authenticate(&mut self, step: Step, body: &[u8]) -> Result<Step, ConnectError> {
        let credential = &self.config.credential;
        let mut out = BytesMut::new();
        let next = match (Authentication::read(body)?, step) {
            // A server that trusts us, or one that got what it asked for; but not one that owes a proof.
            (Authentication::Ok, Step::Asked | Step::Answered) => return Ok(Step::Through),
            (Authentication::Cleartext, Step::Asked) => {
                if !self.stream.is_private() {
                    return Err(ConnectError::CleartextRefused);
                }
                self.require_verified()?;
                frontend::write_password(&mut out, credential.password())?;
                Step::Answered
            }
            (Authentication::Md5(salt), Step::Asked) => {
                self.require_verified()?;
                let mut hashed = postgres_protocol::authentication::md5_hash(
                    credential.user().as_bytes(),
                    credential.password().as_bytes(),
                    salt,
                );
                let written = frontend::write_password(&mut out, &hashed);
                hashed.zeroize();
                written?;
                Step::Answered
            }
            (Authentication::Sasl(mechanisms), Step::Asked) => {
                let (mechanism, binding) = self.choose(&mechanisms)?;
                let first = First::new(binding);
                frontend::write_sasl_initial(&mut out, mechanism, first.message().as_bytes())?;
                Step::Challenge(first)
            }
            (Authentication::SaslContinue(challenge), Step::Challenge(first)) => {
                let (answer, proof) = first.answer(credential, challenge).await?;
                frontend::write_sasl(&mut out, answer.as_bytes())?;
                Step::Proof(proof)
            }
            (Authentication::SaslFinal(message), Step::Proof(proof)) => {
                proof.verify(message)?;
                return Ok(Step::Answered);
            }
            (Authentication::Other(_), Step::Asked) => return Err(ConnectError::Method),
            _ => return Err(ConnectError::Unexpected),
        };
        self.send(&mut out).await?;
        Ok(next)
    }

    /// Of a password that is guarded only a verified server may learn anything.
    fn require_verified(&self) -> Result<(), ConnectError> {
        let verified = self.config.tls.verifies() || matches!(self.stream, UpstreamStream::Unix(_));
        if self.config.credential.is_guarded() && !verified { Err(ConnectError::UnverifiedServer) } else { Ok(()) }
    }

    /// The best mechanism that both sides know.
    fn choose(&self, offered: &[&str]) -> Result<(&'static str, Binding), ConnectError> {
        let bindable = self.stream.certificate().and_then(tls::end_point_hash);
        match bindable {
            Some(hash) if offered.contains(&SCRAM_PLUS) => Ok((SCRAM_PLUS, Binding::EndPoint(hash))),
            Some(_) if offered.contains(&SCRAM) => Ok((SCRAM, Binding::NotOffered)),
            None if offered.contains(&SCRAM) => Ok((SCRAM, Binding::None)),
            _ => Err(ConnectError::Method),
        }
    }
}
