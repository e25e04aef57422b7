//! Where evidence comes from.

pub(crate) mod scrape;
