//! What encrypts. Two providers of cryptography are linked, ring by sqlx and aws-lc by the rest, and
//! rustls then takes none by itself: checking a certificate against an authority of one's own
//! (`sslmode=verify-ca`) would panic.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Names one for the whole process, unless the host application has.
pub(crate) fn install() {
    if CryptoProvider::get_default().is_none() {
        // Somebody else may be faster, and is as good.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
