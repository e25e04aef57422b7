//! A watch that goes on for ever: what fails is begun again, and where only a new list helps there is a new list.

use futures_util::StreamExt;
use kube::{
    Api,
    core::DynamicObject,
    runtime::watcher::{self, Event, watcher},
};
use std::time::Duration;
use tokio::time::sleep;

/// Waits after failures in a row, in milliseconds; the last goes on. A controller must see again within a second of the
/// API server's return.
const WAITS: [u64; 4] = [50, 200, 500, 800];

/// Tells every event for ever.
pub(super) async fn follow(
    what: &str,
    api: Api<DynamicObject>,
    config: watcher::Config,
    mut tell: impl FnMut(Event<DynamicObject>),
) {
    let mut failures = 0;
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    failures = 0;
                    tell(event);
                }
                Err(e) => {
                    tracing::warn!("the watch of {what} has failed, and is begun again: {e}");
                    sleep(pause(failures)).await;
                    failures += 1;
                    if is_lost(&e) {
                        break;
                    }
                }
            }
        }
    }
}

fn pause(failures: usize) -> Duration {
    Duration::from_millis(WAITS[failures.min(WAITS.len() - 1)])
}

/// Whether a watch can never go on from where it was: the version is forgotten (410), or the server, restored from an
/// older state, has not come to it (504). The stream itself sees this only in a watch that has begun.
fn is_lost(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 410 | 504))
}
