//! TLS in front: what must stand together. What the files hold is looked at when they are read.

use super::address;
use contract::{
    Fault,
    file::{ClientAuth, TlsEntry},
};
use std::net::SocketAddr;

/// Where clients connect by TLS, if they can.
pub(super) fn listen(entry: &TlsEntry, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
    if entry.listen.is_empty() {
        if *entry != TlsEntry::default() {
            let remedy = "write for example listen = \"0.0.0.0:8443\" there";
            faults.push(Fault::new(
                "proxy.tls.listen",
                "",
                "is not set, and other keys of [proxy.tls] are",
                remedy,
            ));
        }
        return None;
    }
    if entry.certificates.is_empty() {
        let remedy = "write for example certificates = [{ cert = \"tls.crt\", key = \"tls.key\" }]";
        faults.push(Fault::new(
            "proxy.tls.certificates",
            "",
            "lists no certificate to be shown",
            remedy,
        ));
    }
    for (i, c) in entry.certificates.iter().enumerate() {
        for (half, file) in [("cert", &c.cert), ("key", &c.key)] {
            if file.is_empty() {
                let key = format!("proxy.tls.certificates[{i}].{half}");
                let remedy = "certificate and private key go together, each in a file of its own";
                faults.push(Fault::new(key, "", "names no file", remedy));
            }
        }
    }
    authority(entry, faults);
    address("proxy.tls.listen", &entry.listen, faults)
}

fn authority(entry: &TlsEntry, faults: &mut Vec<Fault>) {
    let (asked, known) = (entry.client_auth != ClientAuth::None, !entry.client_ca.is_empty());
    if asked && !known {
        let remedy = "name a file with the certificates (PEM) of those who sign the clients'";
        faults.push(Fault::new(
            "proxy.tls.clientCa",
            "",
            "is not set, and clients shall be verified",
            remedy,
        ));
    }
    if known && !asked {
        let remedy = "write clientAuth = \"required\" or \"optional\" beside it";
        faults.push(Fault::new(
            "proxy.tls.clientCa",
            &entry.client_ca,
            "is set, and no client is asked",
            remedy,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::file::CertificateEntry;

    fn keys(change: impl FnOnce(&mut TlsEntry)) -> Vec<String> {
        let pair = CertificateEntry {
            cert: "a".into(),
            key: "b".into(),
        };
        let mut entry = TlsEntry {
            listen: "127.0.0.1:0".into(),
            certificates: vec![pair],
            ..TlsEntry::default()
        };
        change(&mut entry);
        let mut faults = Vec::new();
        listen(&entry, &mut faults);
        faults.into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn what_belongs_together_stands_together() {
        assert!(keys(|_| ()).is_empty());
        assert!(keys(|e| *e = TlsEntry::default()).is_empty());
        assert_eq!(keys(|e| e.listen = String::new()), ["proxy.tls.listen"]);
        assert_eq!(keys(|e| e.listen = "x".into()), ["proxy.tls.listen"]);
        assert_eq!(keys(|e| e.certificates.clear()), ["proxy.tls.certificates"]);
        assert_eq!(
            keys(|e| e.certificates[0].key.clear()),
            ["proxy.tls.certificates[0].key"]
        );
        assert_eq!(
            keys(|e| e.client_auth = ClientAuth::Optional),
            ["proxy.tls.clientCa"]
        );
        assert_eq!(keys(|e| e.client_ca = "ca".into()), ["proxy.tls.clientCa"]);
    }
}
