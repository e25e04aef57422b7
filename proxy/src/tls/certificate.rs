//! Certificates and keys from PEM, and what is to be known of them.

use super::files::Contents;
use contract::Fault;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// A certificate with its key, and what is told of it.
#[derive(Debug)]
pub struct Shown {
    /// Its file, as it was given.
    pub file: String,
    /// The names in it, in lower case.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub expiry: Option<i64>,
    /// What is shown in handshakes.
    pub pair: CertifiedKey,
}

/// Where the two files of a pair are named: key and value of both.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Where they are named, without `.cert` and `.key`.
    pub key: &'a str,
    /// The certificate's file.
    pub cert: &'a str,
    /// The private key's file.
    pub private: &'a str,
}

impl Shown {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// What is wrong with either, or that they do not belong together. Never with their contents.
    pub fn read(contents: &Contents, at: Pair<'_>) -> Result<Shown, Fault> {
        let (cert_key, private_key) = (format!("{}.cert", at.key), format!("{}.key", at.key));
        let chain = chain(contents, &cert_key, at.cert)?;
        let private = PrivateKeyDer::from_pem_slice(contents.of(&private_key, at.private)?).map_err(|e| {
            let remedy = "write the private key in PEM, without a password";
            Fault::new(
                &private_key,
                at.private,
                format!("holds no private key ({e})"),
                remedy,
            )
        })?;
        let end = chain.first().map(|c| c.to_vec()).unwrap_or_default();
        let pair = CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|e| {
            let reason = format!("does not belong to {} ({e})", at.cert);
            let remedy = "give the private key that the certificate was made for, of RSA, ECDSA or Ed25519";
            Fault::new(&private_key, at.private, reason, remedy)
        })?;
        Ok(Shown {
            file: at.cert.to_owned(),
            names: names(&end),
            expiry: expiry(&end),
            pair,
        })
    }
}

fn chain(contents: &Contents, key: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let remedy = "write certificates in PEM, the own one first";
    let read = CertificateDer::pem_slice_iter(contents.of(key, file)?).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(chain) if chain.is_empty() => Err(Fault::new(key, file, "holds no certificate", remedy)),
        Ok(chain) => Ok(chain),
        Err(e) => Err(Fault::new(
            key,
            file,
            format!("holds no certificate ({e})"),
            remedy,
        )),
    }
}

/// Who may have signed the certificates of the others.
///
/// # Errors
/// That it cannot be read, or that a certificate in it cannot sign.
pub fn roots(contents: &Contents, key: &str, file: &str) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(contents, key, file)? {
        roots.add(certificate).map_err(|e| {
            let remedy = "leave out what is no certificate of an authority";
            Fault::new(
                key,
                file,
                format!("holds a certificate that cannot be trusted ({e})"),
                remedy,
            )
        })?;
    }
    Ok(roots)
}

/// The DNS names in a certificate; one of a form that is not known here has none.
fn names(der: &[u8]) -> Vec<String> {
    let der = CertificateDer::from(der);
    let read = webpki::EndEntityCert::try_from(&der);
    read.map(|c| c.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// When a certificate ends. RFC 5280, 4.1: `notAfter` is the second time of the validity, which stands behind version,
/// serial number, algorithm and issuer.
pub fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, end) = element(validity)?;
    let (tag, text, _) = element(end)?;
    seconds(tag, text)
}

/// One element of DER (X.690, 8.1): its tag, its content, and what comes behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |n, d| n << 8 | usize::from(*d));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` (tag 23, years 1950 to 2049) or `YYYYMMDDhhmmssZ` (tag 24) as seconds since 1970.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let digits: Vec<i64> = text
        .strip_suffix(b"Z")?
        .iter()
        .map(|d| d.is_ascii_digit().then(|| i64::from(d - b'0')))
        .collect::<Option<_>>()?;
    let (year, rest) = digits.split_at_checked(if tag == 24 { 4 } else { 2 })?;
    let year = year.iter().fold(0, |n, d| n * 10 + d);
    let year = match (tag, year) {
        (24, year) => year,
        (23, year @ 50..) => 1900 + year,
        (23, year) => 2000 + year,
        _ => return None,
    };
    let pairs: Vec<i64> = rest
        .chunks_exact(2)
        .map(|p| p.iter().fold(0, |n, d| n * 10 + d))
        .collect();
    let [month @ 1..=12, day, hour, minute, second] = pairs[..] else {
        return None;
    };
    Some((days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar, in eras of 400 years that begin on March 1st (H. Hinnant,
/// "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        for (year, month, day, expected) in [
            (2030, 1, 1, 1_893_456_000),
            (2049, 12, 31, 2_524_521_600 + 86_400 - 86_400),
            (2050, 1, 1, 2_524_608_000),
            (2400, 2, 29, 13_574_563_200),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["*.Example.org".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            assert_eq!(expiry(made.der()), Some(expected), "{year}");
            assert_eq!(names(made.der()), ["*.example.org"]);
        }
    }

    proptest! {
        #[test]
        fn nonsense_has_no_end_and_no_names(mut octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = expiry(&octets);
            // What looks like a certificate longer.
            octets.splice(0..0, [0x30, 0x81, 0xff, 0x30, 0x80]);
            let _ = (expiry(&octets), names(&octets));
        }
    }
}
