//! What the server sends. What is read, written and read again, is the same.

use bytes::BytesMut;
use postern_sidecar::wire::backend::*;

use super::next_frame;

/// Reads a body, writes what was read, and reads that.
macro_rules! again {
    ($read:expr, $write:expr, $body:expr) => {{
        let read = $read;
        if let Ok(first) = read($body) {
            let mut out = BytesMut::new();
            $write(&first, &mut out);
            let header = peek(&out).ok().flatten().expect("a header");
            let body = header.body(&out).expect("a whole frame");
            assert_eq!(read(body).as_ref(), Ok(&first));
        }
    }};
}

/// Checks a stream of bytes.
pub fn check(stream: &[u8]) {
    let mut rest = stream;
    while let Some((tag, body, frame, after)) = next_frame(rest, peek) {
        match tag {
            AUTHENTICATION => _ = Authentication::read(body),
            BACKEND_KEY_DATA => again!(BackendKeyData::read, |read: &BackendKeyData<'_>, out| read.write(out), body),
            PARAMETER_STATUS => again!(ParameterStatus::read, |read: &ParameterStatus<'_>, out| read.write(out), body),
            READY_FOR_QUERY => again!(TransactionStatus::read, |read: &TransactionStatus, out| read.write(out), body),
            ROW_DESCRIPTION => {
                again!(read_row_description, |read: &Vec<Field<'_>>, out| write_row_description(out, read), body)
            }
            PARAMETER_DESCRIPTION => {
                again!(read_parameter_description, |read: &Vec<u32>, out| write_parameter_description(out, read), body)
            }
            COMMAND_COMPLETE => again!(
                read_command_complete,
                |read: &std::borrow::Cow<'_, str>, out| write_command_complete(out, read),
                body
            ),
            NOTIFICATION_RESPONSE => again!(Notification::read, |read: &Notification<'_>, out| read.write(out), body),
            NEGOTIATE_PROTOCOL_VERSION => {
                again!(
                    NegotiateProtocolVersion::read,
                    |read: &NegotiateProtocolVersion<'_>, out| read.write(out),
                    body
                );
            }
            ERROR_RESPONSE => again!(Fields::read, |read: &Fields, out| read.write_error(out), body),
            NOTICE_RESPONSE => again!(Fields::read, |read: &Fields, out| read.write_notice(out), body),
            COPY_IN_RESPONSE | COPY_OUT_RESPONSE | COPY_BOTH_RESPONSE => _ = CopyResponse::read(body),
            DATA_ROW => row(body, frame),
            _ => {}
        }
        rest = after;
    }
}

/// The values of a row that is well formed are all that is in it.
fn row(body: &[u8], frame: &[u8]) {
    let Ok(mut row) = DataRow::read(body) else { return };
    let mut values = Vec::new();
    loop {
        match row.value() {
            Ok(Some(value)) => values.push(value),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let mut out = BytesMut::new();
    write_data_row(&mut out, values.into_iter());
    assert_eq!(out, frame);
}
