//! Certificates change under load, as Kubernetes changes them: a folder is swapped by a symbolic link.

use super::town::*;
use crate::world::*;
use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Puts what `write` writes in the place of the mounted files, all at once.
fn swap(folder: &Folder, number: u32, write: impl FnOnce(&Folder)) {
    let fresh = Folder(folder.0.join(format!("..{number}")));
    fs::create_dir_all(&fresh.0).unwrap();
    write(&fresh);
    symlink(&fresh.0, folder.0.join("..next")).unwrap();
    fs::rename(folder.0.join("..next"), folder.0.join("..data")).unwrap();
    // It stays: the link points to it.
    std::mem::forget(fresh);
}

#[test]
fn certificates_change_under_load_without_a_failed_request() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let pairs: Vec<Pair> = (0..3)
        .map(|i| authority.sign_until(&["shop.test"], 2040 + i))
        .collect();
    swap(&folder, 0, |f| pairs[0].write(&f.0, "tls"));
    for half in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{half}"), folder.0.join(half)).unwrap();
    }
    let backend = Backend::named("S");
    let mut plan = secure(&folder, &["tls"], "");
    plan.proxy = plan.proxy.replace("workers = 1", "workers = 2");
    let world = plan.service("echo", &[backend.address], &[], &[]).start();
    let config = Client::default().config();
    let mut kept = Line::connect(&world, &config, "shop.test").unwrap();
    assert!(kept.shown() == pairs[0].der);

    let (ended, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|i| {
            let (ended, asked, at) = (Arc::clone(&ended), Arc::clone(&asked), tls_of(&world));
            // Two that come again and again with a whole handshake, two that resume, each for some requests.
            let config = Client::default().config();
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let config = if i < 2 {
                        Client::default().config()
                    } else {
                        Arc::clone(&config)
                    };
                    let tcp = std::net::TcpStream::connect(at).unwrap();
                    let mut line = Line::over(tcp, &config, "shop.test").unwrap();
                    for _ in 0..20 {
                        assert_eq!(line.get("/").unwrap().0, 200);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let shown = || {
        Line::connect(&world, &Client::default().config(), "shop.test")
            .unwrap()
            .shown()
    };
    let expiry = || world.metric(&["serin_tls_certificate_expiry_seconds", "name=\"shop.test\""]);
    let first = expiry();
    for (i, pair) in pairs.iter().enumerate().skip(1) {
        swap(&folder, i as u32, |f| pair.write(&f.0, "tls"));
        eventually("the new one is shown", || shown() == pair.der);
        assert!(expiry() > first + 31_000_000.0 * i as f64);
    }
    let rejected = || {
        world.metric(&[
            "serin_config_rejected_total",
            "key=\"proxy.tls.certificates[0].key\"",
        ])
    };
    swap(&folder, 3, |f| {
        pairs[0].write(&f.0, "tls");
        fs::write(f.0.join("tls.key"), &pairs[1].key).unwrap();
    });
    eventually("a pair that does not fit is told", || rejected() == 1.0);
    assert!(shown() == pairs[2].der, "the last good one stays in force");
    assert_eq!(
        kept.get("/").unwrap().0,
        200,
        "who came before any change is still served"
    );
    ended.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("no request failed");
    }
    assert!(asked.load(Ordering::Relaxed) > 500, "{asked:?}");
    assert!(world.metric(&["serin_tls_handshakes_total", "resumed=\"true\""]) > 10.0);
    assert_eq!(world.metric(&["serin_failures_total"]), 0.0);
    swap(&folder, 4, |f| pairs[0].write(&f.0, "tls"));
    eventually("a good one is taken after a bad one", || shown() == pairs[0].der);
    // Who trusts others must ask anew: see `remember` in the proxy's front.
    drop(kept);
}
