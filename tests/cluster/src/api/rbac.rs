//! Rights.
use super::ask::Ask;
use super::failure::Failure;
use super::store::Store;
use serde_json::{Value, json};

pub(super) fn allowed(_store: &Store, _ask: &Ask) -> Result<(), Failure> {
    Ok(())
}

pub(super) fn review(_store: &Store, ask: &Ask) -> Result<Value, Failure> {
    let mut review = ask.json()?;
    review["status"] =
        json!({"userInfo": {"username": ask.user.name, "groups": ask.user.groups}, "allowed": true});
    Ok(review)
}
