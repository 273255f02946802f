//! Small queries of the proxy's own: the catalog's, and look-ups on a session's connection.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Upstream;
use crate::wire::backend::{self, DataRow, Fields, TransactionStatus};
use crate::wire::frame::{HEADER, MAX_STATEMENT};
use crate::wire::{Malformed, frontend};

/// A row of text values; None is NULL.
pub type Row = Vec<Option<String>>;

/// What is put aside of other sessions' notifications; what is over it is dropped, as a queue must end somewhere.
const MAX_ASIDE: usize = 1 << 20;

/// Why a query of ours failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection broke; it is of no more use.
    #[error("the connection to the database broke")]
    Io(#[from] std::io::Error),
    /// The server does not speak the protocol; the connection is of no more use.
    #[error("the database sent what is not the Postgres protocol: {0}")]
    Malformed(#[from] Malformed),
    /// A message that has no place in a simple query without COPY.
    #[error("the database sent an unexpected message")]
    Unexpected,
    /// The server refused it; the connection is good.
    #[error("the database refused a query of the proxy's own: {} ({})", .0.message(), .0.code())]
    Server(Fields),
}

impl Upstream {
    /// Runs statements and gives the rows of all of them.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, QueryError> {
        let mut rows = Vec::new();
        self.for_each_row(sql, |row| rows.push(row.iter().map(|value| value.map(str::to_owned)).collect())).await?;
        Ok(rows)
    }

    /// Runs statements and shows each row as it comes. Nothing may be pending on the connection.
    pub async fn for_each_row(&mut self, sql: &str, mut row: impl FnMut(&[Option<&str>])) -> Result<(), QueryError> {
        let mut out = BytesMut::new();
        frontend::Query { sql }.write(&mut out)?;
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut failure = None;
        loop {
            let (tag, frame) = self.frame().await?;
            let body = frame.get(HEADER..).unwrap_or_default();
            match tag {
                backend::DATA_ROW if failure.is_none() => {
                    let mut values = DataRow::read(body)?;
                    let mut texts = Vec::with_capacity(values.left().min(body.len() / 4));
                    while let Some(value) = values.value()? {
                        let text = value.map(std::str::from_utf8).transpose().map_err(|_| Malformed::NotUtf8)?;
                        texts.push(text);
                    }
                    row(&texts);
                }
                backend::ERROR_RESPONSE => failure = Some(Fields::read(body)?),
                backend::READY_FOR_QUERY => {
                    self.status = TransactionStatus::read(body)?;
                    return failure.map_or(Ok(()), |fields| Err(QueryError::Server(fields)));
                }
                backend::NOTIFICATION_RESPONSE | backend::PARAMETER_STATUS => {
                    if self.aside.len() + frame.len() <= MAX_ASIDE {
                        self.aside.extend_from_slice(&frame);
                    }
                }
                backend::DATA_ROW
                | backend::ROW_DESCRIPTION
                | backend::COMMAND_COMPLETE
                | backend::EMPTY_QUERY_RESPONSE
                | backend::NOTICE_RESPONSE => {}
                _ => return Err(QueryError::Unexpected),
            }
        }
    }

    /// The next frame, header included.
    async fn frame(&mut self) -> Result<(u8, BytesMut), QueryError> {
        loop {
            if let Some(header) = backend::peek(&self.leftover)? {
                let length = header.frame_len();
                if header.body_len > MAX_STATEMENT as usize {
                    return Err(QueryError::Unexpected);
                }
                if self.leftover.len() >= length {
                    let frame = self.leftover.split_to(length);
                    if !self.leftover.has_remaining() {
                        // The next read starts a buffer of its own, so an idle connection keeps none.
                        self.leftover = BytesMut::new();
                    }
                    return Ok((header.tag, frame));
                }
                self.leftover.reserve(length - self.leftover.len());
            } else {
                self.leftover.reserve(8 << 10);
            }
            if self.stream.read_buf(&mut self.leftover).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
