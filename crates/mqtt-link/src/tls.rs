//! The TLS side of a link.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{Authorities, LinkError, Tls};

/// Builds the client's configuration. The provider is named, so that it does not matter whether the process
/// installed a default one.
pub(super) fn configure(tls: &Tls) -> Result<Arc<ClientConfig>, LinkError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match &tls.authorities {
        Authorities::System => builder.with_platform_verifier()?,
        Authorities::File(path) => builder.with_root_certificates(authorities(path)?),
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates("the client certificate", &client.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&client.key)
                .map_err(|error| unreadable("the client key", &client.key, &error))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}

fn authorities(path: &Path) -> Result<RootCertStore, LinkError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("certificate authorities", path)? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let unreadable = |error| unreadable(what, path, &error);
    let sections = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found = sections.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn unreadable(what: &'static str, path: &Path, error: &pem::Error) -> LinkError {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "there is none in PEM format".to_owned(),
        other => other.to_string(),
    };
    LinkError::Pem {
        what,
        path: path.to_owned(),
        why,
    }
}
