//! Strategic merge patch.
use super::failure::Failure;
use serde_json::Value;

pub(super) fn merge(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    super::merge::merge(target, patch);
    Ok(())
}
