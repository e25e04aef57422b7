//! Authorities, certificates, and peers that speak TLS: rustls' buffered interface, which the proxy does not use.

use crate::world::*;
use proxy::contract::file::ProxyEntry;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Who signs.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn sign(&self, names: &[&str]) -> Pair {
        self.sign_until(names, 2040)
    }

    pub fn sign_until(&self, names: &[&str], year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().to_vec(),
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        roots
    }
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.der.clone())]
    }

    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// As `name.crt` and `name.key` in a folder.
    pub fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.crt")), &self.cert).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let n = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("serin-tls-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A plan with a TLS listener that shows these pairs of a folder; `more` are further keys of `[proxy.tls]`.
pub fn secure(folder: &Folder, pairs: &[&str], more: &str) -> Plan {
    assert_eq!(
        ProxyEntry::default().tls.listen,
        "",
        "TLS is off unless it is asked for"
    );
    let pair = |n: &&str| {
        format!(
            "{{ cert = {:?}, key = {:?} }}",
            folder.path(&format!("{n}.crt")),
            folder.path(&format!("{n}.key"))
        )
    };
    let pairs: Vec<String> = pairs.iter().map(pair).collect();
    let pairs = pairs.join(", ");
    Plan::new().set(&format!(
        "[proxy.tls]\nlisten = \"127.0.0.1:0\"\ncertificates = [{pairs}]\n{more}\n"
    ))
}

/// A client's configuration.
pub struct Client {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub shows: Option<Pair>,
    pub alpn: &'static [&'static str],
}

impl Default for Client {
    fn default() -> Client {
        Client {
            versions: rustls::ALL_VERSIONS,
            shows: None,
            alpn: &[],
        }
    }
}

impl Client {
    /// Trusts whatever it is shown: which certificate that was, the test looks at.
    pub fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let mut config = match &self.shows {
            Some(pair) => builder
                .with_client_auth_cert(pair.chain(), pair.private())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's connection.
pub struct Line {
    pub reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Line {
    /// Connects as asking for a name, over a connection that has said something before.
    pub fn over(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Line> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Line {
            reader: BufReader::with_capacity(64 * 1024, stream),
        })
    }

    pub fn connect(world: &World, config: &Arc<ClientConfig>, name: &str) -> io::Result<Line> {
        Line::over(TcpStream::connect(tls_of(world))?, config, name)
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(text.as_ref())?;
        self.reader.get_mut().flush()
    }

    /// Status, head and body of the next answer.
    pub fn answer(&mut self) -> io::Result<(u16, String, Vec<u8>)> {
        let mut head = String::new();
        loop {
            let before = head.len();
            self.reader.read_line(&mut head)?;
            match &head[before..] {
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                "\r\n" => break,
                _ => {}
            }
        }
        let lower = head.to_ascii_lowercase();
        let mut body = Vec::new();
        if let Some((_, n)) = lower.split_once("content-length: ") {
            body = vec![0; n.split('\r').next().unwrap().parse().unwrap()];
            self.reader.read_exact(&mut body)?;
        } else if lower.contains("transfer-encoding: chunked") {
            self.chunks(&mut body)?;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, head, body))
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let n = usize::from_str_radix(line.trim(), 16).unwrap();
            let at = body.len();
            body.resize(at + n, 0);
            self.reader.read_exact(&mut body[at..])?;
            self.reader.read_exact(&mut [0; 2])?;
            if n == 0 {
                return Ok(());
            }
        }
    }

    pub fn get(&mut self, path: &str) -> io::Result<(u16, String, Vec<u8>)> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))?;
        self.answer()
    }

    pub fn shown(&self) -> Vec<u8> {
        self.reader.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }
}

/// Where clients connect by TLS.
pub fn tls_of(world: &World) -> SocketAddr {
    world.running.addresses().tls.unwrap()
}

/// A backend that speaks TLS, and says who asked: the name that was asked for, and whether a certificate was shown.
pub struct Fortress {
    pub address: SocketAddr,
    pub hits: Arc<AtomicU64>,
    pub config: Arc<Mutex<Arc<ServerConfig>>>,
}

pub fn server(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    Arc::new(builder.with_single_cert(pair.chain(), pair.private()).unwrap())
}

impl Fortress {
    pub fn new(config: Arc<ServerConfig>) -> Fortress {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (hits, config) = (Arc::<AtomicU64>::default(), Arc::new(Mutex::new(config)));
        let (h, c) = (Arc::clone(&hits), Arc::clone(&config));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = ServerConnection::new(Arc::clone(&c.lock().unwrap())).unwrap();
                let hits = Arc::clone(&h);
                thread::spawn(move || serve(StreamOwned::new(session, stream), &hits));
            }
        });
        Fortress {
            address,
            hits,
            config,
        }
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

/// Answers requests without a body, and echoes those with one.
fn serve(stream: StreamOwned<ServerConnection, TcpStream>, hits: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            if line == "\r\n" {
                break;
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap();
            }
        }
        hits.fetch_add(1, Ordering::SeqCst);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let session = &reader.get_ref().conn;
        if length == 0 {
            let name = session.server_name().unwrap_or("-");
            body = format!("{name} {}", session.peer_certificates().is_some()).into_bytes();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        reader.get_mut().write_all(head.as_bytes()).ok()?;
        reader.get_mut().write_all(&body).ok()?;
        reader.get_mut().flush().ok()?;
    }
}
