//! A certificate that can change while it is served.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate in use; nobody is served before there is one.
#[derive(Debug, Default)]
pub struct CurrentCertificate(ArcSwapOption<CertifiedKey>);

impl CurrentCertificate {
    /// Uses another one from the next handshake on.
    pub fn set(&self, certificate: CertifiedKey) {
        self.0.store(Some(Arc::new(certificate)));
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
