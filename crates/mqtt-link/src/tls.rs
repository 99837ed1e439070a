//! TLS options of a link.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::LinkError;

/// Trusted certificate authorities and client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities that may sign the broker's certificate.
    pub authorities: Authorities,
    /// For brokers that require a client certificate.
    pub client: Option<ClientCertificate>,
}

/// The trusted certificate authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
}

impl Tls {
    /// Builds the configuration of the client. Sets the crypto provider explicitly, so that the process needs no
    /// default one.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, LinkError> {
        let builder = match &self.authorities {
            Authorities::System => builder()?.with_platform_verifier()?,
            Authorities::File(path) => builder()?.with_root_certificates(root_store(path)?),
        };
        self.with_client(builder).map(Arc::new)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or the key is not that of the certificate.
    pub fn check(&self) -> Result<(), LinkError> {
        let roots = match &self.authorities {
            Authorities::System => RootCertStore::empty(),
            Authorities::File(path) => root_store(path)?,
        };
        self.with_client(builder()?.with_root_certificates(roots))?;
        Ok(())
    }

    fn with_client(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<ClientConfig, LinkError> {
        let Some(client) = &self.client else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("the client certificate", &client.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&client.key)
            .map_err(|error| unreadable("the client key", &client.key, &error))?;
        Ok(builder.with_client_auth_cert(chain, key)?)
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, LinkError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

fn root_store(path: &Path) -> Result<RootCertStore, LinkError> {
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
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "no PEM section found".to_owned(),
        other => other.to_string(),
    };
    LinkError::Pem {
        what,
        path: path.to_owned(),
        reason,
    }
}
