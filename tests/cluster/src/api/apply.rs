//! Server-side apply.
use super::ask::Ask;
use super::failure::Failure;
use super::merge;
use super::store::Store;
use super::write::{Written, created, revised};

pub(super) fn apply(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    let patch = ask.json()?;
    let Some(old) = store.get(&ask.kind.shelf(), &ask.key()?) else {
        return created(store, ask, patch);
    };
    let mut new = (*old).clone();
    merge::merge(&mut new, &patch);
    revised(store, ask, &old, new)
}
