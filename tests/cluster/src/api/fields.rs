//! managedFields.
use super::ask::Ask;
use serde_json::Value;

pub(super) fn updated(_ask: &Ask, _old: Option<&Value>, _new: &mut Value) {}
pub(super) fn timeless(_metadata: &mut Value) {}
