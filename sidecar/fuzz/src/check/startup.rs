//! The packets before the first message. What is read, written again, is what was read.

use bytes::BytesMut;
use postern_sidecar::wire::startup::{self, LATEST, MAX_STARTUP, Packet};

/// Checks a stream of bytes.
pub fn check(stream: &[u8]) {
    let mut rest = stream;
    while let Ok(Some(length)) = startup::peek(rest) {
        assert!(length <= MAX_STARTUP as usize);
        let Some((packet, after)) = rest.split_at_checked(length) else { break };
        if let Ok(read) = startup::read(packet) {
            let mut out = BytesMut::new();
            assert_eq!(read.write(&mut out), Ok(()));
            assert_eq!(out, packet);
            if let Packet::Startup(startup) = &read {
                assert_eq!(startup.agreed_version() >> 16, 3);
                assert!(startup.agreed_version() <= LATEST);
                let named = startup.parameters.iter().all(|(name, _)| startup.parameter(name).is_some());
                assert!(named);
            }
            for end in 0..packet.len() {
                assert!(startup::read(&packet[..end]).is_err());
            }
        }
        rest = after;
    }
}
