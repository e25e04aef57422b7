//! The objects of one watch, as they are now. Pure.

use kube::{Resource, ResourceExt, runtime::watcher::Event};
use std::collections::BTreeMap;

/// Objects by name. A list that begins anew replaces them only when it is whole.
#[derive(Debug)]
pub struct Store<K> {
    objects: BTreeMap<String, K>,
    fresh: BTreeMap<String, K>,
    whole: bool,
}

impl<K> Default for Store<K> {
    fn default() -> Store<K> {
        Store {
            objects: BTreeMap::new(),
            fresh: BTreeMap::new(),
            whole: false,
        }
    }
}

impl<K: Resource> Store<K> {
    /// Takes an event. True when the objects may have changed.
    pub fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(object) => {
                self.fresh.insert(object.name_any(), object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.fresh);
                self.whole = true;
                return true;
            }
            Event::Apply(object) => {
                self.objects.insert(object.name_any(), object);
                return true;
            }
            Event::Delete(object) => return self.objects.remove(&object.name_any()).is_some(),
        }
        false
    }

    /// Whether all objects have been listed once.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    /// The object of a watch that selects one.
    pub fn only(&self) -> Option<&K> {
        self.objects.values().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;

    fn service(name: &str) -> Service {
        let mut service = Service::default();
        service.metadata.name = Some(name.to_owned());
        service
    }

    #[test]
    fn a_new_list_replaces_the_old_one_only_when_it_is_whole() {
        let mut store = Store::default();
        assert!(!store.take(Event::Init) && !store.take(Event::InitApply(service("a"))));
        assert!(!store.is_whole() && store.only().is_none());
        assert!(store.take(Event::InitDone) && store.is_whole());
        assert!(!store.take(Event::Init));
        assert_eq!(store.only().map(ResourceExt::name_any).as_deref(), Some("a"));
        assert!(store.take(Event::InitDone) && store.only().is_none());
        assert!(store.take(Event::Apply(service("b"))));
        assert!(store.take(Event::Delete(service("b"))) && !store.take(Event::Delete(service("b"))));
    }
}
