//! Sees that the file has changed: by the kernel's word at once, by a look each second in any case.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{path::Path, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{sleep, timeout},
};

/// A write comes as several events; this much later it is over, as a rule.
const DEBOUNCE: Duration = Duration::from_millis(3);
/// Where the kernel says nothing (network file systems), a look so often must do.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for changes of one file.
#[derive(Debug)]
pub struct Watch {
    events: UnboundedReceiver<()>,
    /// Keeps both halves alive: the watcher its thread, the sender its channel.
    _watcher: Option<RecommendedWatcher>,
    _sender: UnboundedSender<()>,
}

impl Watch {
    /// Watches the folder of `path`: editors and `ConfigMaps` replace files instead of writing them.
    pub fn new(path: &Path) -> Watch {
        let (sender, events) = unbounded_channel();
        Watch {
            events,
            _watcher: watcher(path, sender.clone()),
            _sender: sender,
        }
    }

    /// Returns when the file may have changed.
    pub async fn changed(&mut self) {
        if timeout(LOOK, self.events.recv()).await.is_ok() {
            sleep(DEBOUNCE).await;
            while self.events.try_recv().is_ok() {}
        }
    }
}

fn watcher(path: &Path, sender: UnboundedSender<()>) -> Option<RecommendedWatcher> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes events too.
        if event.is_ok_and(|e| !e.kind.is_access()) {
            let _ = sender.send(());
        }
    });
    let watched = made.and_then(|mut w| w.watch(folder, RecursiveMode::NonRecursive).map(|()| w));
    watched
        .map_err(|e| tracing::warn!("{}: {e}; changes are seen once a second only", folder.display()))
        .ok()
}
