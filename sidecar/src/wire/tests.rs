//! Properties of the codec: what is written is read again, however it is split; what is cut, too long or garbage is an
//! error, never a panic and never a large allocation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bytes::BytesMut;
use proptest::prelude::*;

use super::backend::*;
use super::frame::{HEADER, MAX_STREAMED};
use super::startup::{self, Packet, Startup};
use super::{Header, Malformed, Reader, frontend};

/// Text without NUL bytes, as the protocol's strings are.
fn text() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,24}"
}

fn peeked(frame: &[u8], peek: impl Fn(&[u8]) -> Result<Option<Header>, Malformed>) -> Result<Header, TestCaseError> {
    // Split anywhere: as long as the header isn't whole there is nothing, and it is the same from then on.
    for end in 0..HEADER.min(frame.len()) {
        prop_assert_eq!(peek(&frame[..end]), Ok(None));
    }
    let header = peek(frame).unwrap().expect("a header");
    for end in HEADER..frame.len() {
        prop_assert_eq!(peek(&frame[..end]), Ok(Some(header)));
        prop_assert_eq!(header.body(&frame[..end]), None);
    }
    prop_assert_eq!(header.frame_len(), frame.len());
    Ok(header)
}

/// A whole frame of the client, its body read back, and the errors for a body that is cut or too long.
macro_rules! round_trip {
    ($frame:expr, $peek:path, $read:expr, $value:expr) => {{
        let frame: &[u8] = $frame;
        let header = peeked(frame, $peek)?;
        let body = header.body(frame).unwrap();
        prop_assert_eq!($read(body), Ok($value));
        for end in 0..body.len() {
            prop_assert!($read(&body[..end]).is_err(), "cut at {}", end);
        }
        let mut longer = body.to_vec();
        longer.push(0);
        prop_assert!($read(&longer).is_err());
    }};
}

proptest! {
    #[test]
    fn parse_is_read_as_written(statement in text(), sql in text(), types in prop::collection::vec(any::<u32>(), 0..5)) {
        let value = frontend::Parse { statement: &statement, sql: &sql, param_types: types };
        let mut out = BytesMut::new();
        value.write(&mut out).unwrap();
        round_trip!(&out, frontend::peek, frontend::Parse::read, value.clone());
    }

    #[test]
    fn bind_is_read_as_written_and_its_head_alone_too(
        portal in text(),
        statement in text(),
        params in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..5),
    ) {
        let params: Vec<Option<&[u8]>> = params.iter().map(Option::as_deref).collect();
        let head = frontend::BindHead { portal: &portal, statement: &statement };
        let mut out = BytesMut::new();
        frontend::write_bind(&mut out, head, &params).unwrap();
        let header = peeked(&out, frontend::peek)?;
        let body = header.body(&out).unwrap();
        let bind = frontend::Bind::read(body).unwrap();
        prop_assert_eq!(bind.head, head);
        prop_assert_eq!(bind.params, params);
        prop_assert_eq!(bind.param_formats.at(3), 0);
        for end in 0..body.len() {
            prop_assert!(frontend::Bind::read(&body[..end]).is_err());
        }

        // The head is known as soon as it is there, and no sooner.
        let head_len = portal.len() + statement.len() + 2;
        for end in 0..=body.len() {
            let read = frontend::BindHead::read(&body[..end], body.len());
            let expected = (end >= head_len).then_some((head, head_len));
            prop_assert_eq!(read, Ok(expected));
        }
        prop_assert!(frontend::BindHead::read(&body[..head_len - 1], head_len - 1).is_err());

        // Another statement's name in its place, and the rest as it came: a Bind again.
        let other = frontend::BindHead { portal: &portal, statement: "another" };
        let mut rewritten = BytesMut::new();
        other.write(body.len() - head_len, &mut rewritten).unwrap();
        rewritten.extend_from_slice(&body[head_len..]);
        let header = peeked(&rewritten, frontend::peek)?;
        prop_assert_eq!(frontend::Bind::read(header.body(&rewritten).unwrap()).unwrap().head, other);
    }

    #[test]
    fn small_messages_are_read_as_written(name in text(), rows in any::<i32>(), portal in any::<bool>()) {
        let kind = if portal { frontend::Kind::Portal } else { frontend::Kind::Statement };
        let name = name.as_str();
        let mut out = BytesMut::new();

        let describe = frontend::Describe { kind, name };
        describe.write(&mut out).unwrap();
        round_trip!(&out.split(), frontend::peek, frontend::Describe::read, describe);
        let close = frontend::Close { kind, name };
        close.write(&mut out).unwrap();
        round_trip!(&out.split(), frontend::peek, frontend::Close::read, close);
        let execute = frontend::Execute { portal: name, max_rows: rows };
        execute.write(&mut out).unwrap();
        round_trip!(&out.split(), frontend::peek, frontend::Execute::read, execute);
        let query = frontend::Query { sql: name };
        query.write(&mut out).unwrap();
        round_trip!(&out.split(), frontend::peek, frontend::Query::read, query);
        let fail = frontend::CopyFail { message: name };
        fail.write(&mut out).unwrap();
        round_trip!(&out.split(), frontend::peek, frontend::CopyFail::read, fail);
        for write in [frontend::write_sync, frontend::write_flush, frontend::write_copy_done, frontend::write_terminate] {
            write(&mut out);
            round_trip!(&out.split(), frontend::peek, frontend::read_empty, ());
        }
    }

    #[test]
    fn the_servers_messages_are_read_as_written(
        name in text(),
        value in text(),
        pid in any::<u32>(),
        key in prop::collection::vec(any::<u8>(), 4..=256),
        types in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let mut out = BytesMut::new();
        let status = ParameterStatus { name: name.as_str().into(), value: value.as_str().into() };
        status.write(&mut out);
        round_trip!(&out.split(), peek, ParameterStatus::read, status.clone());
        let notification = Notification { pid, channel: name.as_str().into(), payload: value.as_str().into() };
        notification.write(&mut out);
        round_trip!(&out.split(), peek, Notification::read, notification.clone());
        let negotiate = NegotiateProtocolVersion { version: 3 << 16 | 2, unknown_options: vec![&name, &value] };
        negotiate.write(&mut out);
        round_trip!(&out.split(), peek, NegotiateProtocolVersion::read, negotiate.clone());
        write_parameter_description(&mut out, &types);
        round_trip!(&out.split(), peek, read_parameter_description, types.clone());
        write_command_complete(&mut out, &name);
        round_trip!(&out.split(), peek, read_command_complete, name.as_str().into());
        let fields = Fields::new("ERROR", "42501", value.as_str()).with(Fields::HINT, name.as_str());
        fields.write_error(&mut out);
        round_trip!(&out.split(), peek, Fields::read, fields.clone());
        for status in [TransactionStatus::Idle, TransactionStatus::InTransaction, TransactionStatus::Failed] {
            status.write(&mut out);
            round_trip!(&out.split(), peek, TransactionStatus::read, status);
        }
        let description: Vec<Field<'_>> = types
            .iter()
            .map(|&oid| Field {
                name: name.as_str().into(),
                table_oid: pid,
                attribute: -1,
                type_oid: oid,
                type_size: -2,
                type_modifier: -1,
                format: 1,
            })
            .collect();
        write_row_description(&mut out, &description);
        round_trip!(&out.split(), peek, read_row_description, description.clone());

        // A key may have any length, so a cut one is only an error below the shortest.
        let data = BackendKeyData { pid, key: &key };
        data.write(&mut out);
        let frame = out.split();
        let header = peeked(&frame, peek)?;
        prop_assert_eq!(BackendKeyData::read(header.body(&frame).unwrap()), Ok(data));
    }

    #[test]
    fn rows_are_read_as_written(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut out = BytesMut::new();
        write_data_row(&mut out, values.iter().map(Option::as_deref));
        let header = peeked(&out, peek)?;
        let body = header.body(&out).unwrap();
        let read = |body: &[u8]| -> Result<Vec<Option<Vec<u8>>>, Malformed> {
            let mut row = DataRow::read(body)?;
            let mut all = Vec::new();
            while let Some(value) = row.value()? {
                all.push(value.map(<[u8]>::to_vec));
            }
            Ok(all)
        };
        prop_assert_eq!(read(body), Ok(values));
        for end in 0..body.len() {
            prop_assert!(read(&body[..end]).is_err());
        }
        prop_assert!(read(&[body, &[0]].concat()).is_err());
    }

    #[test]
    fn start_up_packets_are_read_as_written(
        minor in 0_u32..0x1_0000,
        parameters in prop::collection::vec(("[^\u{0}]{1,12}", text()), 0..6),
        pid in any::<u32>(),
        key in prop::collection::vec(any::<u8>(), 4..=256),
    ) {
        let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let startup = Packet::Startup(Startup { version: 3 << 16 | minor, parameters });
        for packet in [startup, Packet::Ssl, Packet::GssEnc, Packet::Cancel { pid, key: &key }] {
            let mut out = BytesMut::new();
            packet.write(&mut out).unwrap();
            for end in 0..4 {
                prop_assert_eq!(startup::peek(&out[..end]), Ok(None));
            }
            prop_assert_eq!(startup::peek(&out), Ok(Some(out.len())));
            prop_assert_eq!(startup::read(&out), Ok(packet));
            for end in 0..out.len() {
                prop_assert!(startup::read(&out[..end]).is_err());
            }
            out.extend_from_slice(&[0]);
            prop_assert!(startup::read(&out).is_err());
        }
    }

    #[test]
    fn garbage_is_an_error_or_a_message_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        _ = frontend::peek(&bytes);
        _ = peek(&bytes);
        _ = startup::peek(&bytes);
        _ = startup::read(&bytes);
        _ = frontend::Parse::read(&bytes);
        _ = frontend::Bind::read(&bytes);
        _ = frontend::BindHead::read(&bytes, 100);
        _ = frontend::Describe::read(&bytes);
        _ = frontend::Execute::read(&bytes);
        _ = frontend::Query::read(&bytes);
        _ = Authentication::read(&bytes);
        _ = BackendKeyData::read(&bytes);
        _ = ParameterStatus::read(&bytes);
        _ = NegotiateProtocolVersion::read(&bytes);
        _ = CopyResponse::read(&bytes).map(|response| response.formats.iter().count());
        _ = Notification::read(&bytes);
        _ = Fields::read(&bytes);
        _ = read_row_description(&bytes);
        _ = read_parameter_description(&bytes);
        _ = read_command_complete(&bytes);
        if let Ok(mut row) = DataRow::read(&bytes) {
            while let Ok(Some(_)) = row.value() {}
        }
    }

    #[test]
    fn a_length_over_the_cap_is_an_error_before_anything_waits_for_it(tag in any::<u8>(), length in any::<u32>()) {
        let frame = [&[tag], length.to_be_bytes().as_slice()].concat();
        for peeked in [frontend::peek(&frame), peek(&frame)] {
            match peeked {
                Ok(Some(header)) => {
                    prop_assert_eq!(header.body_len + 4, length as usize);
                    prop_assert!(length - 4 <= MAX_STREAMED);
                    let over = b"PQ".contains(&tag) && header.body_len > 16 << 20;
                    prop_assert_eq!(frontend::is_too_long(header), over);
                }
                Ok(None) => prop_assert!(false, "the header is whole"),
                Err(error) => prop_assert!(!error.in_step()),
            }
        }
    }
}

#[test]
fn counts_make_no_room_for_more_than_can_be_there() {
    // 65,535 parameters, columns, formats, and four billion options in a few bytes.
    assert_eq!(frontend::Bind::read(&[0, 0, 0, 0, 0xff, 0xff]), Err(Malformed::Truncated));
    assert_eq!(read_row_description(&[0xff, 0xff]), Err(Malformed::Truncated));
    assert_eq!(Reader::new(&[0xff, 0xff, 0]).formats().err(), Some(Malformed::Truncated));
    assert_eq!(NegotiateProtocolVersion::read(&[0, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]).err(), Some(Malformed::Truncated));
    let many: Vec<u8> = b"Cx\0".repeat(1_000);
    assert!(Fields::read(&many).is_err());
}

#[test]
fn names_of_a_bind_that_go_on_and_on_are_not_waited_for() {
    let long = vec![b'x'; 64 << 10];
    assert_eq!(frontend::BindHead::read(&long[..100], 1 << 30), Ok(None));
    assert_eq!(frontend::BindHead::read(&long, 1 << 30), Err(Malformed::Truncated));
}

#[test]
fn text_with_a_nul_byte_is_not_written_to_the_server_and_cut_for_the_client() {
    let mut out = BytesMut::from("before");
    let query = frontend::Query { sql: "SELECT 1\0; DROP TABLE t" };
    assert_eq!(query.write(&mut out), Err(Malformed::Nul));
    assert_eq!(&out[..], b"before");
    write_command_complete(&mut out, "SELECT 1\0x");
    assert_eq!(&out[6..], b"C\0\0\0\x0dSELECT 1\0");
}

#[test]
fn text_that_is_not_utf8_leaves_the_stream_in_step() {
    assert_eq!(frontend::Query::read(b"SELECT '\xff'\0"), Err(Malformed::NotUtf8));
    assert!(Malformed::NotUtf8.in_step());
    assert_eq!(frontend::Query::read(b"a\0b\0"), Err(Malformed::Trailing));
}

#[test]
fn the_version_is_the_one_asked_for_up_to_the_newest_known() {
    for (version, agreed, negotiate) in
        [(3 << 16, 3 << 16, false), (3 << 16 | 2, 3 << 16 | 2, false), (3 << 16 | 3, 3 << 16 | 2, true)]
    {
        let startup = Startup { version, parameters: Vec::new() };
        assert_eq!((startup.agreed_version(), startup.needs_negotiation()), (agreed, negotiate));
    }
    let options = Startup { version: 3 << 16, parameters: vec![("user", "x"), ("_pq_.new", "1")] };
    assert!(options.needs_negotiation());
    assert_eq!(options.protocol_options().collect::<Vec<_>>(), ["_pq_.new"]);
    assert!(matches!(startup::read(&[0, 0, 0, 8, 0, 2, 0, 0]), Err(Malformed::Version(_))));
}
