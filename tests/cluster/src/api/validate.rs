//! Checks.
use super::ask::Ask;
use super::failure::Failure;
use serde_json::Value;

pub(super) fn check(_ask: &Ask, _old: Option<&Value>, _new: &mut Value) -> Result<(), Failure> {
    Ok(())
}
